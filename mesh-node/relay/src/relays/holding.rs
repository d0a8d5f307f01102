//! What a runner has at a relay that it wants to be at: an allocation by datagrams where these get through, else by a
//! connection (TCP, TLS).
//!
//! Datagrams are tried first. Is there no answer in 250 ms, the owner is asked for a connection as well, and the first of
//! the two allocations is used. As long as that is the connection's, the relay is looked at by datagrams every minute; where
//! it answers, an allocation by datagrams takes over. It is not asked for earlier, since a relay may keep one allocation a
//! runner, the newest.

use std::time::{Duration, Instant};

use crate::{Allocation, Event, Look, Run, Seen, Standing, Transport};

use super::config::Config;

/// How long datagrams are waited for before a connection is tried as well (RFC 8305 §5).
const PATIENCE: Duration = Duration::from_millis(250);
/// How long after a connection that failed the next one is tried: doubled up to the second.
const AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// How often it is looked whether datagrams get through again.
const LOOK: Duration = Duration::from_secs(60);

/// What the owner of connections has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// To connect to the relay, and to tell when that is done or has failed.
    Connect,
    /// To close the connection, or to give up making it.
    Close,
}

/// What is had at one relay.
#[derive(Debug)]
pub(super) struct Holding {
    /// The allocation that peers' datagrams go by.
    used: Allocation,
    other: Other,
    /// How long is waited after the next failure of a connection.
    wait: Duration,
    wishes: Vec<Wish>,
    seed: u64,
}

/// The attempt at the other way.
#[derive(Debug)]
enum Other {
    /// Datagrams are used, or the relay takes no connections.
    None,
    /// A connection is tried at this time.
    Later(Instant),
    Connecting,
    Stream(Box<Allocation>),
    /// A connection is used: datagrams are tried at this time.
    LookAt(Instant),
    Looking(Look),
    Datagrams(Box<Allocation>),
}

/// What has changed of a holding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// Anything.
    pub(super) any: bool,
    /// The relay can't be used as before.
    pub(super) worse: bool,
    /// Datagrams have no answer: another address may.
    pub(super) unanswered: bool,
}

impl Holding {
    pub(super) fn new(config: &Config, seed: u64, now: Instant) -> Self {
        let (login, earlier) = (config.login.clone(), config.earlier.clone());
        let patience = if config.addresses.is_empty() { Duration::ZERO } else { PATIENCE };
        Self {
            used: Allocation::new(Transport::Datagram, login, earlier, seed, now),
            other: if config.streams { Other::Later(now + patience) } else { Other::None },
            wait: AGAIN.0,
            wishes: vec![],
            seed,
        }
    }

    /// The allocation that is used, or waited for.
    pub(super) const fn used(&self) -> &Allocation {
        &self.used
    }

    pub(super) const fn used_mut(&mut self) -> &mut Allocation {
        &mut self.used
    }

    /// Takes another login, and whether the relay takes connections.
    pub(super) fn set(&mut self, config: &Config, now: Instant) {
        self.used.set_login(config.login.clone(), now);
        if let Other::Stream(allocation) | Other::Datagrams(allocation) = &mut self.other {
            allocation.set_login(config.login.clone(), now);
        }
        if !config.streams && matches!(self.other, Other::Later(_)) {
            self.other = Other::None;
        }
    }

    /// Begins anew with datagrams, at another address, after the same time as before.
    pub(super) fn ask_elsewhere(&mut self, config: &Config, seed: u64, now: Instant) {
        if self.used.transport() == Transport::Datagram {
            let (login, earlier) = (config.login.clone(), config.earlier.clone());
            self.used = Allocation::new(Transport::Datagram, login, earlier, seed, now);
        }
    }

    /// The allocation by a connection, used or asked for.
    pub(super) fn stream(&mut self) -> Option<&mut Allocation> {
        match (self.used.transport(), &mut self.other) {
            (Transport::Stream, _) => Some(&mut self.used),
            (Transport::Datagram, Other::Stream(allocation)) => Some(allocation),
            _ => None,
        }
    }

