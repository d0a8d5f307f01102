//! Random sequences of commands, checked against independent references: the state stays sound, and every runner
//! knows exactly what it should.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic as the tests do")]

mod ops;
mod reference;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use mesh_model::{
    AdminCommand, Affected, Change, Command, Now, Outcome, Record, Refusal, RunnerCommand, RunningSeconds, Sliced,
    Slices, State, UnixSeconds,
    record::{Key, Meta},
};
use mesh_proto::{
    Epoch, Revision, RunnerId, Segment, View,
    message::Answer,
    rules::{Direction, verdict},
    view::InstanceState,
    view::Network,
};
use ops::Op;
use proptest::prelude::*;
use reference::Reference;

const EPOCH: Epoch = Epoch([7; 16]);

/// The state under test, and what was observed of it.
struct World {
    state: State,
    now: UnixSeconds,
    views: BTreeMap<RunnerId, View>,
    /// The slices that are kept from change to change, and the views that they make up.
    slices: Slices,
    sliced: BTreeMap<RunnerId, Sliced>,
    /// Every key that was ever put, without those of instances that a runner may bring back.
    given: BTreeSet<Key>,
    /// When each address was last freed.
    freed: BTreeMap<Ipv4Addr, UnixSeconds>,
}

impl World {
    fn new() -> Self {
        let network = Network { range: "10.9.0.0/24".parse().unwrap(), mtu: 1344 };
        let meta = Record::Meta(Meta::new(network).unwrap().into());
        let state = State::load(Revision(1), [meta]).unwrap();
        Self {
            state,
            now: UnixSeconds(1_000_000),
            views: BTreeMap::new(),
            slices: Slices::default(),
            sliced: BTreeMap::new(),
            given: BTreeSet::new(),
            freed: BTreeMap::new(),
        }
    }

    fn step(&mut self, op: &Op) {
        self.now = self.now.plus(op.after);
        let command = op.command(&self.state);
        let before = self.state.clone();
        let day = UnixSeconds(self.now.0.saturating_add_signed(op.off));
        let now = Now { day, running: RunningSeconds(self.now.0) };
        let decision = before.decide(&command, now);
        assert_eq!(before, self.state, "deciding changes nothing");
        assert_eq!(decision, before.decide(&command, now), "a decision depends on nothing else");
        let decision = match decision {
            Ok(decision) => decision,
            Err(refusal) => return check_refusal(&refusal),
        };
        if decision.changes.is_empty() {
            return;
        }
        let keys: BTreeSet<Key> = decision.changes.iter().map(Change::key).collect();
        assert_eq!(keys.len(), decision.changes.len(), "one change a record");
        self.check_numbers(&decision.changes, &decision.outcome);
        let undo = self.state.undo_of(&decision.changes);
        let affected = self.state.absorb(&decision.changes, before.revision().next());
        let mut undone = self.state.clone();
        undone.absorb(&undo, before.revision());
        assert_eq!(undone, before, "a change that is taken back leaves nothing");
        self.check_reload();
        self.check_states(&before, &command);
        self.check_addresses(&before);
        self.check_views(&affected.runners);
        self.check_slices(&affected);
    }

    /// No number is assigned twice. Only a runner can bring an instance's number back.
    fn check_numbers(&mut self, changes: &[Change], outcome: &Outcome) {
        let adopted: Vec<_> = match outcome {
            Outcome::Welcomed { adopted, .. } => adopted.clone(),
            _ => Vec::new(),
        };
        let now: BTreeSet<Key> = self.state.records().map(|r| r.key()).collect();
        for change in changes {
            let key = change.key();
            if matches!(key, Key::Meta | Key::Freed(_)) {
                continue;
            }
            match change {
                Change::Put(_) if now.contains(&key) => {}
                Change::Put(_) => {
                    let new = self.given.insert(key);
                    let brought_back = matches!(key, Key::Instance(id) if adopted.contains(&id));
                    assert!(new || brought_back, "{key} was given twice");
                }
                Change::Delete(_) => assert!(now.contains(&key), "{key} is deleted, and wasn't there"),
            }
        }
    }

