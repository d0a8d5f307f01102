//! Short pings to addresses that have not answered yet, by which a direct path through NATs is opened. Full length only
//! goes to who has answered: a runner can't be made to send much to a stranger.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{Around, Cause, Contact, Errand, Link, hops::tried};
use crate::{
    hop::Way,
    limit::{Bucket, Pace},
};

/// When the addresses where the outside sees the other runner are pinged, after the beginning.
const STEPS: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(40),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
];

/// How many addresses are pinged that often. Others are pinged once.
const OFTEN: usize = 8;

/// All short pings to addresses that have not answered: a meeting's at once, and one in half a second.
pub(super) const KNOCKS: Pace = Pace { every: Duration::from_millis(500), at_once: 48 };

/// The pings to addresses that have not answered.
#[derive(Debug, Default)]
pub(super) struct Knocks {
    /// Since when the addresses are pinged, and how often they were.
    since: Option<Instant>,
    step: usize,
    budget: Bucket,
    /// When a ping was answered by one of ours last.
    sighted: Option<Instant>,
}

impl Link {
    /// Something authentic has come from a direct address while a relay is used. That it comes says that the address may
    /// be reached, for as long as the NATs in between remember.
    pub(super) fn sighted(&mut self, way: Way, around: Around<'_>, now: Instant) -> Vec<Errand> {
        let Some(at) = way.to.direct() else { return vec![] };
        if !around.is_able() || !around.can_be(at) {
            return vec![];
        }
        let contact = self.contact();
        let soon = contact.knocks.sighted.is_some_and(|last| now.saturating_duration_since(last) < STEPS[1]);
        let path = contact.other(way);
        path.local = way.from;
        if path.is_shut(now) || path.reach.is_open() || soon || !contact.knocks.budget.take_at(KNOCKS, now) {
            return vec![];
        }
        contact.knocks.sighted = Some(now);
        let path = contact.other(way);
        vec![Errand::Ping(way, path.reach.ask(now))]
    }

    /// A ping of the runner has come by a path.
    pub(crate) fn pinged(&mut self, way: Way, around: Around<'_>, now: Instant) -> Vec<Errand> {
        let used = self.way().map(|used| used.to.is_relayed());
        match (used, way.to.is_relayed()) {
            (Some(true), false) => self.sighted(way, around, now),
            (Some(false), true) => self.suspect(Cause::Relay, around, now),
            _ => vec![],
        }
    }

    /// Begins to ping the addresses of the runner, of which it has told `told`.
    pub(super) fn knock(&mut self, told: &[SocketAddr], around: Around<'_>, now: Instant) -> Vec<Errand> {
        let contact = self.contact();
        contact.others.iter_mut().for_each(|path| path.often = false);
        let used = contact.used.as_ref().and_then(|used| used.hop.direct());
        let can_be = |at: &SocketAddr| around.can_be(*at) && Some(*at) != used;
        let (outside, near): (Vec<SocketAddr>, Vec<SocketAddr>) =
            tried(&around.runner.endpoints).filter(can_be).partition(|at| around.is_outside(*at));
        let others = told.iter().copied().chain(around.reflexive()).filter(|at| !near.contains(at)).filter(can_be);
        let mut often: Vec<SocketAddr> = vec![];
        for at in outside.into_iter().chain(others) {
            if often.len() < OFTEN && !often.contains(&at) {
                often.push(at);
            }
        }
        for at in &near {
            contact.other(Way::from(*at));
        }
        for at in &often {
            contact.other(Way::from(*at)).often = true;
        }
        (contact.knocks.since, contact.knocks.step) = (Some(now), 0);
        contact.poll_knocks(now)
    }
}

impl Contact {
    pub(super) fn knocks_due(&self) -> Option<Instant> {
        Some(self.knocks.since? + *STEPS.get(self.knocks.step)?)
    }

    /// Sends the pings that are due.
    pub(super) fn poll_knocks(&mut self, now: Instant) -> Vec<Errand> {
        let mut errands = vec![];
        if self.knocks_due().is_none_or(|at| at > now) {
            return errands;
        }
        let first = self.knocks.step == 0;
        self.knocks.step += 1;
        let Self { others, knocks, .. } = self;
        for path in others {
            let is_meant = path.often || first && path.hop.direct().is_some();
            if is_meant && !path.is_shut(now) && !path.reach.is_open() && knocks.budget.take_at(KNOCKS, now) {
                errands.push(Errand::Ping(path.way(), path.reach.ask(now)));
            }
        }
        errands
    }
}
