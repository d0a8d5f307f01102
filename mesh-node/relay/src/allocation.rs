//! One address at one relay: asked for, kept, and asked for again when it is lost.
//!
//! | the phase | what is going on | it ends by |
//! |---|---|---|
//! | `Waiting` | nothing, until a time | that time: `Asking` |
//! | `Asking` | Allocate; after a 437 Refresh with lifetime 0, since the relay still has what an earlier process asked for | an answer: `Admitting`, or `Waiting` |
//! | `Admitting` | CreatePermission for the relay's own address | an answer: `Standing` |
//! | `Standing` | Refresh after silence, and when data goes unanswered | no answer: `Silent`; 437: `Asking` |
//! | `Silent` | Refresh every four seconds: the relay or the way to it may come back, with the allocation or without | an answer: `Standing` or `Asking`; its end: `Asking` |
//!
//! A Refresh is the keepalive, since its answer says more than that of a Binding: a relay that was restarted, and one that
//! sees another address of ours since our NAT has forgotten us, both answer 437.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{
    Login, Transport,
    auth::Auth,
    channels::Channels,
    dropped::Dropped,
    request::{Requests, WAIT},
    rng::Rng,
};

mod answers;
mod requests;

use self::requests::Purpose;

/// The lifetime that is asked for: of what a killed agent leaves behind, and between two signs of life at the most.
const LIFE: u32 = 600;

/// How long before its end the allocation is renewed.
const EARLY: Duration = Duration::from_secs(60);

/// How often the permission is renewed, which lives for 300 s (RFC 8656 §9).
const PERMISSION: Duration = Duration::from_secs(240);

/// After this long without anything sent, the relay gets a sign of life, at random within these bounds: NATs forget UDP
/// after 30 s.
const SILENCE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(25));

/// How long data may go unanswered until the relay is asked whether the allocation is still there, and how long after that
/// it is not asked again for the same reason.
const DOUBT: Duration = Duration::from_millis(1500);
const CALM: Duration = Duration::from_secs(10);

/// How long after a refusal the relay is asked again.
const REFUSED: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(45));

/// How long after the end of an earlier process's allocation another is asked for: coturn forgets it a second later, and a
/// question before that begins that second anew.
const RELEASED: Duration = Duration::from_millis(1500);

/// How often unused channels are looked for.
const SWEEP: Duration = Duration::from_secs(15);

/// The most answers in a row that ask for other credentials.
const CHALLENGES: u8 = 4;

/// A change of an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Datagrams pass.
    Allocated {
        /// The address at the relay, at which peers reach this runner.
        relayed: SocketAddr,
        /// The address of this runner that the relay sees.
        reflexive: Option<SocketAddr>,
    },
    /// No datagrams pass any more. The client goes on asking.
    Lost,
    /// The relay doesn't answer. Told once, until it has answered.
    Unanswered,
    /// The relay refuses, with this error code (RFC 8656 §19, RFC 8489 §14.8). The client asks again later.
    Refused(u16),
}

/// How an allocation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It was asked for, and no answer has come yet.
    Asking,
    /// It is there.
    Allocated(SocketAddr),
    /// The relay doesn't answer, or no longer does.
    Unanswered,
    /// The relay has refused with this error code.
    Refused(u16),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting { until: Instant },
    Asking,
    Admitting,
    Standing,
    Silent { again: Instant },
}

/// What the relay gave.
#[derive(Debug, Clone, Copy)]
struct Lease {
    relayed: SocketAddr,
    ends: Instant,
    /// When the permission has to be renewed.
    permission: Instant,
}

