//! One runner's allocation at one relay: asked for, kept, and asked for again when it is lost, with the timers of
//! `mesh-node/relay/src/allocation.rs`.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use super::{Answer, Numbered, Request};
use crate::rng::Rng;

/// When an unanswered request goes again, doubled each time, and how often it is sent.
const WAIT: Duration = Duration::from_millis(500);
const TRIES: u32 = 3;

/// How long data may go unanswered until the relay is asked, and how long after that it isn't asked again.
const DOUBT: Duration = Duration::from_millis(1500);
const CALM: Duration = Duration::from_secs(10);

/// How often a silent relay is asked.
const SILENT: Duration = Duration::from_secs(4);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing was asked for.
    Away,
    /// Requests lead to an allocation.
    Asking,
    Standing,
    /// The relay doesn't answer.
    Silent,
}

#[derive(Debug)]
struct Pending {
    request: Numbered<Request>,
    sent: Duration,
    tries: u32,
}

/// A change of the allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Allocated { relayed: SocketAddr, seen: Option<SocketAddr> },
    Lost,
}

#[derive(Debug)]
pub(crate) struct Client {
    phase: Phase,
    pending: Option<Pending>,
    serial: u32,
    /// The number of its connection, over TCP.
    pub(crate) connection: u32,
    lease: Option<(SocketAddr, Option<SocketAddr>)>,
    /// When anything was sent last, and how much silence is allowed after that.
    sent: Duration,
    silence: Duration,
    /// When data was sent that nothing was heard after, and when the relay was last asked because of that.
    asked: Option<Duration>,
    doubted: Option<Duration>,
    /// What has to be sent.
    pub(crate) out: VecDeque<Numbered<Request>>,
    rng: Rng,
}

impl Client {
    /// Begins to ask.
    pub(crate) fn new(seed: u64, now: Duration) -> Self {
        let mut client = Self {
            phase: Phase::Asking,
            pending: None,
            serial: 0,
            connection: 0,
            lease: None,
            sent: now,
            silence: Duration::ZERO,
            asked: None,
            doubted: None,
            out: VecDeque::new(),
            rng: Rng::new(seed),
        };
        client.begin(Request::Challenge, now);
        client
    }

    /// Of a relay that the runner isn't at.
    pub(crate) fn away(seed: u64, now: Duration) -> Self {
        let mut client = Self::new(seed, now);
        client.out.clear();
        Self { phase: Phase::Away, pending: None, ..client }
    }

    /// Whether nothing was asked for.
    pub(crate) const fn is_away(&self) -> bool {
        matches!(self.phase, Phase::Away)
    }

    /// Begins to ask, if nothing was asked for. Returns whether that is so.
    pub(crate) fn visit(&mut self, now: Duration) -> bool {
        let is_away = self.is_away();
        if is_away {
            self.phase = Phase::Asking;
            self.begin(Request::Challenge, now);
        }
        is_away
    }

    /// Its address at the relay, if datagrams pass.
    pub(crate) fn relayed(&self) -> Option<SocketAddr> {
        self.lease.map(|lease| lease.0).filter(|_| self.phase == Phase::Standing)
    }

    /// Its own address as the relay sees it, if that is known.
    pub(crate) fn seen(&self) -> Option<SocketAddr> {
        self.lease.and_then(|lease| lease.1).filter(|_| self.phase == Phase::Standing)
    }

    /// Sends a datagram to an allocation.
    pub(crate) fn send(&mut self, to: SocketAddr, bytes: Vec<u8>, now: Duration) {
        if self.relayed().is_some() {
            self.asked.get_or_insert(now);
            self.put(Numbered { serial: 0, what: Request::Data { to, bytes } }, now);
        }
    }

    /// When [`Self::time_out`] has to be called.
    pub(crate) fn due(&self) -> Duration {
        if self.is_away() {
            return Duration::MAX;
        }
        let again = self.pending.as_ref().map(|pending| pending.sent + WAIT * (1 << (pending.tries - 1)));
        let standing = self.phase == Phase::Standing && self.pending.is_none();
        let doubt = self.asked.map(|asked| (asked + DOUBT).max(self.doubted.map_or(asked, |at| at + CALM)));
        let other = if standing { self.sent + self.silence } else { self.sent + SILENT };
        again.unwrap_or(other).min(doubt.filter(|_| standing).unwrap_or(Duration::MAX))
    }

    /// Something is due.
    pub(crate) fn time_out(&mut self, now: Duration) -> Option<Change> {
        if self.due() > now {
            return None;
        }
        match &mut self.pending {
            None => {
                let doubts = self.phase == Phase::Standing && self.sent + self.silence > now;
                self.doubted = if doubts { Some(now) } else { self.doubted };
                self.begin(if self.lease.is_some() { Request::Refresh } else { Request::Challenge }, now);
                None
            }
            Some(pending) if pending.tries < TRIES => {
                (pending.tries, pending.sent) = (pending.tries + 1, now);
                let again = pending.request.clone();
                self.put(again, now);
                None
            }
            Some(_) => {
                self.pending = None;
                let was = std::mem::replace(&mut self.phase, Phase::Silent);
                (was == Phase::Standing).then_some(Change::Lost)
            }
        }
    }

    /// Handles an answer that isn't data. (Data shows that the relay is there: [`Self::heard`].)
    pub(crate) fn handle(&mut self, answer: &Numbered<Answer>, now: Duration) -> Option<Change> {
        if answer.what == Answer::Closed {
            return self.lose(now);
        }
        self.pending.take_if(|pending| pending.request.serial == answer.serial)?;
        self.heard();
        match answer.what {
            Answer::Challenged => self.begin(Request::Allocate, now),
            Answer::Allocated { relayed, seen } => {
                self.lease = Some((relayed, seen));
                self.begin(Request::Permit, now);
            }
            Answer::Permitted | Answer::Refreshed => {
                let was = std::mem::replace(&mut self.phase, Phase::Standing);
                let (relayed, seen) = self.lease?;
                return (was != Phase::Standing).then_some(Change::Allocated { relayed, seen });
            }
            Answer::Mismatch => return self.lose(now),
            Answer::Closed | Answer::Data { .. } => {}
        }
        None
    }

    /// Something has come from the relay.
    pub(crate) const fn heard(&mut self) {
        self.asked = None;
    }

    /// The allocation is gone: it asks for another one.
    pub(crate) fn lose(&mut self, now: Duration) -> Option<Change> {
        self.connection += 1;
        self.lease = None;
        let was = std::mem::replace(&mut self.phase, Phase::Asking);
        self.begin(Request::Challenge, now);
        (was == Phase::Standing).then_some(Change::Lost)
    }

    fn begin(&mut self, what: Request, now: Duration) {
        self.serial += 1;
        let request = Numbered { serial: self.serial, what };
        self.pending = Some(Pending { request: request.clone(), sent: now, tries: 1 });
        self.put(request, now);
    }

    fn put(&mut self, request: Numbered<Request>, now: Duration) {
        self.sent = now;
        self.silence = Duration::from_millis(20_000 + self.rng.below(5000));
        self.out.push_back(request);
    }
}
