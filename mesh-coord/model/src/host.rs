//! What runners report and host: their hello, endpoints and instances.

mod hello;
mod outside;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use mesh_proto::{
    InstanceId, Label, Range, Release, RunnerId, ServiceId, ServicePath,
    endpoint::{self, EndpointError, Fault},
    view::{Instance, InstanceState},
};

use crate::{
    Decision, Now, Outcome, Record, Refusal, State,
    audit::Note,
    draft::Draft,
    limits,
    record::{By, Outside, Runner, Scope, Service},
    refusal::{HostRefusal, at_most},
    state::HOST,
    words::Candidates,
};

pub(crate) use hello::hello;

/// Changes a runner's endpoints.
pub(crate) fn endpoints(
    state: &State,
    runner: &Arc<Runner>,
    endpoints: &[SocketAddr],
    outside: &Outside,
    now: Now,
) -> Result<Decision, Refusal> {
    let endpoints = usable_endpoints(runner, runner.seen, endpoints, state.meta.network.range)?;
    let outside = outside::usable(state, runner, runner.seen, &endpoints, outside)?;
    if (&endpoints, &outside) == (&runner.endpoints, &runner.outside) {
        return Ok(Draft::unchanged(Outcome::Noted));
    }
    let mut draft = Draft::new(state, now);
    draft.put(Record::Runner(Arc::new(Runner { endpoints, outside, ..(**runner).clone() })));
    Ok(draft.decided(Outcome::Noted))
}

/// Creates an instance on a runner.
pub(crate) fn attach(
    state: &State,
    runner: &Arc<Runner>,
    path: &ServicePath,
    client: bool,
    release: Option<Release>,
    now: Now,
) -> Result<Decision, Refusal> {
    let service = state.hostable(runner, path)?;
    let there = state.number_of(service.id);
    at_most(limits::INSTANCES_OF_SERVICE, there + 1, "instances", format!("the service `{path}`"))?;
    let here = state.number_on(runner.id);
    at_most(limits::INSTANCES_ON_RUNNER, here + 1, "instances", format!("the runner `{}`", runner.name))?;
    let both = state.instances_of(service.id).filter(|i| i.runner == runner.id).count();
    if !shares(both, there) {
        return Err(HostRefusal::ServiceShare { service: path.clone(), runner: runner.name.clone(), here: both }.into());
    }

    let deployment = state.deployments.get(&service.deployment).map(|e| &e.record);
    let mut draft = Draft::new(state, now);
    let address = draft.instance_address()?;
    if let Some(deployment) = deployment.filter(|deployment| state.room_for_addresses(deployment, now) == 0) {
        let whose = format!("the deployment `{}`", deployment.name);
        return Err(Refusal::Share { what: "addresses", whose, held: state.index.held.of(deployment.id) });
    }
    let instance = Instance {
        id: draft.instance_id(),
        service: service.id,
        runner: runner.id,
        address,
        state: state_of(client, runner.drained),
        release,
    };
    let outcome = Outcome::Attached { instance: instance.id, service: service.id, address: instance.address };
    draft.put(Record::Instance(Arc::new(instance)));
    if !client && both == 0 {
        note_hosting(&mut draft, runner, path, deployment.map(|deployment| &deployment.team));
    }
    Ok(draft.decided(outcome))
}

/// A runner that begins to receive a service's traffic is noted in the audit, once.
fn note_hosting(draft: &mut Draft<'_>, runner: &Runner, path: &ServicePath, team: Option<&Label>) {
    let service = path.to_string();
    let state = draft.state;
    let noted = || state.recent_of(runner, draft.now).filter(|entry| entry.action == HOST).count();
    if state.is_noted_to_host(runner.id, &service) || noted() >= limits::HOSTING_NOTED {
        return;
    }
    let detail = format!("{} `{}` begins to host `{service}`", runner.id, runner.name);
    draft.audit(Note::runner(By::Runner(runner.id), runner, HOST, detail).of(team).on(&service));
}

/// Ends an instance. A second time, or for another runner's instance, it changes nothing and reveals nothing.
pub(crate) fn detach(state: &State, runner: &Arc<Runner>, instance: InstanceId, now: Now) -> Decision {
    let mut draft = Draft::new(state, now);
    if let Some(instance) = state.instances.get(&instance).filter(|i| i.runner == runner.id) {
        draft.end_instance(instance);
    }
    draft.decided(Outcome::Detached)
}

/// Marks runners as silent: other runners are preferred.
pub(crate) fn silent(state: &State, runners: &BTreeSet<RunnerId>, held_back: Option<u64>, now: Now) -> Decision {
    let mut draft = Draft::new(state, now);
    let heard = runners.iter().filter_map(|id| state.active_runner(*id).ok()).filter(|runner| !runner.silent);
    let mut marked = 0_usize;
    for runner in heard {
        draft.put(Record::Runner(Arc::new(Runner { silent: true, ..(**runner).clone() })));
        marked += 1;
    }
    if let Some(seconds) = held_back.filter(|_| marked > 0) {
        let of = state.active_runners().count();
        let detail = format!("{marked} of {of} runners have had no stream at once, also not {seconds} s later");
        draft.audit(Note::by(By::Coordinator, "runners-silent", detail));
    }
    draft.decided(Outcome::Noted)
}

/// A newer stream replaced an open one.
pub(crate) fn taken_over(state: &State, runner: &Arc<Runner>, from: IpAddr, now: Now) -> Decision {
    let detail = format!("a second agent with the identity of {} `{}` came from {from}", runner.id, runner.name);
    note_now_and_then(state, runner, "stream-taken-over", detail, now)
}