    /// Handles datagrams of the relay's (see [`Allocation::unwrap`]).
    pub(super) fn unwrap(
        &mut self,
        config: &Config,
        received: &[u8],
        stride: usize,
        at: &mut usize,
        now: Instant,
    ) -> Option<Run> {
        if self.used.transport() == Transport::Datagram {
            return self.used.unwrap(received, stride, at, now);
        }
        match &mut self.other {
            Other::Datagrams(allocation) => return allocation.unwrap(received, stride, at, now),
            Other::Looking(look) => {
                if let Some(Seen::There { .. }) = look.handle(received.get(..stride).unwrap_or(received), now) {
                    let login = config.login.clone();
                    let asked = Allocation::new(Transport::Datagram, login, config.earlier.clone(), self.seed, now);
                    self.other = Other::Datagrams(Box::new(asked));
                }
            }
            // What is still on its way to an allocation that is no more.
            Other::None | Other::Later(_) | Other::Connecting | Other::Stream(_) | Other::LookAt(_) => {
                self.used.dropped.foreign += received.len().div_ceil(stride.max(1)) as u64;
            }
        }
        *at = received.len();
        None
    }

    /// A connection with the relay stands. Returns whether it is wanted.
    pub(super) fn handle_connected(&mut self, config: &Config, now: Instant) -> bool {
        let wanted = matches!(self.other, Other::Connecting);
        if wanted {
            let asked = Allocation::new(Transport::Stream, config.login.clone(), None, self.seed, now);
            self.other = Other::Stream(Box::new(asked));
        }
        wanted
    }

    /// The connection has ended, or there is none.
    pub(super) fn handle_disconnected(&mut self, config: &Config, now: Instant) -> Change {
        if self.used.transport() == Transport::Stream {
            let wishes = std::mem::take(&mut self.wishes);
            *self = Self { wishes, ..Self::new(config, self.seed.wrapping_add(1), now) };
            return Change { any: true, worse: true, unanswered: false };
        }
        if matches!(self.other, Other::Connecting | Other::Stream(_)) {
            self.other = self.later(now);
        }
        Change::default()
    }

    fn later(&mut self, now: Instant) -> Other {
        let wait = self.wait;
        self.wait = (wait * 2).min(AGAIN.1);
        Other::Later(now + wait)
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let other = match &self.other {
            Other::None | Other::Connecting => None,
            Other::Later(at) | Other::LookAt(at) => Some(*at),
            Other::Stream(allocation) | Other::Datagrams(allocation) => allocation.next_timeout(),
            Other::Looking(look) => look.next_timeout(),
        };
        [self.used.next_timeout(), other].into_iter().flatten().min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        due(&mut self.used, now);
        match &mut self.other {
            Other::Later(at) if *at <= now => self.try_stream(now),
            Other::LookAt(at) if *at <= now => self.other = Other::Looking(Look::new(now)),
            Other::Looking(look) => {
                if look.handle_timeout(now).is_some() {
                    self.other = Other::LookAt(now + LOOK);
                }
            }
            Other::Stream(allocation) | Other::Datagrams(allocation) => due(allocation, now),
            Other::None | Other::Connecting | Other::Later(_) | Other::LookAt(_) => {}
        }
    }

    /// Asks for a connection, unless the relay answers to datagrams.
    fn try_stream(&mut self, now: Instant) {
        self.other = match self.used.standing() {
            Standing::Allocated(_) => Other::None,
            Standing::Refused(_) => Other::Later(now + AGAIN.0),
            Standing::Asking if self.used.rtt().is_some() => Other::Later(now + 4 * PATIENCE),
            Standing::Asking | Standing::Unanswered => {
                self.wishes.push(Wish::Connect);
                Other::Connecting
            }
        };
    }

