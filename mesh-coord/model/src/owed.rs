//! What runners may still act on although it was taken back, where several coordinators serve.
//!
//! A runner with a stream owes what its coordinator remembers: no record is written in the ordinary case, in which it
//! confirms within a second. One without a stream owes what the records say, and a commit that takes something from it
//! says so itself, so that no loss of coordinators can lose it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mesh_proto::{DeploymentId, Revision, RunnerId};

use crate::{
    Change, Decision, Key, Lost, Now, Outcome, Owing, Record, State,
    draft::Draft,
    record::{Owed, Owes},
};

impl State {
    /// What a runner owes by the records.
    #[must_use]
    pub fn owed_by(&self, runner: RunnerId) -> Owes {
        self.owed.values().filter_map(|owed| Some((owed.of, *owed.runners.get(&runner)?))).collect()
    }

    /// The runners that owe something by the records.
    #[must_use]
    pub fn owing(&self) -> BTreeSet<RunnerId> {
        self.owed.values().flat_map(|owed| owed.runners.keys().copied()).collect()
    }

    /// The runners that may still act on a deployment by the records.
    pub fn owing_of(&self, deployment: DeploymentId) -> impl Iterator<Item = RunnerId> {
        [None, Some(deployment)]
            .into_iter()
            .filter_map(|of| self.owed.get(&of))
            .flat_map(|owed| owed.runners.keys().copied())
    }

    /// What to commit with these changes, of which this is the state afterwards, and which take `lost`: what runners
    /// without a stream owe from now on. Runners and deployments that are gone owe nothing.
    #[must_use]
    pub fn owed_after(&self, changes: &[Change], lost: &Lost, revision: Revision) -> Vec<Change> {
        let mut owed = BTreeMap::new();
        let is_away = |runner: &&RunnerId| self.is_active(**runner) && self.session(**runner).is_none();
        for (of, runners) in lost.iter().filter(|(of, _)| self.deployments.contains_key(of)) {
            for runner in runners.iter().filter(is_away) {
                owed.entry(Some(*of)).or_insert_with(|| self.owed_of(Some(*of))).runners.insert(*runner, revision);
            }
        }
        let may_end = |change: &Change| matches!(change.key(), Key::Runner(_) | Key::Deployment(_));
        if !self.owed.is_empty() && changes.iter().any(may_end) {
            for record in self.owed.values() {
                let is_there = record.of.is_none_or(|of| self.deployments.contains_key(&of));
                let keeps = |runner: &RunnerId| is_there && self.is_active(*runner);
                if !record.runners.keys().all(keeps) {
                    let left = owed.entry(record.of).or_insert_with(|| Owed::clone(record));
                    left.runners.retain(|runner, _| keeps(runner));
                }
            }
        }
        owed.into_values().map(change).collect()
    }

    fn owed_of(&self, of: Option<DeploymentId>) -> Owed {
        self.owed.get(&of).map_or_else(|| Owed::new(of), |owed| Owed::clone(owed))
    }
}

/// Takes over what the coordinators of these streams tell.
pub(crate) fn owing(state: &State, all: &[Owing], now: Now) -> Decision {
    let mut draft = Draft::new(state, now);
    let mut owed = BTreeMap::new();
    let is_newest = |owing: &&Owing| state.session(owing.runner).is_some_and(|session| session.stream == owing.stream);
    for Owing { runner, owes, ended, .. } in all.iter().filter(is_newest) {
        if *ended {
            draft.delete(Key::Session(*runner));
        }
        let before = state.owed_by(*runner);
        for of in before.keys().chain(owes.keys()).filter(|of| before.get(of) != owes.get(of)) {
            let runners = &mut owed.entry(*of).or_insert_with(|| state.owed_of(*of)).runners;
            match owes.get(of) {
                Some(revision) => drop(runners.insert(*runner, *revision)),
                None => drop(runners.remove(runner)),
            }
        }
    }
    for owed in owed.into_values() {
        match change(owed) {
            Change::Put(record) => draft.put(record),
            Change::Delete(key) => draft.delete(key),
        }
    }
    draft.decided(Outcome::Noted)
}

