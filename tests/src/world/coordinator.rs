//! What the coordinator does, and how views get from it into force.

use std::{collections::BTreeSet, net::Ipv4Addr, time::Duration};

use mesh_engine::{Engine, Map};
use mesh_model::{Admin, AdminCommand, Command, Outcome, Record, RunnerCommand, UnixSeconds};
use mesh_proto::{Abilities, PrivateKey, Record as ViewRecord, RunnerId, View, view::Runner as RunnerView};

use super::{Said, World};
use crate::{
    Failure,
    bug::{Bug, mixed, swapped},
    control::Message,
    hostile,
    network::Event,
};

/// How long an address rests at least: ten minutes, which the coordinator counts in whole seconds.
const REST: Duration = Duration::from_secs(599);

impl World {
    pub(crate) fn admin(&mut self, what: AdminCommand, words: String) -> bool {
        let done = self.commit(&Command::Admin { by: Admin::socket(0), what });
        self.note(format!("{words}: {}", done.as_ref().map_or_else(ToString::to_string, |_| "done".to_owned())));
        done.is_ok()
    }

    /// A runner's stream begins for the first time.
    pub(super) fn hello(&mut self, id: RunnerId, can: Abilities) {
        let endpoints = vec![self.runners[&id].address];
        let what = RunnerCommand::Hello {
            version: "0.2.0".to_owned(),
            can,
            endpoints,
            outside: mesh_model::record::Outside::default(),
            seen: None,
            instances: vec![],
        };
        self.commit(&Command::Runner { by: id, what }).expect("a hello with nothing in it is never refused");
    }

    pub(crate) fn endpoints(&mut self, id: RunnerId) {
        let endpoints = vec![self.runners[&id].address];
        let what = RunnerCommand::Endpoints { endpoints, outside: mesh_model::record::Outside::default() };
        self.commit(&Command::Runner { by: id, what }).expect("an endpoint is never refused");
    }

    pub(crate) fn commit(&mut self, command: &Command) -> Result<Outcome, mesh_model::Refusal> {
        let unix = UnixSeconds(1_700_000_000 + self.now.as_secs());
        let decision = self.state.decide(command, unix)?;
        if !decision.changes.is_empty() {
            let next = self.state.revision().next();
            let before = self.addresses();
            let affected = self.state.absorb(&decision.changes, next);
            self.check_rest(&before);
            self.publish(affected.runners);
        }
        Ok(decision.outcome)
    }

    fn addresses(&self) -> BTreeSet<Ipv4Addr> {
        let address = |record| match record {
            Record::Service(service) => Some(service.address),
            Record::Instance(instance) => Some(instance.address),
            _ => None,
        };
        self.state.records().filter_map(address).collect()
    }

    /// *Rest*: an address isn't reused for ten minutes.
    fn check_rest(&mut self, before: &BTreeSet<Ipv4Addr>) {
        let after = self.addresses();
        for address in after.difference(before) {
            if let Some(since) = self.freed.remove(address).filter(|since| self.now - *since < REST) {
                self.hasty = Some(format!("{address} has rested since {since:?} only"));
            }
        }
        self.freed.extend(before.difference(&after).map(|address| (*address, self.now)));
    }

    /// Sends each of these runners its changes.
    pub(crate) fn publish(&mut self, to: impl IntoIterator<Item = RunnerId>) {
        if self.away {
            return;
        }
        for id in to {
            let (Some(view), Some(runner)) = (self.state.view(id, self.epoch), self.runners.get_mut(&id)) else {
                continue;
            };
            let Some(message) = runner.sent.advance(view) else { continue };
            if self.bug == Some(Bug::DeltaDropped) && matches!(message, Message::Delta(_)) && self.rng.chance(25) {
                continue;
            }
            // A stream keeps its order.
            let event = Event::Control { runner: id, stream: runner.sent.stream, message };
            self.network.at(self.now + Duration::from_millis(20), event);
        }
    }

    /// Passes the view of a runner's agent to its engine.
    pub(crate) fn bring_into_force(&mut self, id: RunnerId) -> Result<(), Failure> {
        let view = self.runners.get(&id).and_then(|runner| runner.agent.view.as_ref());
        let lawless = self.is_hostile_runner(id);
        let map = |view: &View| if lawless { Map::compile(&hostile::lawless(view)) } else { compile(view, self.bug) };
        let Some(map) = view.map(map) else { return Ok(()) };
        let now = self.instant();
        self.ending(id, |engine, said| engine.handle_map(map, now, said))
    }

    /// Calls a runner's engine for an input that may end connections.
    pub(crate) fn ending(&mut self, id: RunnerId, action: impl FnOnce(&mut Engine, &mut Said)) -> Result<(), Failure> {
        self.ending = true;
        let result = self.engine(id, action);
        self.ending = false;
        result
    }

    /// Makes a runner's engine drop its tunnel to another one, whose agent restarts. The mock clock doesn't move the
    /// wall clock, so that a new tunnel sends older time stamps than the earlier one, like a replay.
    pub(crate) fn forget(&mut self, id: RunnerId, other: RunnerId) -> Result<(), Failure> {
        let Some(view) = self.runners.get(&id).and_then(|runner| runner.agent.view.as_ref()) else { return Ok(()) };
        // Another key makes another tunnel, but not another runner.
        let mut another = view.clone();
        if let Some(runner) = view.runner(other) {
            let public_key = PrivateKey::from_bytes([0xAA; 32]).public();
            another.put(ViewRecord::Runner(RunnerView { public_key, ..RunnerView::clone(runner) }.into()));
        }
        let now = self.instant();
        for map in [compile(&another, self.bug), compile(view, self.bug)] {
            self.engine(id, |engine, said| engine.handle_map(map, now, said))?;
        }
        Ok(())
    }
}

fn compile(view: &View, bug: Option<Bug>) -> Map {
    match bug {
        Some(Bug::DirectionSwapped) => Map::compile(&swapped(view)),
        Some(Bug::ReleasesMixed) => Map::compile(&mixed(view)),
        _ => Map::compile(view),
    }
}
