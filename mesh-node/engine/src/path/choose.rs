//! Which path is used.
//!
//! Between a relay and a direct path only the answer to a ping decides, and only for this runner's own direction. What
//! arrives by the other kind of path moves nothing. Within a kind the used path stays until it is silent, or until the
//! runner speaks from another address: then it has moved.

use std::time::{Duration, Instant};

use super::{Around, Cause, Contact, Errand, Link, PATHS, Path, State, hops::Kind};
use crate::{
    hop::{Hop, Way},
    limit::Pace,
    probe::Pong,
};

/// A direct path on which data went unanswered isn't used for this long, doubled with each time in a row.
const SHUT: Duration = Duration::from_secs(10);
const LONGEST_SHUT: Duration = Duration::from_secs(600);

/// A path that was good for this long has no past.
const GOOD: Duration = Duration::from_secs(600);

/// Changes to a better kind of path: so many at once, and one in each 100 seconds.
pub(super) const RISES: Pace = Pace { every: Duration::from_secs(100), at_once: 5 };

/// Changes to another path of the same kind.
pub(super) const ROAMS: Pace = Pace { every: Duration::from_secs(2), at_once: 5 };

impl Link {
    /// Data or a keepalive has come by a path.
    #[cold]
    pub(crate) fn heard(&mut self, way: Way, around: Around<'_>, now: Instant) -> Vec<Errand> {
        let contact = self.contact();
        let lost = matches!(contact.state, State::Opening | State::Lost);
        let Some(used) = contact.used.as_mut().filter(|_| !lost) else { return self.adopt(way, now) };
        if used.hop == way.to {
            used.local = way.from;
            if let State::Doubtful { silent: true, .. } = contact.state {
                contact.state = State::Up;
            }
            return vec![];
        }
        match (used.hop.is_relayed(), way.to.is_relayed()) {
            (false, true) => self.suspect(Cause::Relay, around, now),
            (true, false) => self.sighted(way, around, now),
            (false, false) | (true, true) => self.roam(way, around, now),
        }
    }

    /// The runner has answered a handshake by a path.
    pub(crate) fn answered(&mut self, way: Way, around: Around<'_>, now: Instant) -> Vec<Errand> {
        let is_used = self.way().is_some_and(|used| used.to == way.to);
        match self.contact().state {
            State::Doubtful { .. } if !is_used => self.decide(way, now),
            State::Doubtful { .. } => {
                self.contact().state = State::Up;
                self.heard(way, around, now)
            }
            State::Opening | State::Up | State::Lost => self.heard(way, around, now),
        }
    }

    /// A ping has come back.
    pub(crate) fn pong(&mut self, pong: &Pong, around: Around<'_>, now: Instant) -> Vec<Errand> {
        let Some(contact) = &mut self.contact else { return vec![] };
        let mut all = contact.used.iter_mut().chain(&mut contact.others);
        let Some(path) = all.find(|path| path.reach.path() == pong.path) else { return vec![] };
        let is_present = pong.serial.wrapping_sub(path.asked) < u16::MAX / 2;
        let way = path.way();
        let volley = path.reach.pong(pong, around.top(), now);
        let mut errands: Vec<Errand> = volley.map(|volley| Errand::Ping(way, volley)).into_iter().collect();
        let is_used = contact.used.as_ref().is_some_and(|used| used.hop == way.to);
        if is_used {
            if is_present {
                contact.suspicion.as_mut().into_iter().for_each(|suspicion| suspicion.clear());
                if contact.state != State::Up {
                    contact.state = State::Up;
                    errands.push(Errand::Moved);
                }
            }
        } else if is_present && matches!(contact.state, State::Doubtful { .. } | State::Lost) {
            errands.extend(self.decide(way, now));
        } else {
            errands.extend(self.rise(way.to, now));
        }
        errands
    }

    /// A path of a better kind is used, now that a ping of full length has come back.
    fn rise(&mut self, hop: Hop, now: Instant) -> Option<Errand> {
        let contact = self.contact.as_mut()?;
        let used = contact.used.as_ref().filter(|_| contact.state == State::Up)?;
        let path = contact.others.iter().find(|path| path.hop == hop)?;
        let is_better = Kind::of(hop) < Kind::of(used.hop) && path.reach.proven().is_some() && !path.is_shut(now);
        if !is_better || !contact.rises.take_at(RISES, now) {
            return None;
        }
        contact.switch(path.way(), now);
        hop.direct().and_then(|at| self.take_direct(at))
    }