/// One address at one relay.
#[derive(Debug)]
pub struct Allocation {
    transport: Transport,
    auth: Auth,
    /// The login that an earlier process may have used, and the next allocation's.
    earlier: Option<Login>,
    next_login: Option<Login>,
    phase: Phase,
    lease: Option<Lease>,
    reflexive: Option<SocketAddr>,
    rtt: Option<Duration>,
    /// The family that is asked for, since the relay lacks IPv4.
    v6: bool,
    refused: Option<u16>,
    unanswered: bool,
    challenges: u8,
    requests: Requests<Purpose>,
    pub(crate) channels: Channels,
    sweep: Instant,
    /// When anything was sent last, and how much silence is allowed after that.
    pub(crate) sent: Instant,
    silence: Duration,
    /// When data was sent that nothing was heard after.
    pub(crate) asked: Option<Instant>,
    /// When the relay was last asked because of that.
    doubted: Option<Instant>,
    pub(crate) dropped: Dropped,
    rng: Rng,
    out: VecDeque<Vec<u8>>,
    events: VecDeque<Event>,
}

impl Allocation {
    /// An allocation that is asked for at once. `earlier` is the login by which an earlier process may have asked for one
    /// from the same address, if it was another; `seed` keeps many clients out of step.
    #[must_use]
    pub fn new(transport: Transport, login: Login, earlier: Option<Login>, seed: u64, now: Instant) -> Self {
        let mut rng = Rng::new(seed);
        let silence = rng.between(SILENCE.0, SILENCE.1);
        Self {
            transport,
            auth: Auth::new(login),
            earlier,
            next_login: None,
            phase: Phase::Waiting { until: now },
            lease: None,
            reflexive: None,
            rtt: None,
            v6: false,
            refused: None,
            unanswered: false,
            challenges: 0,
            requests: Requests::new(transport),
            channels: Channels::default(),
            sweep: now + SWEEP,
            sent: now,
            silence,
            asked: None,
            doubted: None,
            dropped: Dropped::default(),
            rng,
            out: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Takes a login that is used from the next allocation on. The one that stands goes on with its own, also after that
    /// has expired (coturn and our relay look at the time only when an allocation is made).
    pub fn set_login(&mut self, login: Login, now: Instant) {
        if *self.auth.login() != login {
            self.next_login = Some(login);
            if self.refused.is_some() && matches!(self.phase, Phase::Waiting { .. }) {
                self.phase = Phase::Waiting { until: now };
            }
        }
    }

    /// What carries its messages.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match (self.phase, self.lease) {
            (Phase::Standing, Some(lease)) => Standing::Allocated(lease.relayed),
            (Phase::Silent { .. }, _) => Standing::Unanswered,
            _ if self.unanswered => Standing::Unanswered,
            _ => self.refused.map_or(Standing::Asking, Standing::Refused),
        }
    }

    /// The address at the relay, while it stands.
    #[must_use]
    pub fn relayed(&self) -> Option<SocketAddr> {
        self.lease.filter(|_| matches!(self.phase, Phase::Standing)).map(|lease| lease.relayed)
    }

    /// The address of this runner that the relay has seen last.
    #[must_use]
    pub fn reflexive(&self) -> Option<SocketAddr> {
        self.reflexive
    }

    /// The round trip of the latest request that was answered at its first try.
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// Ends the allocation at the relay, by a message that [`Allocation::poll_transmit`] returns. Nothing waits for the
    /// answer: without one the relay forgets the allocation at the end of its lifetime.
    pub fn release(&mut self, now: Instant) {
        if self.lease.take().is_some() {
            self.request(Purpose::Release, now);
            self.requests.clear();
        }
    }

