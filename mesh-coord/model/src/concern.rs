//! Whom a change concerns: for administrators who follow what changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mesh_proto::{
    DeploymentId, InstanceId, Label, RunnerId, ServiceId, ServicePath,
    view::{Instance, InstanceState},
};
use serde::Serialize;

use crate::{
    Admin, Change, Key, Record, State,
    record::{Audit, Purpose, Token},
    work,
};

/// A list of the administrators' API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum List {
    /// Deployments, and who may call them.
    Deployments,
    /// Services.
    Services,
    /// Instances.
    Instances,
    /// Runners.
    Nodes,
    /// Tokens.
    Tokens,
    /// Relays.
    Relays,
}

/// What a commit concerns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Concern {
    /// The lists that have changed for these teams; `None`: for administrators of all teams only.
    of: BTreeSet<(List, Option<Label>)>,
    /// The runners that have changed.
    runners: BTreeSet<RunnerId>,
    /// The instances that have changed, as they are now.
    instances: BTreeMap<InstanceId, Changed>,
    /// The deployments that have changed, with their trust lists.
    deployments: BTreeSet<DeploymentId>,
    /// The new entries of the audit.
    audit: Vec<Arc<Audit>>,
}

/// An instance that has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The instance.
    pub id: InstanceId,
    /// Its service.
    pub service: ServicePath,
    /// Its runner.
    pub runner: RunnerId,
    /// Which connections it takes; `None`: it has ended.
    pub state: Option<InstanceState>,
    team: Label,
}

impl Concern {
    /// Adds what the state, before or after the commit, says of its changes.
    pub fn add(&mut self, state: &State, changes: &[Change]) {
        for change in changes {
            work::step();
            let (list, team) = match change.key() {
                Key::Deployment(id) => {
                    self.deployments.insert(id);
                    (List::Deployments, state.team_label(id))
                }
                Key::Service(id) => (List::Services, state.team_of_service(id)),
                Key::Instance(id) => {
                    self.add_instance(state, id);
                    (List::Instances, state.team_of_instance(id))
                }
                Key::Token(id) => (List::Tokens, state.tokens.get(&id).and_then(|token| team_of_token(token))),
                Key::Relay(_) => (List::Relays, None),
                Key::Runner(id) | Key::Session(id) => {
                    self.runners.insert(id);
                    continue;
                }
                Key::Audit(_) | Key::Meta | Key::Freed(_) | Key::Owed(_) | Key::Calls(_) => continue,
            };
            self.of.insert((list, team));
        }
    }

    fn add_instance(&mut self, state: &State, id: InstanceId) {
        if let Some(changed) = state.instances.get(&id).and_then(|instance| state.changed(instance)) {
            self.instances.insert(id, changed);
        } else if let Some(changed) = self.instances.get_mut(&id) {
            changed.state = None;
        }
    }

    /// Adds the audit's entries.
    pub fn add_audit(&mut self, changes: &[Change]) {
        self.audit.extend(changes.iter().filter_map(|change| match change {
            Change::Put(Record::Audit(entry)) => Some(Arc::clone(entry)),
            _ => None,
        }));
    }

    /// The lists that have changed for the reader.
    #[must_use]
    pub fn lists(&self, state: &State, reader: &Admin) -> BTreeSet<List> {
        let of = self.of.iter().filter(|(_, team)| match team {
            Some(team) => reader.rules(team),
            None => reader.team.is_none(),
        });
        let mut lists: BTreeSet<List> = of.map(|(list, _)| *list).collect();
        let sees = |id: &RunnerId| state.runner(*id).is_some_and(|runner| state.sees(reader, runner));
        if self.runners.iter().any(sees) {
            lists.insert(List::Nodes);
        }
        lists
    }

    /// The new entries of the audit that the reader may see, in their order.
    pub fn audit(&self, reader: &Admin) -> impl Iterator<Item = &Audit> {
        self.audit.iter().map(AsRef::as_ref).filter(|entry| entry.is_seen_by(reader))
    }