    /// Another path has answered first.
    fn decide(&mut self, way: Way, now: Instant) -> Vec<Errand> {
        let contact = self.contact();
        let (silent, since) = (contact.used.as_ref().map(|used| used.hop), contact.since);
        contact.state = State::Up;
        contact.switch(way, now);
        let mut errands = vec![Errand::Moved];
        let fallen = contact.others.iter_mut().find(|path| Some(path.hop) == silent && !path.hop.is_relayed());
        let until = fallen.map(|path| path.fall(since, now));
        match way.to.direct() {
            Some(at) => errands.extend(self.take_direct(at)),
            None => {
                self.note_left();
                self.begin_relayed(until.unwrap_or(now));
            }
        }
        errands
    }

    /// Uses a path because nothing else is known to work.
    fn adopt(&mut self, way: Way, now: Instant) -> Vec<Errand> {
        let contact = self.contact();
        let was_lost = contact.state == State::Lost;
        if was_lost && contact.used.as_ref().is_some_and(|used| used.hop != way.to) {
            return self.decide(way, now);
        }
        contact.state = State::Up;
        contact.switch(way, now);
        match way.to.direct() {
            Some(at) => self.take_direct(at).into_iter().collect(),
            None => {
                self.note_left();
                self.begin_relayed(now);
                vec![]
            }
        }
    }

    /// The runner speaks from another address, and is followed at once; its path is measured after. Between two paths that
    /// both work, the side with the lower identifier chooses.
    fn roam(&mut self, way: Way, around: Around<'_>, now: Instant) -> Vec<Errand> {
        let contact = self.contact();
        if around.has_relay() {
            let known = contact.others.iter().find(|path| path.hop == way.to);
            let stays = known.is_some_and(|path| path.is_shut(now) || path.reach.is_open() && around.leads());
            if stays || !contact.roams.take_at(ROAMS, now) {
                return vec![];
            }
        } else {
            contact.used = None;
        }
        contact.switch(way, now);
        contact.state = State::Up;
        way.to.direct().and_then(|at| self.take_direct(at)).into_iter().collect()
    }

    /// A direct path is used from now on: no meeting is needed.
    fn take_direct(&mut self, at: std::net::SocketAddr) -> Option<Errand> {
        self.waits = false;
        self.note_direct(at)
    }

    /// A relay is used from now on. From `from` on, and with the first data, a direct path is looked for.
    pub(super) fn begin_relayed(&mut self, from: Instant) {
        self.contact().meetings.begin(from);
        self.waits = true;
    }
}

impl Contact {
    /// Uses a path. The one that was used is the last of the others.
    pub(super) fn switch(&mut self, way: Way, now: Instant) {
        self.claimed = self.claimed.filter(|claimed| claimed.to != way.to);
        self.suspicion = None;
        if let Some(used) = self.used.as_mut().filter(|used| used.hop == way.to) {
            used.local = way.from;
            return;
        }
        let known = self.others.iter().position(|path| path.hop == way.to).map(|i| self.others.remove(i));
        let mut path = known.unwrap_or_else(|| self.made(way));
        if way.from.is_some() {
            path.local = way.from;
        }
        if let Some(used) = self.used.replace(path) {
            self.make_room();
            self.others.push(used);
        }
        self.since = Some(now);
    }

    /// The path to a hop among the others; it is made if there is none.
    pub(super) fn other(&mut self, way: Way) -> &mut Path {
        let at = self.others.iter().position(|path| path.hop == way.to).unwrap_or_else(|| {
            self.make_room();
            let path = self.made(way);
            self.others.push(path);
            self.others.len() - 1
        });
        &mut self.others[at]
    }

    fn made(&mut self, way: Way) -> Path {
        self.number = self.number.wrapping_add(1);
        Path::new(way, self.number)
    }

    /// Makes room for one more path: the oldest of those that are worth the least makes it.
    fn make_room(&mut self) {
        if self.others.len() + 1 >= PATHS {
            let worth = |path: &Path| (path.hop.is_relayed(), path.reach.is_open(), path.falls > 0);
            let least = (0..self.others.len()).min_by_key(|i| worth(&self.others[*i]));
            if let Some(i) = least {
                self.others.remove(i);
            }
        }
    }
}

impl Path {
    /// Data has gone unanswered, used since `since`. Returns until when the path is shut.
    fn fall(&mut self, since: Option<Instant>, now: Instant) -> Instant {
        if since.is_some_and(|since| now.saturating_duration_since(since) >= GOOD) {
            self.falls = 0;
        }
        let until = now + (SHUT * (1 << self.falls.min(6))).min(LONGEST_SHUT);
        self.falls = self.falls.saturating_add(1);
        self.shut = Some(until);
        // Whatever it carried, it has to carry again before it is used.
        self.reach.leave();
        until
    }
}
