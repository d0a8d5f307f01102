//! Why a connection may be opened or not, by this runner's own view.

use std::{collections::BTreeMap, time::Duration};

use mesh_engine::{Hop, PathReport, PeerReport};
use mesh_proto::{
    Label, RelayId, RunnerId, ServicePath, View,
    message::{Refusal, Step},
    view::{Deployment, Instance, InstanceState, Runner, Service},
    why::{self, End, Explanation, Facts, Path, Place, Presence},
};

use crate::{control::Link, dataplane::Report, hint::Hint as _};

/// A handshake without an answer for this long is over: the next one begins.
pub(super) const DOUBTFUL: Duration = Duration::from_secs(5);

/// What the data plane says.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) report: Option<&'a Report>,
    /// A relay's name.
    pub(super) relay: &'a (dyn Fn(RelayId) -> String + Sync),
}

/// The connection that is asked about.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) caller: ServicePath,
    pub(super) callee: ServicePath,
    pub(super) port: u16,
}

/// What the view says; `None` if it is not for it to say: by least knowledge it holds the rules for the services of this
/// runner, and of others none or not all.
pub(super) fn explain(view: &View, seen: Seen<'_>, question: &Question) -> Option<Explanation> {
    let (caller, calling) = find(view, &question.caller)?;
    let (callee, called) = find(view, &question.callee)?;
    let caller_here = hosted(view, |service| service.deployment == calling.id);
    let callee_here = hosted(view, |service| service.id == callee.id);
    if calling.id != called.id && !caller_here && !callee_here {
        return None;
    }
    let end = |path, service: &Service| End {
        path,
        service: service.id,
        deployment: service.deployment,
        address: service.address,
    };
    Some(why::explain(
        view,
        &Facts {
            caller: end(&question.caller, caller),
            callee: end(&question.callee, callee),
            port: question.port,
            trust_source: called.trust_source,
            discloses: true,
            instances: places(view, seen, callee, calls_from_here(view, caller)),
            calling: instances(view, caller).filter_map(|instance| instance.release.as_ref()).collect(),
        },
    ))
}

/// What the coordinator said, with how this runner reaches the service, if its view holds that.
pub(super) fn with_local_path(view: &View, seen: Seen<'_>, question: &Question, said: Explanation) -> Explanation {
    let Some((callee, _)) = find(view, &question.callee) else { return said };
    let from_here = find(view, &question.caller).is_none_or(|(caller, _)| calls_from_here(view, caller));
    let places = places(view, seen, callee, from_here);
    let live = places.iter().filter(|place| place.state == InstanceState::Live);
    let paths: BTreeMap<&Label, &Path> = live.filter_map(|place| Some((place.runner, place.path.as_ref()?))).collect();
    let paths: Vec<(&Label, &Path)> = paths.into_iter().collect();
    said.with_paths(&question.caller, &question.callee, question.port, &paths)
}

/// The same on a runner that the coordinator refuses: the view at hand is an old one, and other runners drop what this one sends.
/// Connections within this runner go on.
pub(super) fn cut_off(mut said: Explanation, question: &Question, link: &Link) -> Explanation {
    let within = |step: &Step| step.step == "path" && step.code == "local";
    if !link.unknown || !said.allowed || said.steps.iter().any(within) {
        return said;
    }
    let Question { caller, callee, port } = question;
    let trouble = link.trouble.as_ref().map(|trouble| format!(": {}", one_line(&trouble.refusal())));
    let path = Step {
        step: "path".to_owned(),
        ok: false,
        code: if link.copy { "copied-runner" } else { "unknown-runner" }.to_owned(),
        detail: format!("this runner is cut off from all other runners{}", trouble.unwrap_or_default()),
    };
    let verdict = Step {
        step: "verdict".to_owned(),
        ok: false,
        code: "cut-off".to_owned(),
        detail: format!(
            "{caller} can't connect to {callee} on port {port} from here: other runners drop what this runner sends"
        ),
    };
    said.allowed = false;
    said.steps.retain(|step| step.step != "path" && step.step != "verdict");
    said.steps.extend([path, verdict]);
    said
}