    /// A drained instance or runner stays drained until it is undrained. A runner becomes silent by one command and
    /// is heard again by another.
    fn check_states(&self, before: &State, command: &Command) {
        let instances = |state: &State| -> BTreeMap<_, _> {
            let of = |record| if let Record::Instance(i) = record { Some((i.id, i.state)) } else { None };
            state.records().filter_map(of).collect()
        };
        let now = instances(&self.state);
        let drains =
            matches!(command, Command::Admin { what: AdminCommand::Drain { .. } | AdminCommand::DrainNode { .. }, .. });
        let undrains = matches!(
            command,
            Command::Admin { what: AdminCommand::Undrain { .. } | AdminCommand::UndrainNode { .. }, .. }
                | Command::Runner { what: RunnerCommand::Undrain { .. }, .. }
        );
        for (id, state) in instances(before) {
            match (state, now.get(&id)) {
                (InstanceState::Draining, Some(InstanceState::Live)) => assert!(undrains, "{id}: {command:?}"),
                (InstanceState::Live, Some(InstanceState::Draining)) => {
                    assert!(drains || matches!(command, Command::Runner { .. }), "{command:?}");
                }
                _ => {}
            }
        }
        for runner in self.state.active_runners() {
            let was = before.runner(runner.id).is_some_and(|runner| runner.silent);
            match (was, runner.silent) {
                (false, true) => {
                    assert!(matches!(command, Command::Silent { runners, .. } if runners.contains(&runner.id)));
                }
                (true, false) => assert!(
                    matches!(command, Command::Runner { by, what: RunnerCommand::Hello { .. } } if *by == runner.id)
                ),
                _ => {}
            }
        }
        for runner in before.active_runners() {
            let stands = self.state.runner(runner.id).is_some_and(|now| now.removed.is_none());
            assert!(stands || runner.ephemeral || !matches!(command, Command::Expire(_)), "{}", runner.id);
        }
    }

    /// The records, written as text and read back, make the same state.
    fn check_reload(&self) {
        let texts: Vec<(String, String)> = self
            .state
            .records()
            .map(|record| (record.key().to_string(), serde_json::to_string(&record).unwrap()))
            .collect();
        let records = texts.iter().rev().map(|(key, text)| {
            let record: Record = serde_json::from_str(text).unwrap();
            assert_eq!(key.parse(), Ok(record.key()));
            record
        });
        assert_eq!(State::load(self.state.revision(), records).unwrap(), self.state);
        assert!(self.state.running().0 <= self.now.0, "nothing rests from a time to come");
    }

    fn check_addresses(&mut self, before: &State) {
        let holders = |state: &State| {
            let addresses: Vec<Ipv4Addr> = state
                .records()
                .filter_map(|record| match record {
                    Record::Service(s) => Some(s.address),
                    Record::Instance(i) => Some(i.address),
                    _ => None,
                })
                .collect();
            let each: BTreeSet<Ipv4Addr> = addresses.iter().copied().collect();
            assert_eq!(each.len(), addresses.len(), "no address has two holders");
            each
        };
        let (was, is) = (holders(before), holders(&self.state));
        let Network { range, .. } = self.state.network();
        for address in &is {
            assert!(range.holds(*address) && *address != range.resolver());
        }
        for address in is.difference(&was) {
            if let Some(at) = self.freed.remove(address) {
                assert!(self.now.since(at) >= 600, "{address} didn't rest");
            }
        }
        for address in was.difference(&is) {
            self.freed.insert(*address, self.now);
        }
        let kept: BTreeSet<Ipv4Addr> = self
            .state
            .records()
            .filter_map(|r| if let Record::Freed(f) = r { Some(f.address) } else { None })
            .collect();
        assert_eq!(kept, self.freed.keys().copied().collect(), "just those that were freed rest");
    }

    fn check_views(&mut self, affected: &BTreeSet<RunnerId>) {
        let reference = Reference::new(&self.state);
        let mut views = BTreeMap::new();
        for runner in reference.runners() {
            let expected = reference.view(runner, EPOCH, self.state.revision());
            let view = self.state.view(runner, EPOCH);
            assert_eq!(view, expected, "{runner} knows just what it should");
            let Some(view) = view else { continue };
            if let Some(old) = self.views.get(&runner) {
                let delta = old.delta_to(&view);
                assert!(delta.is_empty() || affected.contains(&runner), "{runner} is affected: {delta:?}");
                let mut follower = old.clone();
                follower.apply(&delta).unwrap();
                assert_eq!(follower, view, "view and delta make the next view");
            }
            self.check_verdicts(&reference, &view);
            views.insert(runner, view);
        }
        self.views = views;
    }

