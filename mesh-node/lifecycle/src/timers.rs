//! All that is waited for, in one place.

use std::time::Instant;

use crate::{
    Effect, HostsPlace, Lifecycle, NamespaceId,
    lifecycle::Context,
    patience,
    space::{Doing, EndStep, HostsWait, State, Step},
};

/// When all namespaces are looked at, in case that a change was not heard.
#[derive(Debug)]
pub(crate) struct Rounds {
    hears: bool,
    next: Instant,
    /// More has changed than could be heard.
    lost: Option<Instant>,
}

impl Rounds {
    pub(crate) fn new(now: Instant) -> Self {
        Self { hears: false, next: now + patience::DEAF_ROUND, lost: None }
    }

    pub(crate) fn hearing(&mut self, hears: bool, now: Instant) {
        self.hears = hears;
        self.next = now + self.interval();
    }

    pub(crate) fn lost(&mut self, now: Instant) {
        self.lost.get_or_insert(now + patience::LOST_ROUND);
    }

    const fn interval(&self) -> std::time::Duration {
        if self.hears { patience::ROUND } else { patience::DEAF_ROUND }
    }

    /// Whether it is time.
    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.next <= now || self.lost.is_some_and(|lost| lost <= now);
        if is_due {
            (self.next, self.lost) = (now + self.interval(), None);
        }
        is_due
    }
}

impl Lifecycle {
    /// When [`Lifecycle::handle_timeout`] is to be called, and what is waited for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let spaces = self.spaces.values().filter_map(|space| state_timeout(&space.state, space.jobs.is_empty()));
        let seeks = self.seeks.values().filter_map(|seek| Some((seek.due()?, "a hosts file is looked for again")));
        let settling = self.settling.values().filter_map(|one| Some((one.due()?, "a view comes into force")));
        let round = (!self.spaces.is_empty()).then_some((self.rounds.next, "all namespaces are looked at"));
        let lost = self.rounds.lost.map(|at| (at, "changes were not heard"));
        let start = self.starting.due().map(|at| (at, "the hosts files of an earlier agent are found"));
        spaces.chain(seeks).chain(settling).chain(round).chain(lost).chain(start).min()
    }

    /// Does what it is time for.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let cx = &mut Context { now, out };
        if self.rounds.is_due(now) {
            self.heard_of_all(now);
        }
        let is_due = |seek: &crate::hosts::Seek| seek.due().is_some_and(|due| due <= now);
        let due: Vec<(NamespaceId, HostsPlace)> =
            self.seeks.iter().filter(|(_, seek)| is_due(seek)).map(|(key, _)| key.clone()).collect();
        due.into_iter().for_each(|(namespace, place)| self.seek_again(namespace, place, cx));
        self.stirred = true;
        self.go_on(cx);
    }
}

/// What the state of a namespace waits for.
fn state_timeout(state: &State, is_idle: bool) -> Option<(Instant, &'static str)> {
    match state {
        State::Free | State::TakingUp(_) => None,
        State::Attaching(attaching) => match &attaching.step {
            Step::Hosts(HostsWait { retry: Some(at), .. }) => Some((*at, "another service keeps the hosts file")),
            Step::TakingOver { until, .. } => Some((*until, "an instance ends that can be taken over")),
            Step::Connecting { until } => Some((*until, "the coordinator is connected to")),
            Step::FindingOut { until, .. } => Some((*until, "the end of the stream shows")),
            Step::Granted { until: Some(until) } => Some((*until, "the view with the new instance comes")),
            _ => None,
        },
        State::Standing(standing) => match &standing.doing {
            Doing::Nothing if is_idle => {
                Some((standing.upkeep.as_ref()?.pace.due()?, "something may have changed in a namespace"))
            }
            Doing::KeepingHosts(_, HostsWait { retry: Some(at), .. }) => {
                Some((*at, "another service keeps the hosts file"))
            }
            Doing::AwaitingAnew { until, .. } => Some((*until, "the view with the new instance comes")),
            _ => None,
        },
        State::Ending(ending) => match &ending.step {
            EndStep::Applying { until, .. } => Some((*until, "the view without an instance comes into force")),
            _ => None,
        },
    }
}