/// A refusal and what to do about it, as one text.
fn one_line(Refusal { error, hint }: &Refusal) -> String {
    hint.iter().fold(error.clone(), |text, hint| format!("{text}; {hint}"))
}

fn find<'a>(view: &'a View, path: &ServicePath) -> Option<(&'a Service, &'a Deployment)> {
    let deployment = view.deployments().find(|d| d.name == path.deployment)?;
    let service = view.services().find(|s| s.deployment == deployment.id && s.name == path.service)?;
    Some((service, deployment))
}

/// Whether an instance of such a service runs here.
fn hosted(view: &View, such: impl Fn(&Service) -> bool) -> bool {
    view.instances()
        .filter(|instance| instance.runner == view.runner)
        .filter_map(|instance| view.service(instance.service))
        .any(|service| such(service))
}

fn instances<'a>(view: &'a View, of: &Service) -> impl Iterator<Item = &'a Instance> {
    let service = of.id;
    view.instances().map(AsRef::as_ref).filter(move |instance: &&Instance| instance.service == service)
}

/// Whether the caller's packets start on this runner, so that its paths count: an instance of it is here, or nowhere.
fn calls_from_here(view: &View, caller: &Service) -> bool {
    let mut instances = instances(view, caller).peekable();
    instances.peek().is_none() || instances.any(|instance| instance.runner == view.runner)
}

/// The instances of a service, this runner's first; with the way there from here where that counts.
fn places<'a>(view: &'a View, seen: Seen<'_>, callee: &Service, from_here: bool) -> Vec<Place<'a>> {
    let mut instances: Vec<(&'a Instance, &'a Runner)> = instances(view, callee)
        .filter_map(|instance| Some((instance, view.runner(instance.runner)?.as_ref())))
        .collect();
    instances.sort_by_key(|(instance, runner)| (runner.id != view.runner, runner.id, instance.id));
    let place = |(instance, runner): (&'a Instance, &'a Runner)| Place {
        runner: &runner.name,
        state: instance.state,
        release: instance.release.as_ref(),
        presence: presence(view, seen.report, instance, runner),
        path: from_here.then(|| path(view.runner, seen, runner)),
    };
    instances.into_iter().map(place).collect()
}

fn presence(view: &View, report: Option<&Report>, instance: &Instance, runner: &Runner) -> Presence {
    let attached = |report: &Report| report.engine.instances.iter().any(|held| held.instance == instance.id);
    match (runner.id == view.runner, report) {
        (true, Some(report)) if !attached(report) => Presence::Missing,
        (true, _) => Presence::Here,
        (false, _) if runner.silent => Presence::Silent,
        (false, _) => Presence::Heard,
    }
}

/// How a runner is reached, as `why` says it.
pub(super) fn path_in_words(own: RunnerId, seen: Seen<'_>, runner: &Runner) -> String {
    path(own, seen, runner).in_words(&runner.name)
}

fn path(own: RunnerId, seen: Seen<'_>, runner: &Runner) -> Path {
    if runner.id == own {
        return Path::Local;
    }
    let peer = seen.report.and_then(|report| report.engine.peers.iter().find(|peer| peer.runner == runner.id));
    match peer {
        Some(PeerReport { failing: Some(failing), .. }) if failing.since >= DOUBTFUL => Path::NoAnswer {
            tries: failing.tries.into(),
            seconds: failing.since.as_secs(),
            endpoints: failing.tried.clone(),
        },
        Some(PeerReport { endpoint: Some(endpoint), handshake_age: Some(age), .. }) => {
            Path::Direct { endpoint: *endpoint, handshake_seconds: age.as_secs() }
        }
        Some(PeerReport {
            path: Some(PathReport { hop: Hop::Relayed { relay, .. }, .. }),
            handshake_age: Some(age),
            ..
        }) => Path::Relayed { relay: (seen.relay)(*relay), handshake_seconds: age.as_secs() },
        _ if runner.endpoints.is_empty() && runner.relayed.is_empty() => Path::NoAddress,
        _ => Path::Untried { endpoints: runner.endpoints.clone() },
    }
}

#[cfg(test)]
mod tests;
