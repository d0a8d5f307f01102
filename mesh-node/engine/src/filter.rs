//! The verdict, compiled: rules are kept as rules (deployment may call service), never expanded to addresses.
//!
//! `mesh_proto::rules` holds the reference that this has to agree with.

use std::collections::BTreeMap;

use mesh_proto::{
    DeploymentId, Direction, Label, Ports, Verdict, View,
    rules::{Denial, Segment},
};

use crate::{number::NumberMap, route::Service};

/// The rules of a view. What is absent grants nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    /// By service.
    deployments: Box<[u32]>,
    /// By deployment; `None` where the view doesn't say.
    teams: Box<[Option<u32>]>,
    /// By caller's deployment and callee.
    grants: NumberMap<u64, Ports>,
}

impl Filter {
    /// Compiles the rules that concern `services`, which are sorted by identifier.
    pub(crate) fn compile(view: &View, services: &[Service]) -> Self {
        let mut numbers: BTreeMap<DeploymentId, u32> = BTreeMap::new();
        let deployments = services
            .iter()
            .map(|service| {
                let next = numbers.len() as u32;
                view.service(service.id).map_or(next, |s| *numbers.entry(s.deployment).or_insert(next))
            })
            .collect();
        let mut names: BTreeMap<&Label, u32> = BTreeMap::new();
        let mut teams = vec![None; numbers.len()];
        for (id, number) in &numbers {
            if let Some(deployment) = view.deployment(*id) {
                let next = names.len() as u32;
                teams[*number as usize] = Some(*names.entry(&deployment.team).or_insert(next));
            }
        }
        let grants = view
            .grants()
            .filter_map(|grant| {
                let callee = services.binary_search_by_key(&grant.callee, |s| s.id).ok()?;
                Some((key(*numbers.get(&grant.caller)?, callee as u32), grant.ports.clone()))
            })
            .collect();
        Self { deployments, teams: teams.into(), grants }
    }

    /// The verdict on a segment that a service sends to another. Both are indexes of the services compiled with.
    #[inline]
    pub(crate) fn verdict(&self, source: u32, destination: u32, segment: Segment) -> Verdict {
        let (Some(&from), Some(&to)) =
            (self.deployments.get(source as usize), self.deployments.get(destination as usize))
        else {
            return Err(Denial::UnknownService);
        };
        if from == to {
            return Ok(Direction::Call);
        }
        match (self.teams[from as usize], self.teams[to as usize]) {
            (Some(a), Some(b)) if a == b => {}
            (Some(_), Some(_)) => return Err(Denial::AnotherTeam),
            _ => return Err(Denial::UnknownService),
        }
        let refusal = match self.grants.get(&key(from, destination)) {
            Some(ports) if ports.contain(segment.destination_port) => return Ok(Direction::Call),
            Some(_) => Denial::PortNotTrusted,
            None => Denial::NoTrust,
        };
        // The way back: the permission is the receiver's, and its port rule looks at the sender's port.
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
}

impl Filter {
    /// The deployment of a service, both by index.
    #[inline]
    pub(crate) fn deployment(&self, service: u32) -> u32 {
        self.deployments.get(service as usize).copied().unwrap_or(u32::MAX)
    }

    /// The team of each deployment, by index. Where the view doesn't say, a deployment is a team of its own.
    pub(crate) fn teams(&self) -> Box<[u32]> {
        let named = self.teams.iter().flatten().max().map_or(0, |last| last + 1);
        (named..).zip(&self.teams).map(|(own, team)| team.unwrap_or(own)).collect()
    }
}

const fn key(caller: u32, callee: u32) -> u64 {
    (caller as u64) << 32 | callee as u64
}

#[cfg(test)]
mod tests;
