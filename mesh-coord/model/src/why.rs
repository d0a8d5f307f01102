//! Why a connection may be opened, or may not: step by step, within what the asking runner may know.

use std::collections::BTreeSet;

use mesh_proto::{
    DeploymentId, Label, Ports, RunnerId, ServiceId, ServicePath,
    message::{Answer, Step},
    rules::{self, Denial, Rules},
    view::InstanceState,
};

use crate::{
    Refusal, State,
    record::{Runner, Service, TrustSource},
    words::{list, quoted},
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
        let verdict = rules::may_open(self, from.id, to.id, port);
        let mut steps = vec![
            step("names", true, format!("{caller} has the service address {}", from.address)),
            // Where nothing may be called, nothing is told of it but that it is there.
            step(
                "names",
                true,
                match verdict {
                    Ok(()) => format!("{callee} has the service address {}", to.address),
                    Err(_) => format!("{callee} is declared"),
                },
            ),
            self.rule(caller, callee, port, from, to, verdict),
        ];
        let mut allowed = verdict.is_ok();
        if allowed {
            let (there, detail) = self.runners_in_words(to, callee);
            steps.push(step("runner", there, detail));
            allowed = there;
        }
        let detail = match verdict {
            Ok(()) if allowed => format!("{caller} may connect to {callee} on port {port}"),
            Ok(()) => format!("{caller} may connect to {callee} on port {port}, but nobody is there to answer"),
            Err(denial) => format!("{caller} may not connect to {callee} on port {port}: {denial}"),
        };
        steps.push(step("verdict", allowed, detail));
        Ok(Answer::Why { allowed, steps })
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

    fn rule(
        &self,
        caller: &ServicePath,
        callee: &ServicePath,
        port: u16,
        from: &Service,
        to: &Service,
        verdict: Result<(), Denial>,
    ) -> Step {
        let (a, b) = (&caller.deployment, &callee.deployment);
        // Where a file rules the command is refused. Which file that is concerns whoever deploys, and not every runner.
        let ruled = self.deployments.get(&to.deployment).is_some_and(|d| d.record.trust_source != TrustSource::Command);
        let add = if ruled {
            let callee = quoted(&callee.service);
            format!(
                "the `trust` key of {b}'s file rules who may, and would have to name {a} with {callee} on port {port}"
            )
        } else {
            format!("`mesh-coord trust {a} --app {b} --service '{}' --port {port}` would add it", callee.service)
        };
        let ports = Rules::grant(self, from.deployment, to.id);
        let detail = match verdict {
            Ok(()) if from.deployment == to.deployment => {
                format!("both are services of {a}, which may always call each other")
            }
            Ok(()) => format!("{b} trusts {a} with {} on {}", quoted(&callee.service), ports_in_words(ports)),
            Err(Denial::PortNotTrusted) => {
                format!("{b} trusts {a} with {} on {} only: {add}", quoted(&callee.service), ports_in_words(ports))
            }
            Err(Denial::AnotherTeam) => {
                format!("{a} and {b} belong to different teams, which never reach each other")
            }
            Err(Denial::NoTrust | Denial::UnknownService | Denial::WrongWay) => {
                let back = if Rules::grant(self, to.deployment, from.id).is_some() {
                    format!(" ({b} may call {caller}, but trust goes one way)")
                } else {
                    String::new()
                };
                format!("{b} does not let {a} call {}{back}: {add}", quoted(&callee.service))
            }
        };
        step("rule", verdict.is_ok(), detail)
    }

    /// Where the callee takes connections.
    fn runners_in_words(&self, to: &Service, callee: &ServicePath) -> (bool, String) {
        let live = self.instances_of(to.id).filter(|i| i.state == InstanceState::Live);
        let names: BTreeSet<&Label> = live.filter_map(|i| Some(&self.runner(i.runner)?.name)).collect();
        if names.is_empty() {
            return (false, format!("{callee} has no live instance: `mesh-node attach {callee}` on a runner adds one"));
        }
        (true, format!("{callee} runs on {}", list(names)))
    }
}

fn step(step: &str, ok: bool, detail: String) -> Step {
    Step { step: step.to_owned(), ok, detail }
}

fn ports_in_words(ports: Option<&Ports>) -> String {
    match ports {
        None => "no port".to_owned(),
        Some(Ports::All) => "every port".to_owned(),
        Some(Ports::Only(ports)) if ports.len() == 1 => format!("port {}", list(ports)),
        Some(Ports::Only(ports)) => format!("ports {}", list(ports)),
    }
}

#[cfg(test)]
mod tests;
