//! The verdict, compiled. Rules stay rules (a deployment may call a service) and are never expanded to addresses.
//!
//! The reference is in `mesh_proto::rules`; tests compare the two.

use std::collections::BTreeMap;

use mesh_proto::{
    DeploymentId, Direction, Label, Ports, Verdict, View,
    rules::{Denial, Segment},
};

use crate::{
    index::{DeploymentIx, Ix as _, IxVec, ServiceIx, TeamIx},
    number::NumberMap,
    route::Service,
};

/// The rules of a view. What is absent grants nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    deployments: IxVec<ServiceIx, DeploymentIx>,
    /// `None` if the view doesn't hold the deployment.
    teams: IxVec<DeploymentIx, Option<TeamIx>>,
    /// By the caller's deployment and the callee.
    grants: NumberMap<u64, Ports>,
}

impl Filter {
    /// Compiles the rules for `services`, which are sorted by identifier.
    pub(crate) fn compile(view: &View, services: &IxVec<ServiceIx, Service>) -> Self {
        let mut numbers: BTreeMap<DeploymentId, DeploymentIx> = BTreeMap::new();
        let deployments = services
            .values()
            .map(|service| {
                let next = DeploymentIx::new(numbers.len());
                view.service(service.id).map_or(next, |s| *numbers.entry(s.deployment).or_insert(next))
            })
            .collect();
        let mut names: BTreeMap<&Label, TeamIx> = BTreeMap::new();
        let mut teams: IxVec<DeploymentIx, Option<TeamIx>> = numbers.iter().map(|_| None).collect();
        for (id, number) in &numbers {
            if let Some(deployment) = view.deployment(*id) {
                let next = TeamIx::new(names.len());
                teams[*number] = Some(*names.entry(&deployment.team).or_insert(next));
            }
        }
        let grants = view
            .grants()
            .filter_map(|grant| {
                let callee = services.find_by(&grant.callee, |s| s.id)?;
                Some((key(*numbers.get(&grant.caller)?, callee), grant.ports.clone()))
            })
            .collect();
        Self { deployments, teams, grants }
    }

    /// The verdict on a segment from one service to another.
    #[inline]
    pub(crate) fn verdict(&self, source: ServiceIx, destination: ServiceIx, segment: Segment) -> Verdict {
        let (Some(&from), Some(&to)) = (self.deployments.get(source), self.deployments.get(destination)) else {
            return Err(Denial::UnknownService);
        };
        if from == to {
            return Ok(Direction::Call);
        }
        match (self.teams[from], self.teams[to]) {
            (Some(a), Some(b)) if a == b => {}
            (Some(_), Some(_)) => return Err(Denial::AnotherTeam),
            _ => return Err(Denial::UnknownService),
        }
        let refusal = match self.grants.get(&key(from, destination)) {
            Some(ports) if ports.contain(segment.destination_port) => return Ok(Direction::Call),
            Some(_) => Denial::PortNotTrusted,
            None => Denial::NoTrust,
        };
        // The reply direction: the grant is the receiver's, and its port rule applies to the sender's port.
        match self.grants.get(&key(to, source)) {
            Some(ports) if ports.contain(segment.source_port) => {}
            _ => return Err(refusal),
        }
        match (segment.opens, refusal) {
            (false, _) => Ok(Direction::Reply),
            (true, Denial::NoTrust) => Err(Denial::WrongWay),
            (true, refusal) => Err(refusal),
        }
    }

    /// The deployment of a service.
    #[inline]
    pub(crate) fn deployment(&self, service: ServiceIx) -> DeploymentIx {
        self.deployments.get(service).copied().unwrap_or(DeploymentIx::UNKNOWN)
    }

    /// The team of each deployment. A deployment that the view doesn't hold is a team of its own.
    pub(crate) fn teams(&self) -> IxVec<DeploymentIx, TeamIx> {
        let named = self.teams.values().flatten().max().map_or(0, |last| last.0 + 1);
        (named..).zip(self.teams.values()).map(|(own, team)| team.unwrap_or(TeamIx(own))).collect()
    }
}

const fn key(caller: DeploymentIx, callee: ServiceIx) -> u64 {
    (caller.0 as u64) << 32 | callee.0 as u64
}

#[cfg(test)]
mod tests;