    /// A message to the relay, and by what.
    pub(super) fn poll_transmit(&mut self) -> Option<(Transport, Vec<u8>)> {
        let transport = self.used.transport();
        let own = self.used.poll_transmit().map(|bytes| (transport, bytes));
        own.or_else(|| match &mut self.other {
            Other::Stream(allocation) => Some((Transport::Stream, allocation.poll_transmit()?)),
            Other::Datagrams(allocation) => Some((Transport::Datagram, allocation.poll_transmit()?)),
            Other::Looking(look) => Some((Transport::Datagram, look.poll_transmit()?)),
            Other::None | Other::Later(_) | Other::Connecting | Other::LookAt(_) => None,
        })
    }

    /// What the owner of connections has to do.
    pub(super) fn poll_wish(&mut self) -> Option<Wish> {
        (!self.wishes.is_empty()).then(|| self.wishes.remove(0))
    }

    /// Whether there is a connection, or is to be one.
    pub(super) fn has_connection(&self) -> bool {
        self.used.transport() == Transport::Stream || matches!(self.other, Other::Connecting | Other::Stream(_))
    }

    /// Draws the conclusions of what the relay has answered.
    pub(super) fn settle(&mut self, config: &Config, now: Instant) -> Change {
        let mut change = Change::default();
        while let Some(event) = self.used.poll_event() {
            change.any = true;
            change.worse |= !matches!(event, Event::Allocated { .. });
            change.unanswered |= event == Event::Unanswered && self.used.transport() == Transport::Datagram;
            if event == Event::Unanswered && self.used.transport() == Transport::Stream {
                self.wishes.push(Wish::Close);
                return self.handle_disconnected(config, now);
            }
        }
        let standing = self.used.relayed().is_some();
        match self.used.transport() {
            Transport::Stream => self.settle_datagrams(&mut change, now),
            Transport::Datagram if standing => {
                if self.has_connection() {
                    self.wishes.push(Wish::Close);
                }
                self.other = Other::None;
                self.wait = AGAIN.0;
            }
            Transport::Datagram => self.settle_stream(config, &mut change, now),
        }
        change
    }

    /// While no datagrams get through.
    fn settle_stream(&mut self, config: &Config, change: &mut Change, now: Instant) {
        match &mut self.other {
            Other::None if config.streams && change.worse => self.other = Other::Later(now),
            Other::Stream(allocation) => {
                let mut failed = false;
                while let Some(event) = allocation.poll_event() {
                    failed |= matches!(event, Event::Refused(_) | Event::Unanswered);
                }
                if allocation.relayed().is_some() {
                    let Other::Stream(allocation) = std::mem::replace(&mut self.other, Other::LookAt(now + LOOK))
                    else {
                        return;
                    };
                    self.take(*allocation);
                    (change.any, change.unanswered) = (true, false);
                } else if failed {
                    self.wishes.push(Wish::Close);
                    self.other = self.later(now);
                }
            }
            _ => {}
        }
    }

    /// While a connection is used.
    fn settle_datagrams(&mut self, change: &mut Change, now: Instant) {
        let Other::Datagrams(allocation) = &mut self.other else { return };
        let mut failed = false;
        while let Some(event) = allocation.poll_event() {
            failed |= matches!(event, Event::Refused(_) | Event::Unanswered);
        }
        if allocation.relayed().is_some() {
            let Other::Datagrams(allocation) = std::mem::replace(&mut self.other, Other::None) else { return };
            self.take(*allocation);
            self.wishes.push(Wish::Close);
            change.any = true;
        } else if failed {
            self.other = Other::LookAt(now + LOOK);
        }
    }

    /// Uses another allocation from now on.
    fn take(&mut self, allocation: Allocation) {
        let mut before = std::mem::replace(&mut self.used, allocation);
        self.used.dropped.add(before.take_dropped());
        self.wait = AGAIN.0;
    }
}

fn due(allocation: &mut Allocation, now: Instant) {
    if allocation.next_timeout().is_some_and(|at| at <= now) {
        allocation.handle_timeout(now);
    }
}
