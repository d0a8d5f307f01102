//! What commits mean for the streams.

use std::time::Instant;

use mesh_model::{Change, Record, State};
use mesh_proto::{Revision, RunnerId};

use super::Sessions;
use crate::{
    effect::Effect,
    session::{Presence, StreamId},
};

impl Sessions {
    /// Absorbs a commit into `state`, and notifies the streams of all affected runners.
    pub fn absorb(&mut self, state: &mut State, changes: &[Change], revision: Revision, now: Instant) {
        let before = state.mesh_switches();
        let mut switched = Vec::new();
        for change in changes {
            if let Change::Put(Record::Runner(runner)) = change {
                match state.runner(runner.id) {
                    None => drop(self.runners.insert(runner.id, Presence::away(Some(now)))),
                    Some(was) if was.switches != runner.switches => switched.push(runner.id),
                    Some(_) => {}
                }
            }
        }
        let affected = if self.is_shared() {
            let (affected, lost) = state.absorb_shared(changes, revision);
            self.others_absorb(state, changes, now);
            self.take_away(&lost, revision);
            affected
        } else {
            state.absorb(changes, revision)
        };
        self.slices.touch(affected.deployments);
        self.notify(state, affected.runners, now);
        if state.mesh_switches() == before {
            self.notify_switches(state, switched);
        } else {
            self.notify_switches(state, self.runners.keys().copied().collect::<Vec<_>>());
        }
    }

    /// The state was replaced by another one, so every view may have changed.
    pub fn reloaded(&mut self, state: &State, now: Instant) {
        self.slices.clear();
        self.others_reloaded(state, now);
        let all: Vec<RunnerId> = self.runners.keys().copied().collect();
        self.notify(state, all.iter().copied(), now);
        self.notify_switches(state, all);
    }

    fn notify(&mut self, state: &State, affected: impl IntoIterator<Item = RunnerId>, now: Instant) {
        for runner in affected {
            if !state.is_active(runner) {
                self.remove(runner);
            } else if let Some(session) = self.runners.get_mut(&runner).and_then(Presence::session_mut) {
                session.outdated.get_or_insert(state.revision());
                session.behind.get_or_insert(now);
                self.effects.push_back(Effect::Outdated(StreamId { runner, number: session.number }));
            }
        }
    }

    fn notify_switches(&mut self, state: &State, runners: Vec<RunnerId>) {
        for runner in runners {
            let Some(session) = self.runners.get_mut(&runner).and_then(Presence::session_mut) else { continue };
            let switches = state.switches(runner);
            if std::mem::replace(&mut session.switches, switches) != switches {
                let stream = StreamId { runner, number: session.number };
                self.effects.push_back(Effect::Switches(stream, switches));
            }
        }
    }

    fn remove(&mut self, runner: RunnerId) {
        if let Some(presence) = self.runners.remove(&runner) {
            let number = presence.session().map(|session| session.number);
            self.effects.extend(number.map(|number| Effect::End(StreamId { runner, number })));
            self.effects.push_back(Effect::Removed(runner));
        }
        for over in self.waits.forget(runner) {
            self.end_wait(over);
        }
    }
}
