//! Deciding on commands, each on what those before it leave, and what their commit takes from runners.

use std::collections::BTreeMap;

use mesh_model::{Change, Command, Decision, Key, Lost, Now, Owing, Record, Refusal, State};
use mesh_proto::Revision;
use mesh_sessions::Sessions;

/// Decides on a command, by what its coordinator knows now.
///
/// # Errors
/// If it is refused.
pub fn decide(state: &State, sessions: &Sessions, command: &Command, now: Now) -> Result<Decision, Refusal> {
    let Command::Owing(all) = command else { return state.decide(command, now) };
    // What is known now counts, and not what was when the command was made.
    let now_owing = |o: &Owing| sessions.owing(state, o.runner, o.stream, o.ended);
    state.decide(&Command::Owing(all.iter().map(now_owing).collect()), now)
}

/// Decisions that are tried on a state, one after the other, until all of them are known.
#[derive(Debug)]
pub struct Trial {
    base: Revision,
    merged: BTreeMap<Key, Change>,
    /// What was decided last, which the state doesn't have yet.
    last: Vec<Change>,
    undo: Vec<Vec<Change>>,
    /// Whether several coordinators may serve: then the commit says what runners owe by it.
    is_shared: bool,
    lost: Lost,
}

impl Trial {
    /// Nothing is decided yet.
    #[must_use]
    pub fn new(state: &State, sessions: &Sessions) -> Self {
        let (base, merged, lost) = (state.revision(), BTreeMap::new(), Lost::new());
        Self { base, merged, last: Vec::new(), undo: Vec::new(), is_shared: sessions.is_shared(), lost }
    }

    /// Puts all that was decided so far into the state, for the next decision.
    pub fn put_on(&mut self, state: &mut State) {
        let last = std::mem::take(&mut self.last);
        if !last.is_empty() {
            self.undo.push(state.undo_of(&last));
            if !self.is_shared {
                state.absorb(&last, self.base.next());
                return;
            }
            for (of, runners) in state.absorb_shared(&last, self.base.next()).1 {
                self.lost.entry(of).or_default().extend(runners);
            }
        }
    }

    /// Adds a decision's changes.
    pub fn add(&mut self, changes: Vec<Change>) {
        self.merged.extend(changes.iter().map(|change| (change.key(), change.clone())));
        self.last = changes;
    }

    /// What to commit, with what it makes runners owe. The state is what it was before.
    pub fn finish(mut self, state: &mut State) -> Vec<Change> {
        if self.is_shared && (!self.lost.is_empty() || self.merged.values().any(may_take)) {
            self.put_on(state);
            let changes: Vec<Change> = self.merged.values().cloned().collect();
            let owed = state.owed_after(&changes, &self.lost, self.base.next());
            self.merged.extend(owed.into_iter().map(|change| (change.key(), change)));
        }
        for undo in self.undo.into_iter().rev() {
            state.absorb(&undo, self.base);
        }
        // What comes and goes within a group was never there.
        self.merged.retain(|key, change| matches!(change, Change::Put(_)) || state.has(*key));
        self.merged.into_values().collect()
    }
}

/// Whether it can take something from a runner that has no stream.
fn may_take(change: &Change) -> bool {
    match change {
        Change::Put(Record::Runner(runner)) => runner.removed.is_some(),
        change => matches!(change.key(), Key::Deployment(_) | Key::Service(_)),
    }
}
