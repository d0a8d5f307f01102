//! What must hold for agents and clients.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use mesh_model::{Key, Record, State};
use mesh_proto::{Epoch, Revision, RunnerId, View, rules};

use super::{
    truth::{DEPLOYMENTS, EPOCH, RUNNERS},
    world::World,
};
use crate::{
    Failure,
    waits::{agent::Pace, operations::PORTS, world::deployment_name},
};

/// How long all takes until nothing is left of what was broken.
const SETTLED: Duration = Duration::from_secs(100);

impl World {
    /// A wait has ended.
    pub(super) fn wait_ended(
        &mut self,
        member: usize,
        (order, app): (u64, usize),
        revision: Revision,
        unconfirmed: &BTreeSet<RunnerId>,
    ) {
        self.note(format!("at coordinator {member}, the wait for {app} up to {revision} ends without {unconfirmed:?}"));
        let is_over = unconfirmed.is_empty();
        if is_over {
            self.tally.succeeded += 1;
            let settled = self.truth.settled.entry(app).or_insert(revision);
            *settled = revision.max(*settled);
            for runner in self.agents.keys().copied().collect::<Vec<_>>() {
                self.check_applied(runner);
            }
        } else {
            self.tally.failed += 1;
        }
        self.reply(order, revision);
    }

    /// No runner acts on a right that was taken back, once all have confirmed that.
    pub(super) fn check_applied(&mut self, runner: RunnerId) {
        let Some(applied) = self.agents.get(&runner).and_then(|one| one.agent.applied.as_ref()) else { return };
        let still = self.truth.settled.iter().find_map(|(app, settled)| self.taken_back(&applied.view, *app, *settled));
        if let Some(still) = still {
            self.wrong(format!("{runner} still lets {still}, which was taken back and confirmed"));
        }
    }

    /// A right to call the deployment that the view grants, and that nothing has granted since the revision.
    fn taken_back(&self, view: &View, app: usize, revision: Revision) -> Option<String> {
        let number = |deployment| {
            let name = &view.deployment(deployment)?.name;
            (0..DEPLOYMENTS).find(|number| deployment_name(*number) == *name)
        };
        for callee in view.services().filter(|service| number(service.deployment) == Some(app)) {
            for caller in view.services() {
                let Some(from) = number(caller.deployment).filter(|from| *from != app) else { continue };
                for port in PORTS {
                    let trusts = [(app, from, None), (app, from, Some(port))];
                    let mut since = self.truth.references_since(revision);
                    if rules::may_open(view, caller.id, callee.id, port).is_ok()
                        && !since.any(|reference| trusts.iter().any(|trust| reference.trust.contains(trust)))
                    {
                        return Some(format!("{from} call {app} on {port}"));
                    }
                }
            }
        }
        None
    }

    /// Nothing is broken any more: after a while all know the same, and each change is confirmed by all.
    pub(super) fn calm(&mut self) -> Result<(), Failure> {
        self.note("calm");
        self.calm = true;
        for member in 0..self.members.len() {
            self.heal(member);
            self.start(member);
        }
        for runner in self.agents.keys().copied().collect::<Vec<_>>() {
            if let Some(one) = self.agents.get_mut(&runner) {
                one.agent.pace = Pace::After(Duration::from_millis(10));
            }
            self.apply(runner);
        }
        let paused = self.members.iter().map(|member| member.paused_until.saturating_sub(self.now)).max();
        self.run_for(paused.unwrap_or_default() + SETTLED)?;
        self.check_all();
        for app in 0..DEPLOYMENTS {
            let failed = self.tally.failed + self.tally.lost;
            let succeeded = self.tally.succeeded;
            self.order_trust(app, Some(Duration::from_secs(10)));
            self.run_for(Duration::from_secs(15))?;
            if self.tally.failed + self.tally.lost > failed || self.tally.succeeded == succeeded {
                self.wrong(format!("all is calm, and a change of {app} is not confirmed by all"));
            }
        }
        self.calm = false;
        self.run_for(Duration::ZERO)
    }

    fn check_all(&mut self) {
        let revision = self.truth.state.revision();
        for member in 0..self.members.len() {
            let Some(program) = &self.members[member].program else {
                return self.wrong(format!("all is calm, and coordinator {member} does not run"));
            };
            let at = program.state.revision();
            if at != revision {
                return self.wrong(format!("all is calm, and coordinator {member} is at {at}"));
            }
            if records(&program.state) != records(&self.truth.state) {
                return self.wrong(format!("coordinator {member} has other records than etcd"));
            }
            for app in (0..DEPLOYMENTS).map(deployment_name) {
                if program.sessions.affected(&program.state, &app) != program.state.affected_by(&app) {
                    return self.wrong(format!("all is calm, and a runner still owes {app} at coordinator {member}"));
                }
            }
        }
        if self.agents.len() != RUNNERS {
            return self.wrong("all is calm, and a removed runner was not replaced");
        }
        for runner in self.agents.keys().copied().collect::<Vec<_>>() {
            let streams = self.members.iter().filter_map(|member| member.program.as_ref());
            let streams = streams.filter(|program| program.sessions.is_connected_here(runner)).count();
            if streams != 1 {
                return self.wrong(format!("all is calm, and {runner} has {streams} streams"));
            }
            let wanted = self.truth.state.view(runner, Epoch(EPOCH)).map(|view| contents(&view));
            let applied = self.agents.get(&runner).and_then(|one| one.agent.applied.as_ref());
            if applied.map(|applied| contents(&applied.view)) != wanted {
                return self.wrong(format!("all is calm, and {runner} has another map than it should have"));
            }
        }
    }
}

fn records(state: &State) -> BTreeMap<Key, Record> {
    state.records().map(|record| (record.key(), record)).collect()
}

fn contents(view: &View) -> BTreeSet<String> {
    view.records().map(|record| format!("{record:?}")).collect()
}
