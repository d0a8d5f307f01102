//! Why a connection may be opened, or may not: step by step, within what the asking runner may know.

use std::sync::Arc;

use mesh_proto::{
    DeploymentId, Label, Ports, RunnerId, ServiceId, ServicePath,
    message::Answer,
    rules::Rules,
    view::Instance,
    why::{self, End, Explanation, Facts, Place, Presence},
};

use crate::{
    Refusal, State,
    record::{Runner, Service},
    refusal::HostRefusal,
};

/// The verdict's rules, over everything: the reference for what views hold.
impl Rules for State {
    fn deployment_of(&self, service: ServiceId) -> Option<DeploymentId> {
        self.services.get(&service).map(|s| s.record.deployment)
    }

    fn team_of(&self, deployment: DeploymentId) -> Option<&Label> {
        self.deployments.get(&deployment).map(|d| &d.record.team)
    }

    fn grant(&self, caller: DeploymentId, callee: ServiceId) -> Option<&Ports> {
        self.grants.get(caller, self.deployment_of(callee)?, callee).map(|grant| &grant.ports)
    }
}

impl State {
    /// The answer to [`mesh_proto::message::Ask::Why`]. The path between the runners is for the asking one to say.
    ///
    /// # Errors
    /// If there are no two such services, of which the asking runner may host one and know of the other one.
    pub fn why(
        &self,
        asker: RunnerId,
        caller: &ServicePath,
        callee: &ServicePath,
        port: u16,
    ) -> Result<Answer, Refusal> {
        let runner = self.standing(asker)?;
        let (from, to) = self.both(runner, caller, callee)?;
        let deployment = self.deployments.get(&to.deployment);
        let facts = Facts {
            caller: end(caller, from),
            callee: end(callee, to),
            port,
            trust_source: deployment.and_then(|entry| entry.shown.trust_source),
            // Where nothing may be called, nothing is said of it but that it is there.
            discloses: false,
            instances: self.places(to.id),
        };
        let Explanation { allowed, steps } = why::explain(self, &facts);
        Ok(Answer::Why { allowed, steps })
    }

    /// Where the instances of a service are. How packets go there is not known here.
    fn places(&self, service: ServiceId) -> Vec<Place<'_>> {
        let place = |instance: &Instance| {
            let runner = self.runner(instance.runner)?;
            let presence = if runner.silent { Presence::Silent } else { Presence::Heard };
            Some(Place { runner: &runner.name, state: instance.state, presence, path: None })
        };
        self.instances_of(service).filter_map(|instance| place(instance)).collect()
    }

    /// The two services. The runner must be allowed to host one of them, and to know of the other one.
    fn both(
        &self,
        runner: &Runner,
        caller: &ServicePath,
        callee: &ServicePath,
    ) -> Result<(&Service, &Service), Refusal> {
        match (self.hostable(runner, caller), self.hostable(runner, callee)) {
            (Ok(from), Ok(to)) => Ok((from, to)),
            (Ok(from), Err(refusal)) => {
                let to =
                    self.in_sight(callee, from, refusal, |scope| unknown(runner, scope, callee, caller, callee))?;
                Ok((from, to))
            }
            (Err(refusal), Ok(to)) => {
                let from =
                    self.in_sight(caller, to, refusal, |scope| unknown(runner, scope, caller, caller, callee))?;
                Ok((from, to))
            }
            (Err(refusal), Err(_)) => Err(refusal),
        }
    }

    /// The service at the other end. Beyond the scope only what views hold is told of (a rule leads from one end to the
    /// other, or back): what is kept from the runner is answered as what doesn't exist.
    fn in_sight(
        &self,
        path: &ServicePath,
        own: &Service,
        refusal: Refusal,
        unknown: impl FnOnce(String) -> HostRefusal,
    ) -> Result<&Arc<Service>, Refusal> {
        let Refusal::Host(HostRefusal::OutOfScope { scope, .. }) = refusal else { return Err(refusal) };
        let calls = |other: &Service| self.grants.number(other.deployment, own.deployment) > 0;
        let called = |other: &Service| self.grants.get(own.deployment, other.deployment, other.id).is_some();
        self.service_at(path).filter(|other| calls(other) || called(other)).ok_or_else(|| unknown(scope).into())
    }
}

fn unknown(
    runner: &Runner,
    scope: String,
    service: &ServicePath,
    caller: &ServicePath,
    callee: &ServicePath,
) -> HostRefusal {
    HostRefusal::OutOfSight {
        service: Box::new(service.clone()),
        runner: runner.name.clone(),
        scope,
        caller: caller.deployment.clone(),
        callee: callee.deployment.clone(),
    }
}

fn end<'a>(path: &'a ServicePath, service: &Service) -> End<'a> {
    End { path, service: service.id, deployment: service.deployment, address: service.address }
}

#[cfg(test)]
mod tests;