fn change(owed: Owed) -> Change {
    if owed.runners.is_empty() { Change::Delete(Key::Owed(owed.of)) } else { Change::Put(Record::Owed(Arc::new(owed))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        AdminCommand, Command, TrustChange,
        record::{MemberId, Session, StreamKey},
        testing::{World, declared, file, label},
    };

    const STREAM: StreamKey = StreamKey { member: MemberId(1), number: 1 };

    impl World {
        /// Commits a command with what it makes runners owe.
        fn run_shared(&mut self, what: AdminCommand) -> usize {
            let by = self.admin.clone();
            let mut changes = self.decide(&Command::Admin { by, what }).unwrap().changes;
            let (mut after, revision) = (self.state.clone(), self.state.revision().next());
            let (_, lost) = after.absorb_shared(&changes, revision);
            let owed = after.owed_after(&changes, &lost, revision);
            let number = owed.len();
            changes.extend(owed);
            self.commit(&changes);
            number
        }

        fn clear(&mut self) -> usize {
            self.run_shared(AdminCommand::Trust { deployment: label("shop"), change: TrustChange::Clear })
        }

        fn shop(&self) -> DeploymentId {
            self.state.deployment_named(&label("shop")).unwrap().id
        }

        fn owing_of_shop(&self) -> Vec<RunnerId> {
            self.state.owing_of(self.shop()).collect()
        }
    }

    /// `api`, on its own runner, may call `shop`.
    fn calling() -> (World, RunnerId) {
        let mut world = World::new();
        for (name, service) in [("shop", "db"), ("api", "grpc")] {
            world.apply(vec![file(declared(name, Some("acme"), [service]))]).unwrap();
        }
        world.trust("shop", &["api"]).unwrap();
        let caller = world.join("r1");
        world.attach(caller, "api/grpc");
        (world, caller)
    }

    fn begin(world: &mut World, runner: RunnerId) {
        let session = Session { runner, stream: STREAM, process: Some(7), from: "192.0.2.1".parse().unwrap() };
        world.run(&Command::Begin { session, living: BTreeSet::new() }).unwrap();
    }

    fn tell(world: &mut World, runner: RunnerId, owes: Owes, ended: bool) {
        world.run(&Command::Owing(vec![Owing { runner, stream: STREAM, owes, ended }])).unwrap();
    }

    #[test]
    fn what_is_taken_from_a_runner_without_a_stream_is_a_record_and_from_others_it_is_none() {
        let (mut world, caller) = calling();
        begin(&mut world, caller);
        assert_eq!(world.clear(), 0, "its coordinator remembers");
        world.trust("shop", &["api"]).unwrap();
        tell(&mut world, caller, Owes::new(), true);
        assert_eq!(world.owing_of_shop(), []);
        assert_eq!(world.clear(), 1);
        assert_eq!(world.owing_of_shop(), [caller]);
        let taken_at = world.state.revision();
        assert_eq!(world.state.owed_by(caller), [(Some(world.shop()), taken_at)].into());
        // It owes until its coordinator says otherwise, and only the one of its newest stream can.
        tell(&mut world, caller, Owes::new(), false);
        begin(&mut world, caller);
        assert_eq!(world.owing_of_shop(), [caller]);
        tell(&mut world, caller, Owes::new(), false);
        assert_eq!(world.state.owing(), [].into());
        assert!(world.state.session(caller).is_some());
    }

    #[test]
    fn who_owes_anything_owes_each_deployment() {
        let (mut world, caller) = calling();
        begin(&mut world, caller);
        tell(&mut world, caller, [(None, Revision(3))].into(), true);
        assert_eq!((world.owing_of_shop(), world.state.session(caller)), (vec![caller], None));
    }

    #[test]
    fn what_is_gone_owes_nothing_and_is_owed_nothing() {
        let (mut world, caller) = calling();
        assert_eq!(world.clear(), 1);
        world.run_shared(AdminCommand::Delete { deployment: label("shop"), force: true });
        assert_eq!(world.state.owing(), [].into());
        let (mut world, caller_too) = calling();
        assert_eq!((caller, world.clear()), (caller_too, 1));
        world.run_shared(AdminCommand::RemoveNode { name: label("r1"), force: true });
        assert_eq!(world.state.owing(), [].into());
    }
}