    /// The instances that have changed, as far as the reader sees them.
    pub fn instances(&self, reader: &Admin) -> impl Iterator<Item = &Changed> {
        self.instances.values().filter(|changed| reader.rules(&changed.team))
    }

    /// The runners that have changed.
    pub fn runners(&self) -> impl Iterator<Item = RunnerId> {
        self.runners.iter().copied()
    }

    /// The deployments that have changed and are still there, as far as the reader sees them.
    pub fn deployments(&self, state: &State, reader: &Admin) -> Vec<Label> {
        let all = self.deployments.iter().filter_map(|id| state.deployments.get(id)).map(|entry| &entry.record);
        all.filter(|deployment| reader.rules(&deployment.team)).map(|deployment| deployment.name.clone()).collect()
    }

    /// Whether it concerns no list and has no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.of.is_empty() && self.runners.is_empty() && self.audit.is_empty()
    }
}

impl State {
    fn team_label(&self, id: DeploymentId) -> Option<Label> {
        self.deployments.get(&id).map(|entry| entry.record.team.clone())
    }

    pub(crate) fn team_of_service(&self, id: ServiceId) -> Option<Label> {
        self.team_label(self.services.get(&id)?.record.deployment)
    }

    fn changed(&self, instance: &Instance) -> Option<Changed> {
        let &Instance { id, service, runner, state, .. } = instance;
        let team = self.team_of_service(service)?;
        Some(Changed { id, service: self.path_of(service)?, runner, state: Some(state), team })
    }

    fn team_of_instance(&self, id: InstanceId) -> Option<Label> {
        self.team_of_service(self.instances.get(&id)?.service)
    }
}

/// The team whose administrators see the token in their list.
fn team_of_token(token: &Token) -> Option<Label> {
    match &token.purpose {
        Purpose::Relay { .. } => None,
        Purpose::Join { .. } | Purpose::Admin { .. } | Purpose::Role { .. } => token.owner().cloned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        AdminCommand, Command, NewPurpose,
        testing::{World, declared, file, label},
    };

    fn commit(world: &mut World, command: &Command) -> Concern {
        let decision = world.decide(command).unwrap();
        let mut concern = Concern::default();
        concern.add(&world.state, &decision.changes);
        world.commit(&decision.changes);
        concern.add(&world.state, &decision.changes);
        concern.add_audit(&decision.changes);
        concern
    }

    #[test]
    fn a_team_learns_of_its_own_changes_only() {
        let mut world = World::new();
        world
            .apply(vec![file(declared("shop", Some("acme"), ["db"])), file(declared("bank", Some("other"), ["vault"]))])
            .unwrap();
        let readers = ["acme", "other"].map(|team| Admin { team: Some(label(team)), ..world.admin.clone() });
        let told = |world: &World, concern: &Concern| {
            let of = |reader: &Admin| (concern.lists(&world.state, reader).len(), concern.audit(reader).count());
            [of(&readers[0]), of(&readers[1]), of(&Admin::socket(0))]
        };
        let delete = Command::Admin {
            by: world.admin.clone(),
            what: AdminCommand::Delete { deployment: label("shop"), force: true },
        };
        let concern = commit(&mut world, &delete);
        assert_eq!(told(&world, &concern), [(2, 1), (0, 0), (2, 1)], "the deployment and its service are gone");
        let token = world.token(NewPurpose::JoinTeams { teams: [label("other")].into(), uses: 1 });
        let revoke =
            Command::Admin { by: world.admin.clone(), what: AdminCommand::RevokeToken { token, with_nodes: false } };
        let concern = commit(&mut world, &revoke);
        assert_eq!(told(&world, &concern), [(0, 0), (1, 1), (1, 1)]);
        let token = world.token(NewPurpose::JoinTeams { teams: [label("other")].into(), uses: 1 });
        let concern = commit(&mut world, &Command::Enrol(crate::testing::enrolment(token, "one")));
        assert_eq!(told(&world, &concern), [(0, 0), (2, 1), (2, 1)], "a runner, and a use of its token");
    }
}