    /// Slices that are kept make up the same views as slices that are worked out anew, and the same changes.
    fn check_slices(&mut self, affected: &Affected) {
        self.slices.touch(affected.deployments.iter().copied());
        let deployments =
            self.state.records().filter_map(|r| if let Record::Deployment(d) = r { Some(d.id) } else { None });
        let deployments: Vec<_> = deployments.collect();
        let mut sliced = BTreeMap::new();
        for (runner, view) in &self.views {
            let now = self.slices.view(&self.state, *runner, EPOCH).unwrap();
            assert_eq!(now.to_view(), *view, "{runner}");
            assert_eq!(now.runners().len(), view.runners().count());
            if let Some(before) = self.sliced.get(runner) {
                let (old, delta) = (before.to_view(), before.delta_to(&now));
                assert_eq!(delta, old.delta_to(view), "{runner}");
                assert_eq!(delta.is_empty(), before.is_like(&now), "{runner}");
                let gone: Vec<_> = before.gone(&now).collect();
                let expected = old.deployments().map(|d| d.id).filter(|id| view.deployment(*id).is_none());
                assert_eq!(gone, expected.collect::<Vec<_>>(), "{runner}");
            }
            for deployment in &deployments {
                assert_eq!(now.holds(*deployment), view.deployment(*deployment).is_some(), "{runner}");
            }
            sliced.insert(*runner, now);
        }
        self.sliced = sliced;
    }

    /// A runner judges its services' traffic as an observer with full knowledge would.
    fn check_verdicts(&self, reference: &Reference, view: &View) {
        let own: BTreeSet<_> = view.instances().filter(|i| i.runner == view.runner).map(|i| i.service).collect();
        let all = reference.services();
        for (s, t) in own.iter().flat_map(|s| all.iter().flat_map(move |t| [(*s, *t), (*t, *s)])) {
            for (source_port, destination_port, opens) in
                [(40_000, 80, true), (40_000, 443, true), (40_000, 80, false), (80, 40_000, false), (80, 80, true)]
            {
                let segment = Segment { source_port, destination_port, opens };
                let truth: Result<Direction, _> = verdict(reference, s, t, segment);
                assert_eq!(verdict(view, s, t, segment).ok(), truth.ok(), "{s} to {t}: {segment:?}");
                assert_eq!(verdict(&self.state, s, t, segment), truth, "{s} to {t}: {segment:?}");
            }
        }
    }

    /// `why` agrees with the verdict if an instance answers, and stays within the runner's scope.
    fn check_why(&self, op: &Op) {
        let (caller, callee) = op.pair();
        for runner in self.views.keys() {
            let reference = Reference::new(&self.state);
            match self.state.why(*runner, &caller, &callee, 80) {
                Ok(Answer::Why { allowed, steps }) => {
                    let (from, to) = (reference.find(&caller).unwrap(), reference.find(&callee).unwrap());
                    assert!(reference.may_know(*runner, &caller, &callee), "{caller} {callee}: {steps:?}");
                    let may = mesh_proto::rules::may_open(&reference, from, to, 80).is_ok();
                    assert_eq!(allowed, may && reference.is_answered(to));
                    assert_eq!(allowed, steps.iter().all(|s| s.ok), "{steps:?}");
                }
                Ok(other) => panic!("{other:?}"),
                Err(refusal) => {
                    check_refusal(&refusal);
                    assert!(!reference.may_know(*runner, &caller, &callee), "{refusal}");
                }
            }
        }
    }
}

/// A refusal says what happened, in one line without debug output.
fn check_refusal(refusal: &Refusal) {
    let text = refusal.to_string();
    assert!(text.len() > 10 && !text.contains('\n') && !text.contains("Label(") && !text.contains("None"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_sequence_of_commands_keeps_the_state_sound(ops in prop::collection::vec(ops::op(), 1..80)) {
        let mut world = World::new();
        for op in &ops {
            world.step(op);
        }
        for op in ops.iter().take(8) {
            world.check_why(op);
        }
    }

    /// Worlds in which most is declared, joined and attached from the start.
    #[test]
    fn a_busy_mesh_stays_sound(ops in prop::collection::vec(ops::op(), 1..60)) {
        let mut world = World::new();
        for op in ops::busy() {
            let before = world.state.revision();
            world.step(&op);
            prop_assert!(before < world.state.revision(), "{op:?}");
        }
        for op in &ops {
            world.step(op);
        }
        for op in ops.iter().take(8) {
            world.check_why(op);
        }
    }
}

/// One of two releases, or none.
pub(crate) fn release_of(number: u16) -> Option<mesh_proto::Release> {
    ["v1", "v2"].get(usize::from(number % 4)).and_then(|release| release.parse().ok())
}