    /// A message to be sent to the relay, as it is.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front()
    }

    /// What has changed.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The datagrams that were dropped since the last call.
    pub fn take_dropped(&mut self) -> Dropped {
        std::mem::take(&mut self.dropped)
    }

    /// When [`Allocation::handle_timeout`] has to be called next, at the latest.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let own = match (self.phase, self.lease) {
            (Phase::Waiting { until }, _) => Some(until),
            (Phase::Silent { again }, _) => Some(again),
            (Phase::Standing, Some(lease)) => {
                let refresh = self.refresh_at(lease);
                let sweep = if self.channels.is_empty() { refresh } else { self.sweep };
                Some(refresh.min(lease.permission).min(sweep))
            }
            _ => None,
        };
        [own, self.requests.next_timeout()].into_iter().flatten().min()
    }

    /// When a Refresh is due. None is, while one is on its way.
    fn refresh_at(&self, lease: Lease) -> Instant {
        let due = (self.sent + self.silence).min(lease.ends - EARLY);
        let calm = self.doubted.map(|at| at + CALM);
        let doubt = self.asked.map(|at| calm.map_or(at + DOUBT, |calm| calm.max(at + DOUBT)));
        if self.requests.is_open(|p| p == Purpose::Refresh) { lease.ends } else { doubt.map_or(due, |at| at.min(due)) }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let out = &mut self.out;
        if let Some(purpose) = self.requests.handle_timeout(now, |bytes| out.push_back(bytes.to_vec())) {
            self.fail(purpose, now);
            return self.handle_timeout(now);
        }
        match (self.phase, self.lease) {
            (Phase::Waiting { until }, _) if until <= now => self.ask(now),
            (Phase::Silent { .. }, Some(lease)) if lease.ends <= now => self.ask(now),
            (Phase::Silent { again }, Some(_)) if again <= now => {
                self.phase = Phase::Silent { again: now + WAIT * 8 };
                if !self.requests.is_open(|p| p == Purpose::Refresh) {
                    self.request(Purpose::Refresh, now);
                }
            }
            (Phase::Standing, Some(lease)) => self.keep(lease, now),
            _ => {}
        }
    }

    /// Keeps a standing allocation.
    fn keep(&mut self, lease: Lease, now: Instant) {
        if lease.ends <= now {
            return self.lose(now);
        }
        if self.refresh_at(lease) <= now {
            if self.asked.is_some_and(|at| at + DOUBT <= now) {
                self.doubted = Some(now);
            }
            self.silence = self.rng.between(SILENCE.0, SILENCE.1);
            self.request(Purpose::Refresh, now);
        }
        if lease.permission <= now {
            self.lease = Some(Lease { permission: now + PERMISSION, ..lease });
            self.request(Purpose::Permit, now);
        }
        if self.sweep <= now {
            self.sweep = now + SWEEP;
            while let Some((ix, _)) = self.channels.sweep(now) {
                self.request(Purpose::Bind(ix), now);
            }
            self.bind_wanted(now);
        }
    }

    /// Asks for an allocation.
    fn ask(&mut self, now: Instant) {
        self.requests.clear();
        self.lease = None;
        self.challenges = 0;
        if let Some(login) = self.next_login.take() {
            self.earlier = Some(self.auth.login().clone());
            self.auth.replace(login);
        }
        self.phase = Phase::Asking;
        self.request(Purpose::Allocate, now);
    }

    /// The relay no longer knows the allocation, or its time is over.
    fn lose(&mut self, now: Instant) {
        if self.phase == Phase::Standing {
            self.events.push_back(Event::Lost);
        }
        self.channels.unbind(now);
        self.asked = None;
        self.ask(now);
    }

    /// A request has had no answer.
    fn fail(&mut self, purpose: Purpose, now: Instant) {
        match (purpose, self.phase) {
            (Purpose::Bind(ix), _) => self.channels.failed(ix, now),
            (Purpose::Refresh, Phase::Standing) => {
                self.events.push_back(Event::Lost);
                self.phase = Phase::Silent { again: now + WAIT };
            }
            (Purpose::Refresh | Purpose::Permit, _) => {}
            (Purpose::Allocate | Purpose::Release | Purpose::ReleaseEarlier | Purpose::Admit, _) => {
                if !std::mem::replace(&mut self.unanswered, true) {
                    self.events.push_back(Event::Unanswered);
                }
                self.requests.clear();
                self.phase = Phase::Waiting { until: now + self.rng.between(WAIT / 2, WAIT) };
            }
        }
    }
}
