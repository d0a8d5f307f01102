//! Who no longer sees something of a deployment after a commit.

use std::collections::{BTreeMap, BTreeSet};

use mesh_proto::{DeploymentId, RunnerId};

use super::State;
use crate::{Change, Key, work};

/// The runners that have lost sight of each deployment. No set is empty.
pub type Lost = BTreeMap<DeploymentId, BTreeSet<RunnerId>>;

/// What is seen of some deployments before a commit.
#[derive(Debug, Default)]
pub(super) struct Sight(BTreeMap<DeploymentId, Seen>);

#[derive(Debug)]
struct Seen {
    /// The deployments that are connected with it by a grant.
    related: BTreeSet<DeploymentId>,
    hosts: Vec<RunnerId>,
}

impl State {
    /// What is seen of the touched deployments now, if these changes can take sight from a runner.
    pub(super) fn sight(&self, changes: &[Change]) -> Sight {
        let takes = |change: &Change| match change.key() {
            Key::Deployment(_) | Key::Service(_) => true,
            Key::Instance(_) => matches!(change, Change::Delete(_)),
            _ => false,
        };
        if !changes.iter().any(takes) {
            return Sight::default();
        }
        let seen = |of: DeploymentId| {
            work::step();
            let related = self.grants.callees(of).chain(self.grants.callers(of)).collect();
            Seen { related, hosts: self.hosts_in_order(of).to_vec() }
        };
        Sight(self.touched(changes).into_iter().map(|of| (of, seen(of))).collect())
    }

    /// The runners that see less now than they did before.
    pub(super) fn lost(&self, before: Sight) -> Lost {
        let mut lost = Lost::new();
        let mut note = |runner: RunnerId, of: DeploymentId| {
            if !self.is_seen_by(of, runner) {
                lost.entry(of).or_default().insert(runner);
            }
        };
        for (of, seen) in &before.0 {
            let hosts = self.hosts_in_order(*of);
            for runner in seen.hosts.iter().filter(|runner| hosts.binary_search(runner).is_err()) {
                note(*runner, *of);
                seen.related.iter().for_each(|related| note(*runner, *related));
            }
            for related in seen.related.iter().filter(|related| !self.are_related(*of, **related)) {
                seen.hosts.iter().for_each(|runner| note(*runner, *related));
                // Of a touched one, these are the hosts of before.
                let theirs =
                    before.0.get(related).map_or_else(|| self.hosts_in_order(*related), |seen| &seen.hosts[..]);
                theirs.iter().for_each(|runner| note(*runner, *of));
            }
        }
        lost
    }

    fn hosts_in_order(&self, of: DeploymentId) -> &[RunnerId] {
        self.index.hosts.get(&of).map_or(&[], |hosts| hosts)
    }

    fn are_related(&self, one: DeploymentId, other: DeploymentId) -> bool {
        self.grants.number(one, other) > 0 || self.grants.number(other, one) > 0
    }

    /// Whether a runner hosts the deployment, or one that is connected with it by a grant.
    fn is_seen_by(&self, of: DeploymentId, runner: RunnerId) -> bool {
        let homes = self.instances_on(runner).filter_map(|instance| self.services.get(&instance.service));
        let mut homes = homes.map(|service| service.record.deployment);
        homes.any(|home| home == of || self.are_related(home, of))
    }
}

#[cfg(test)]
mod tests {
    use mesh_proto::Revision;

    use super::*;
    use crate::{
        AdminCommand, Command, RunnerCommand, TrustChange,
        testing::{World, declared, file, label},
    };

    /// What a command takes from whom, by the deployments' names.
    fn taken(world: &mut World, command: &Command) -> Vec<(String, Vec<RunnerId>)> {
        let decision = world.decide(command).unwrap();
        let mut after = world.state.clone();
        let (_, lost) = after.absorb_shared(&decision.changes, after.revision().next());
        let name = |of| world.state.deployments.get(&of).unwrap().record.name.to_string();
        let taken = lost.into_iter().map(|(of, runners)| (name(of), runners.into_iter().collect())).collect();
        world.commit(&decision.changes);
        taken
    }

    fn order(world: &mut World, what: AdminCommand) -> Vec<(String, Vec<RunnerId>)> {
        let by = world.admin.clone();
        taken(world, &Command::Admin { by, what })
    }

    /// `api` may call `shop`, and each is on a runner of its own.
    fn trusting() -> (World, [RunnerId; 2]) {
        let mut world = World::new();
        for (name, service) in [("shop", "db"), ("api", "grpc")] {
            world.apply(vec![file(declared(name, Some("acme"), [service]))]).unwrap();
        }
        world.trust("shop", &["api"]).unwrap();
        let runners = [world.join("r1"), world.join("r2")];
        world.attach(runners[0], "shop/db");
        world.attach(runners[1], "api/grpc");
        (world, runners)
    }

    fn named(names: &[(&str, &[RunnerId])]) -> Vec<(String, Vec<RunnerId>)> {
        names.iter().map(|(name, runners)| ((*name).to_owned(), runners.to_vec())).collect()
    }

    #[test]
    fn a_trust_that_is_taken_back_takes_each_from_the_other() {
        let (mut world, [callee, caller]) = trusting();
        let deployment = label("shop");
        let taken = order(&mut world, AdminCommand::Trust { deployment, change: TrustChange::Clear });
        assert_eq!(taken, named(&[("shop", &[caller]), ("api", &[callee])]));
    }

    #[test]
    fn the_last_instance_of_a_runner_takes_all_from_it_that_it_sees_by_no_other() {
        let (mut world, [callee, caller]) = trusting();
        let (second, _) = world.attach(caller, "api/grpc");
        let (own, _) = world.attach(callee, "api/grpc");
        let detach = |by, instance| Command::Runner { by, what: RunnerCommand::Detach { instance } };
        assert_eq!(taken(&mut world, &detach(caller, second)), [], "another one is there");
        assert_eq!(taken(&mut world, &detach(callee, own)), [], "it is called by that deployment");
        let last = world.state.instances_on(caller).next().unwrap().id;
        assert_eq!(taken(&mut world, &detach(caller, last)), named(&[("shop", &[caller]), ("api", &[caller])]));
    }

    #[test]
    fn where_one_coordinator_serves_nothing_is_looked_for() {
        let (world, _) = trusting();
        let what = AdminCommand::Trust { deployment: label("shop"), change: TrustChange::Clear };
        let decision = world.decide(&Command::Admin { by: world.admin.clone(), what }).unwrap();
        let steps = |absorb: &dyn Fn(&mut State, Revision)| {
            let (mut state, before) = (world.state.clone(), work::steps());
            let revision = state.revision().next();
            absorb(&mut state, revision);
            work::steps() - before
        };
        let alone = steps(&|state, revision| drop(state.absorb(&decision.changes, revision)));
        let shared = steps(&|state, revision| drop(state.absorb_shared(&decision.changes, revision)));
        assert_eq!(shared - alone, 1, "what is seen of the deployment that is touched");
    }

    #[test]
    fn a_deployment_that_is_deleted_is_taken_from_all_and_takes_what_it_called() {
        let (mut world, [callee, caller]) = trusting();
        let taken = order(&mut world, AdminCommand::Delete { deployment: label("api"), force: true });
        assert_eq!(taken, named(&[("shop", &[caller]), ("api", &[callee, caller])]));
    }
}