/// A copy of the runner's machine was refused.
pub(crate) fn copy_refused(state: &State, runner: &Arc<Runner>, first: &str, from: IpAddr, now: Now) -> Decision {
    let detail = format!(
        "a copy of {} `{}` (provider {}), which is at {first}, came from {from} and was refused",
        runner.id, runner.name, runner.provider
    );
    note_now_and_then(state, runner, "copy-refused", detail, now)
}

/// Notes the same detail once an hour, and at most [`limits::TAKEOVERS_NOTED`] details, so that agents that compete
/// for one identity don't fill the audit.
fn note_now_and_then(state: &State, runner: &Runner, action: &str, detail: String, now: Now) -> Decision {
    let noted: Vec<_> = state.recent_of(runner, now).filter(|entry| entry.action == action).collect();
    if noted.len() >= limits::TAKEOVERS_NOTED || noted.iter().any(|entry| entry.detail == detail) {
        return Draft::unchanged(Outcome::Noted);
    }
    let mut draft = Draft::new(state, now);
    draft.audit(Note::runner(By::Runner(runner.id), runner, action, detail));
    draft.decided(Outcome::Noted)
}

/// Whether a runner that has `here` of a service's `there` instances may have one more. It may have no more than are
/// left for others, so that a runner that has none always gets one.
const fn shares(here: usize, there: usize) -> bool {
    here < limits::INSTANCES_OF_SERVICE_ON_RUNNER && here < limits::INSTANCES_OF_SERVICE.saturating_sub(there)
}

impl State {
    /// The service, if the runner may host it. It collects nothing for a refusal, because a hello asks thousands of
    /// times.
    pub(crate) fn hosted_at(&self, runner: &Runner, path: &ServicePath) -> Option<&Arc<Service>> {
        let deployment = self.deployment_named(&path.deployment)?;
        self.service_in(deployment.id, &path.service).filter(|_| Self::scope_holds(&runner.scope, deployment))
    }

    /// The service, if the runner may host it.
    pub(crate) fn hostable(&self, runner: &Runner, path: &ServicePath) -> Result<&Arc<Service>, Refusal> {
        let deployment = self.deployment_named(&path.deployment);
        let Some(deployment) = deployment.filter(|d| Self::scope_holds(&runner.scope, d)) else {
            let own = self.deployments.values().filter(|e| Self::scope_holds(&runner.scope, &e.record));
            let nearest = Candidates::of(&path.deployment, own.map(|e| &*e.record.name));
            let deployment = path.deployment.clone();
            return Err(match runner.scope {
                Scope::Any => Refusal::NoDeployment { name: deployment, nearest },
                _ => HostRefusal::OutOfScope {
                    deployment,
                    runner: runner.name.clone(),
                    scope: self.scope_in_words(&runner.scope),
                    nearest,
                }
                .into(),
            });
        };
        self.known_service(deployment, &path.service)
    }

    /// Whether the scope allows the instance.
    /// Whether a runner may host a service, or does.
    #[must_use]
    pub fn may_host(&self, runner: RunnerId, service: ServiceId) -> bool {
        let deployment = self.services.get(&service).and_then(|s| self.deployments.get(&s.record.deployment));
        let may = |scope: &Scope| deployment.is_some_and(|d| Self::scope_holds(scope, &d.record));
        self.runner(runner).is_some_and(|runner| may(&runner.scope))
            || self.instances_on(runner).any(|instance| instance.service == service)
    }

    pub(crate) fn may_run(&self, scope: &Scope, instance: &Instance) -> bool {
        let deployment = self.services.get(&instance.service).and_then(|s| self.deployments.get(&s.record.deployment));
        deployment.is_some_and(|d| Self::scope_holds(scope, &d.record))
    }
}

const fn state_of(client: bool, draining: bool) -> InstanceState {
    match (client, draining) {
        (true, _) => InstanceState::Client,
        (false, true) => InstanceState::Draining,
        (false, false) => InstanceState::Live,
    }
}

/// The endpoints that peers can use, without duplicates. Endpoints that mean something else on each machine are left
/// out: an agent may offer them while its machine has no other address, and peers would send to themselves or to a
/// stranger on their network.
fn usable_endpoints(
    runner: &Runner,
    seen: Option<SocketAddr>,
    endpoints: &[SocketAddr],
    range: Range,
) -> Result<Vec<SocketAddr>, Refusal> {
    at_most(limits::ENDPOINTS, endpoints.len(), "endpoints", format!("the runner `{}`", runner.name))?;
    let mut usable = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        let shown =
            is_shown(*endpoint, seen, range).map_err(|why| HostRefusal::BadEndpoint { endpoint: *endpoint, why })?;
        let endpoint = canonical(*endpoint);
        if shown && !usable.contains(&endpoint) {
            usable.push(endpoint);
        }
    }
    Ok(usable)
}

/// Whether peers are shown an endpoint. A loopback address counts only if the runner itself is seen at one, as when
/// the whole mesh runs on one machine.
///
/// # Errors
/// If no machine can have that address.
fn is_shown(endpoint: SocketAddr, seen: Option<SocketAddr>, range: Range) -> Result<bool, EndpointError> {
    match endpoint::check(endpoint, Some(range)) {
        Ok(()) => Ok(true),
        Err(EndpointError::Is(Fault::Loopback)) => Ok(seen.is_some_and(|seen| canonical(seen).ip().is_loopback())),
        Err(fault) if fault.is_local() => Ok(false),
        Err(fault) => Err(fault),
    }
}

/// Without IPv4-in-IPv6 mapping (RFC 4291 §2.5.5.2) and without a scope, which means nothing on other machines.
fn canonical(endpoint: SocketAddr) -> SocketAddr {
    SocketAddr::new(endpoint.ip().to_canonical(), endpoint.port())
}

#[cfg(test)]
mod tests;
