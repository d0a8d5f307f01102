//! Explains step by step whether a connection is allowed, within what the asking runner may know.

use std::sync::Arc;

use mesh_proto::{
    DeploymentId, Label, Ports, RunnerId, ServiceId, ServicePath,
    message::Answer,
    rules::Rules,
    why::{self, End, Explanation, Facts, Place, Presence},
};

use crate::{
    Admin, Refusal, State,
    record::{Runner, Service},
    refusal::HostRefusal,
};

/// The rules over the whole state, which the rules over views must agree with.
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
    /// The answer to [`mesh_proto::message::Ask::Why`]. The asking runner itself adds the path between the runners.
    ///
    /// # Errors
    /// If either service doesn't exist, or the runner may host neither, or may not know the other one.
    pub fn why(
        &self,
        asker: RunnerId,
        caller: &ServicePath,
        callee: &ServicePath,
        port: u16,
    ) -> Result<Answer, Refusal> {
        let runner = self.active_runner(asker)?;
        let (from, to) = self.both(runner, caller, callee)?;
        // A refused caller learns only that the callee exists.
        let Explanation { allowed, steps } = self.explain((caller, from), (callee, to), port, false);
        Ok(Answer::Why { allowed, steps })
    }

    /// The same for an administrator, about services of deployments that it may change.
    ///
    /// # Errors
    /// If either service doesn't exist, or belongs to another team.
    pub fn why_for(
        &self,
        reader: &Admin,
        caller: &ServicePath,
        callee: &ServicePath,
        port: u16,
    ) -> Result<Explanation, Refusal> {
        let own = |path: &ServicePath| {
            let deployment = self.own_deployment(reader, &path.deployment)?;
            self.known_service(deployment, &path.service)
        };
        let (from, to) = (own(caller)?, own(callee)?);
        Ok(self.explain((caller, from), (callee, to), port, true))
    }

    fn explain(
        &self,
        (caller, from): (&ServicePath, &Service),
        (callee, to): (&ServicePath, &Service),
        port: u16,
        discloses: bool,
    ) -> Explanation {
        let deployment = self.deployments.get(&to.deployment);
        let facts = Facts {
            caller: end(caller, from),
            callee: end(callee, to),
            port,
            trust_source: deployment.and_then(|entry| entry.shown.trust_source),
            discloses,
            instances: self.places(to.id),
            calling: self.instances_of(from.id).filter_map(|instance| instance.release.as_ref()).collect(),
        };
        why::explain(self, &facts)
    }

    /// Where the instances of a service are. The paths of their packets are not known here.
    fn places(&self, service: ServiceId) -> Vec<Place<'_>> {
        let places = self.instances_of(service).filter_map(|instance| {
            let runner = self.runner(instance.runner)?;
            let presence = if runner.silent { Presence::Silent } else { Presence::Heard };
            let release = instance.release.as_ref();
            Some(Place { runner: &runner.name, state: instance.state, release, presence, path: None })
        });
        places.collect()
    }

    /// Both services. The runner must be allowed to host one of them and to know of the other.
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

    /// The service at the other end. Beyond its scope the runner learns only of services that its views can hold,
    /// those connected by a grant. Any other service is reported as unknown.
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
