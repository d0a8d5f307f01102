//! Why a connection may be opened, or may not: step by step, within what the asking runner may know.

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
    /// If there are no two such services, at least one of which the asking runner may host.
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

    /// The two services. The runner must be allowed to host one of them; else it hears the same as if neither existed.
    fn both(
        &self,
        runner: &Runner,
        caller: &ServicePath,
        callee: &ServicePath,
    ) -> Result<(&Service, &Service), Refusal> {
        let unknown = |path: &ServicePath| match self.deployment_named(&path.deployment) {
            None => Refusal::NoDeployment { name: path.deployment.clone(), nearest: None },
            Some(deployment) => {
                Refusal::NoService { deployment: deployment.name.clone(), name: path.service.clone(), nearest: None }
            }
        };
        let other = |path: &ServicePath| self.service_at(path).ok_or_else(|| unknown(path));
        match (self.hostable(runner, caller), self.hostable(runner, callee)) {
            (Ok(from), Ok(to)) => Ok((from, to)),
            (Ok(from), Err(_)) => Ok((from, other(callee)?)),
            (Err(_), Ok(to)) => Ok((other(caller)?, to)),
            (Err(refusal), Err(_)) => Err(refusal),
        }
    }
}

fn end<'a>(path: &'a ServicePath, service: &Service) -> End<'a> {
    End { path, service: service.id, deployment: service.deployment, address: service.address }
}

#[cfg(test)]
mod tests;
