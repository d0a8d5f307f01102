//! How much of the shared resources each deployment and each team holds.

use std::collections::BTreeMap;

use mesh_proto::{DeploymentId, Label};

use super::State;

/// Addresses held. Zero is not stored.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    deployments: BTreeMap<DeploymentId, (Label, usize)>,
    teams: BTreeMap<Label, usize>,
}

impl Held {
    pub(crate) fn of(&self, deployment: DeploymentId) -> usize {
        self.deployments.get(&deployment).map_or(0, |(_, held)| *held)
    }

    pub(crate) fn of_team(&self, team: &Label) -> usize {
        self.teams.get(team).copied().unwrap_or_default()
    }

    fn set(&mut self, deployment: DeploymentId, now: Option<(Label, usize)>) {
        if let Some((team, held)) = self.deployments.remove(&deployment)
            && let Some(all) = self.teams.get_mut(&team)
        {
            *all -= held;
            if *all == 0 {
                self.teams.remove(&team);
            }
        }
        if let Some((team, held)) = now.filter(|(_, held)| *held > 0) {
            *self.teams.entry(team.clone()).or_default() += held;
            self.deployments.insert(deployment, (team, held));
        }
    }
}

/// Bytes of declared names. Zero is not stored.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    deployments: BTreeMap<DeploymentId, usize>,
    all: usize,
}

impl Names {
    pub(crate) fn of(&self, deployment: DeploymentId) -> usize {
        self.deployments.get(&deployment).copied().unwrap_or_default()
    }

    pub(crate) const fn all(&self) -> usize {
        self.all
    }

    pub(crate) fn add(&mut self, deployment: DeploymentId, bytes: usize) {
        if bytes > 0 {
            *self.deployments.entry(deployment).or_default() += bytes;
            self.all += bytes;
        }
    }

    pub(crate) fn take(&mut self, deployment: DeploymentId, bytes: usize) {
        if let Some(held) = self.deployments.get_mut(&deployment) {
            *held -= bytes;
            self.all -= bytes;
            if *held == 0 {
                self.deployments.remove(&deployment);
            }
        }
    }
}

impl State {
    /// Counts a deployment's addresses anew.
    pub(crate) fn count_held(&mut self, deployment: DeploymentId) {
        let held: usize = self.services_of(deployment).map(|s| 1 + self.number_of(s.record.id)).sum();
        let team = self.deployments.get(&deployment).map(|e| e.record.team.clone());
        self.index.held.set(deployment, team.map(|team| (team, held)));
    }
}
