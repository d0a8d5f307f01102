//! Meetings: two runners that use a relay tell each other their addresses by it, and ping them at the same time.
//!
//! The time matters. A NAT that answers on its outside address (a Linux host that masquerades) takes a datagram that
//! arrives too early for one to itself, and gives the port away for as long as datagrams keep coming. Both sides in step
//! succeed, and 30 s of quiet heal it. So nothing is sent to such an address outside of a meeting, and the next one has to
//! wait.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{Around, Contact, Errand, Link, hops::holds};
use crate::{
    hop::{Way, canonical},
    probe::Meet,
};

/// How long after a meeting the next ones are.
const AGAIN: [Duration; 2] = [Duration::from_secs(35), Duration::from_secs(70)];
const LATER: Duration = Duration::from_secs(600);

/// The least time between two meetings.
const SPACING: Duration = Duration::from_secs(5);

/// How much later the side begins that leaves it to the other one.
const DEFERENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(super) struct Meetings {
    /// When the next one is due, and how many there were since a reason for the first.
    next: Option<Instant>,
    count: usize,
    /// When the last one was.
    last: Option<Instant>,
    /// When pinging begins, half a round trip after the message was sent.
    begin: Option<Instant>,
    /// When a message was answered last.
    answered: Option<Instant>,
    /// The addresses that the other runner has told.
    told: Vec<SocketAddr>,
}

impl Meetings {
    /// There is a reason for meetings from `from` on.
    pub(super) fn begin(&mut self, from: Instant) {
        (self.next, self.count, self.begin) = (Some(from), 0, None);
    }

    fn may_be(&self, now: Instant) -> bool {
        self.last.is_none_or(|last| now.saturating_duration_since(last) >= SPACING)
    }

    fn note(&mut self, now: Instant) {
        self.last = Some(now);
        self.next = Some(now + AGAIN.get(self.count).copied().unwrap_or(LATER));
        self.count += 1;
    }

    /// Takes addresses. Returns whether there is news.
    fn tell(&mut self, meet: &Meet, around: Around<'_>) -> bool {
        let told: Vec<SocketAddr> = meet.addresses().iter().map(|at| canonical(*at)).collect();
        let is_known = |at: &SocketAddr| {
            self.told.contains(at)
                || holds(&around.runner.endpoints, *at)
                || around.reflexive().any(|known| known == *at)
        };
        let news = told.iter().any(|at| !is_known(at));
        self.told = told;
        news
    }
}

impl Link {
    /// Addresses of either side have changed.
    pub(crate) fn renew_meetings(&mut self, now: Instant) {
        if self.way().is_some_and(|way| way.to.is_relayed()) {
            self.begin_relayed(now);
        }
    }

    /// The other runner has told its addresses.
    pub(crate) fn met(&mut self, meet: &Meet, back: Way, around: Around<'_>, now: Instant) -> Vec<Errand> {
        if !around.is_able() {
            return vec![];
        }
        let meetings = &mut self.contact().meetings;
        let news = meetings.tell(meet, around);
        if meet.is_answer {
            if news && meetings.begin.is_none() {
                meetings.next = Some(now + SPACING);
            }
            return vec![];
        }
        let mut errands = vec![];
        if meetings.answered.is_none_or(|last| now.saturating_duration_since(last) >= SPACING) {
            meetings.answered = Some(now);
            errands.push(Errand::Meet(back, Meet::new(true, &around.site.own)));
        }
        // Both have sent a message at the same time: this is still the same meeting.
        let is_awaited = meetings.begin.take().is_some();
        if is_awaited || meetings.may_be(now) {
            if !is_awaited {
                meetings.note(now);
            }
            let told = std::mem::take(&mut meetings.told);
            errands.extend(self.knock(&told, around, now));
            self.contact().meetings.told = told;
        }
        errands
    }

    /// Does what meetings demand by now. A meeting that is due waits for data: handshakes and keepalives of a connection that
    /// says nothing are no reason for one.
    fn poll_meetings(&mut self, around: Around<'_>, has_data: bool, now: Instant) -> Vec<Errand> {
        let Some(contact) = &mut self.contact else { return vec![] };
        let meetings = &mut contact.meetings;
        if meetings.begin.is_some_and(|at| at <= now) {
            meetings.begin = None;
            let told = std::mem::take(&mut meetings.told);
            let errands = self.knock(&told, around, now);
            self.contact().meetings.told = told;
            return errands;
        }
        let Some(used) = contact.used.as_ref().filter(|used| used.hop.is_relayed()) else { return vec![] };
        if self.waits || !around.is_able() || contact.meeting_due(around).is_none_or(|at| at > now) {
            return vec![];
        }
        if !has_data {
            self.waits = true;
            return vec![];
        }
        let (way, half) = (used.way(), used.reach.rtt().unwrap_or_default() / 2);
        contact.meetings.note(now);
        contact.meetings.begin = Some(now + half);
        vec![Errand::Meet(way, Meet::new(false, &around.site.own))]
    }

    /// Does all that is due. `in_use`: there was data lately.
    pub(crate) fn poll(&mut self, around: Around<'_>, in_use: bool, now: Instant) -> Vec<Errand> {
        let mut errands = self.poll_doubt(around, now);
        let Some(contact) = &mut self.contact else { return errands };
        let top = around.top();
        let used = contact.used.iter_mut().filter(|_| in_use);
        let searched = contact.others.iter_mut().filter(|path| path.reach.search_due().is_some_and(|at| at <= now));
        for path in used.chain(searched) {
            let volley = path.reach.poll(top, now);
            errands.extend(volley.map(|volley| Errand::Ping(path.way(), volley)));
        }
        errands.extend(contact.poll_knocks(now));
        errands.extend(self.poll_meetings(around, false, now));
        errands
    }

    /// There is data on the path, and that was waited for.
    pub(crate) fn begin(&mut self, around: Around<'_>, now: Instant) -> Vec<Errand> {
        self.waits = false;
        let Some(contact) = &mut self.contact else { return vec![] };
        let mut errands = vec![];
        if let Some(used) = &mut contact.used {
            let volley = used.reach.begin(now);
            errands.extend(volley.map(|volley| Errand::Ping(used.way(), volley)));
        }
        errands.extend(self.poll_meetings(around, true, now));
        errands.extend(self.poll(around, true, now));
        errands
    }

    /// When [`Self::poll`] has to be called next, if the path is in use.
    pub(crate) fn due(&self, around: Around<'_>) -> Option<Instant> {
        let contact = self.contact.as_ref()?;
        let used = contact.used.as_ref();
        let reach = used.and_then(|used| used.reach.due());
        let search = contact.others.iter().filter_map(|path| path.reach.search_due()).min();
        let relayed = used.is_some_and(|used| used.hop.is_relayed());
        let meeting = if relayed && !self.waits { contact.meeting_due(around) } else { None };
        let all = [reach, search, contact.doubt_due(), contact.knocks_due(), contact.meetings.begin, meeting];
        all.into_iter().flatten().min()
    }
}

impl Contact {
    /// When the next meeting is due. The side that doesn't lead gives the other one time to begin.
    fn meeting_due(&self, around: Around<'_>) -> Option<Instant> {
        let deference = if around.leads() { Duration::ZERO } else { DEFERENCE };
        let next = self.meetings.next? + deference;
        Some(self.meetings.last.map_or(next, |last| next.max(last + SPACING)))
    }
}
