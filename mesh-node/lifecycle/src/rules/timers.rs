//! All that is waited for, in one place.

use std::time::Instant;

use crate::{
    Effect, HostsPlace, Lifecycle, NamespaceId,
    state::{
        Context,
        attaching::Step,
        ending::EndStep,
        request::HostsWait,
        seek::Seek,
        space::{Space, State},
        standing::Doing,
    },
};

impl Lifecycle {
    /// When [`Lifecycle::handle_timeout`] is to be called, and what is waited for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let spaces = self.spaces.values().filter_map(|space| state_timeout(&space.state, space.jobs.is_empty()));
        let seeks = self.seeks.values().filter_map(|seek| Some((seek.due()?, "a hosts file is looked for again")));
        let settling = self.settling.values().filter_map(|one| Some((one.due()?, "a view comes into force")));
        let round = (!self.spaces.is_empty()).then_some((self.rounds.next, "all namespaces are looked at"));
        let lost = self.rounds.lost.map(|at| (at, "changes were not heard"));
        spaces.chain(seeks).chain(settling).chain(round).chain(lost).chain(self.starting.due()).min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let cx = &mut Context { now, out };
        if self.rounds.is_due(now) {
            self.heard_of_all(now);
        }
        let is_due = |seek: &Seek| seek.due().is_some_and(|due| due <= now);
        let due: Vec<(NamespaceId, HostsPlace)> =
            self.seeks.iter().filter(|(_, seek)| is_due(seek)).map(|(key, _)| key.clone()).collect();
        due.into_iter().for_each(|(namespace, place)| self.seek_again(namespace, place, cx));
        let is_due = |space: &Space| space.is_at_rest() && space.mends_at().is_some_and(|due| due <= now);
        self.ready.extend(self.spaces.iter().filter(|(_, space)| is_due(space)).map(|(namespace, _)| *namespace));
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
            Doing::Nothing if is_idle => Some((standing.mends_at()?, "something may have changed in a namespace")),
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
