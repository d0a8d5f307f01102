//! Doubt: whether the used path still works.
//!
//! Data that goes unanswered for 1.5 s is a reason to ask every path, and the first pong decides. A lost pong alone is
//! none. If the runner speaks by a relay while a direct path is used, that path is asked: perhaps it carries one way only.

use std::time::{Duration, Instant};

use super::{Around, Contact, Errand, Link, State};
use crate::hop::{Hop, Way};

/// How long an answer of any path may take.
const DECISION: Duration = Duration::from_secs(2);

/// How often, and when, every path is asked.
const ASKED: [Duration; 3] = [Duration::ZERO, Duration::from_millis(500), Duration::from_millis(1000)];

/// The pings on a suspicious path.
const SUSPICIOUS: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(350),
    Duration::from_millis(600),
    Duration::from_millis(900),
];

/// Why the used path may carry datagrams one way only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The runner speaks by a relay.
    Relay,
    /// An instance sends something again: perhaps it didn't arrive.
    Repetition,
}

impl Cause {
    /// How long the answer to a ping may take.
    const fn suspense(self) -> Duration {
        match self {
            Self::Relay => Duration::from_millis(500),
            Self::Repetition => Duration::from_millis(1200),
        }
    }

    /// How long no suspicion follows another that was unfounded.
    const fn trust(self) -> Duration {
        match self {
            Self::Relay => Duration::from_secs(10),
            Self::Repetition => Duration::from_secs(1),
        }
    }
}

/// A path was changed so lately that the other runner may not know.
const NEW: Duration = Duration::from_millis(500);

/// The used path may carry datagrams one way only.
#[derive(Debug, Clone, Copy)]
pub(super) struct Suspicion {
    cause: Cause,
    since: Instant,
    /// The number of pings so far.
    pings: usize,
    cleared: bool,
}

impl Suspicion {
    pub(super) const fn clear(&mut self) {
        self.cleared = true;
    }

    fn end(&self, rtt: Option<Duration>) -> Instant {
        self.since + self.cause.suspense().max(3 * rtt.unwrap_or_default())
    }

    fn due(&self, rtt: Option<Duration>) -> Option<Instant> {
        let (next, end) = (SUSPICIOUS.get(self.pings).map(|next| self.since + *next), self.end(rtt));
        (!self.cleared).then(|| next.filter(|next| *next < end).unwrap_or(end))
    }
}

impl Link {
    /// Data has gone unanswered for too long. `silent`: nothing has arrived either.
    pub(crate) fn doubt(&mut self, around: Around<'_>, silent: bool, now: Instant) -> Vec<Errand> {
        let Some(contact) = self.contact.as_mut().filter(|contact| contact.state == State::Up) else { return vec![] };
        let Some(used) = contact.used.as_ref().map(|used| used.hop) else { return vec![] };
        if !around.is_able() {
            return vec![];
        }
        for hop in around.relayed().filter(|hop| *hop != used) {
            contact.other(Way::from(hop));
        }
        if !contact.others.iter().any(|path| is_asked(path.hop, path.reach.is_open(), path.is_shut(now))) {
            // There is no other path; handshakes look for one.
            return vec![];
        }
        contact.used.iter_mut().chain(&mut contact.others).for_each(|path| path.asked = path.reach.serial());
        contact.state = State::Doubtful { since: now, asked: 0, silent };
        contact.suspicion = None;
        contact.ask_all(now)
    }

    /// What comes by a relay is no news of the direct path that is used, and what is sent again may have been lost, unless
    /// the path carries one way only: it has to answer a ping.
    pub(crate) fn suspect(&mut self, cause: Cause, around: Around<'_>, now: Instant) -> Vec<Errand> {
        let Some(contact) = &mut self.contact else { return vec![] };
        let is_soon = contact.suspicion.is_some_and(|it| {
            !it.cleared && it.cause == cause || now.saturating_duration_since(it.since) < cause.trust()
        });
        let is_new = contact.since.is_some_and(|since| now.saturating_duration_since(since) < NEW);
        if !around.has_relay() || is_soon || is_new || contact.state != State::Up {
            return vec![];
        }
        contact.suspicion = Some(Suspicion { cause, since: now, pings: 0, cleared: false });
        if let Some(used) = &mut contact.used {
            used.asked = used.reach.serial();
        }
        self.poll_doubt(around, now)
    }

    /// Does what doubt and suspicion demand by now.
    pub(super) fn poll_doubt(&mut self, around: Around<'_>, now: Instant) -> Vec<Errand> {
        let Some(contact) = &mut self.contact else { return vec![] };
        if contact.doubt_due().is_none_or(|at| at > now) {
            return vec![];
        }
        if let State::Doubtful { since, .. } = contact.state {
            if now.saturating_duration_since(since) < DECISION {
                return contact.ask_all(now);
            }
            contact.state = State::Lost;
            return vec![];
        }
        let (Some(suspicion), Some(used)) = (&mut contact.suspicion, &mut contact.used) else { return vec![] };
        if now >= suspicion.end(used.reach.rtt()) {
            suspicion.clear();
            return self.doubt(around, false, now);
        }
        suspicion.pings += 1;
        vec![Errand::Ping(used.way(), used.reach.ask(now))]
    }
}

impl Contact {
    pub(super) fn doubt_due(&self) -> Option<Instant> {
        match self.state {
            State::Doubtful { since, asked, .. } => {
                Some(since + ASKED.get(usize::from(asked)).copied().unwrap_or(DECISION))
            }
            State::Up => self.suspicion?.due(self.used.as_ref()?.reach.rtt()),
            State::Opening | State::Lost => None,
        }
    }

    /// Asks every path: by a short ping, and the first time by one as long as the path carried.
    fn ask_all(&mut self, now: Instant) -> Vec<Errand> {
        let State::Doubtful { asked, .. } = &mut self.state else { return vec![] };
        let first = *asked == 0;
        *asked += 1;
        let mut errands = vec![];
        for (path, used) in
            self.used.iter_mut().map(|path| (path, true)).chain(self.others.iter_mut().map(|p| (p, false)))
        {
            if used || is_asked(path.hop, path.reach.is_open(), path.is_shut(now)) {
                errands.push(Errand::Ping(path.way(), path.reach.ask(now)));
                let full = if first { path.reach.check(now) } else { None };
                errands.extend(full.map(|volley| Errand::Ping(path.way(), volley)));
            }
        }
        errands
    }
}

/// Whether a path that isn't used may take the place of the used one: a relay, or a direct path that has answered.
const fn is_asked(hop: Hop, open: bool, shut: bool) -> bool {
    hop.is_relayed() || open && !shut
}
