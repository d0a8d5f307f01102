//! Why a connection may be opened or not, as far as this runner's own view goes.

use mesh_proto::{
    DeploymentId, Ports, RunnerId, ServicePath, View,
    message::Step,
    rules::{Denial, may_open},
    view::{Deployment, InstanceState, Runner, Service},
};

use crate::{dataplane::Report, local::Verdict};

/// A connection that somebody asks about.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) caller: ServicePath,
    pub(super) callee: ServicePath,
    pub(super) port: u16,
}

/// What the view says; `None` if it is not for it to say: by least knowledge it holds the rules for the services of this
/// runner, and of others none or not all.
pub(super) fn explain(view: &View, report: Option<&Report>, question: &Question) -> Option<(Verdict, Vec<Step>)> {
    let (caller, calling) = find(view, &question.caller)?;
    let (callee, called) = find(view, &question.callee)?;
    let caller_here = hosted(view, |service| service.deployment == calling.id);
    let callee_here = hosted(view, |service| service.id == callee.id);
    if calling.id != called.id && !caller_here && !callee_here {
        return None;
    }
    let Question { port, .. } = question;
    let names = format!("{} is {}, and {} is {}", question.caller, caller.address, question.callee, callee.address);
    let ruling = may_open(view, caller.id, callee.id, *port);
    let rule = match ruling {
        Ok(()) if calling.id == called.id => format!("both are of {}", calling.name),
        Ok(()) => format!(
            "{} trusts {}: its services may call {}{}",
            called.name,
            calling.name,
            callee.name,
            on(view, calling.id, callee)
        ),
        Err(denial) => refused(view, denial, (calling, caller), (called, callee), *port),
    };
    let mut steps = vec![step("names", true, names), step("rule", ruling.is_ok(), rule)];
    if ruling.is_ok() {
        let live = live(view, callee);
        steps.push(runner_step(view, &question.callee, &live));
        if caller_here {
            steps.extend(path_step(view, report, &live));
        }
    }
    let verdict = if ruling.is_ok() { Verdict::Allow } else { Verdict::Deny };
    let words = if ruling.is_ok() { "may open connections to" } else { "may not open connections to" };
    steps.push(step(
        "verdict",
        ruling.is_ok(),
        format!("{} {words} port {port} of {}", question.caller, question.callee),
    ));
    Some((verdict, steps))
}

/// How this runner reaches a service, to go with what the coordinator says of the rest. `None` if its view doesn't hold
/// that service.
pub(super) fn local_path(view: &View, report: Option<&Report>, callee: &ServicePath) -> Option<Step> {
    let (callee, _) = find(view, callee)?;
    path_step(view, report, &live(view, callee))
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

/// The ports of a trust, in words.
fn on(view: &View, caller: DeploymentId, callee: &Service) -> String {
    match view.grant(caller, callee.id).map(|grant| &grant.ports) {
        Some(Ports::Only(ports)) => {
            let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
            format!(" on {}", ports.join(", "))
        }
        _ => String::new(),
    }
}

fn refused(
    view: &View,
    denial: Denial,
    (calling, _): (&Deployment, &Service),
    (called, callee): (&Deployment, &Service),
    port: u16,
) -> String {
    let command = |more: &str| {
        let service = shell_word(&callee.name);
        format!("`mesh-coord trust {} --app {} --service {service}{more}` would let it", calling.name, called.name)
    };
    match denial {
        Denial::AnotherTeam => format!(
            "{} is of team {} and {} of team {}: deployments of different teams never reach each other",
            calling.name, calling.team, called.name, called.team
        ),
        Denial::PortNotTrusted => format!(
            "{} trusts {} to call {}{}, and not on {port}; {}",
            called.name,
            calling.name,
            callee.name,
            on(view, calling.id, callee),
            command(&format!(" --port {port}"))
        ),
        Denial::NoTrust | Denial::WrongWay | Denial::UnknownService => {
            format!("{} does not trust {} to call {}; {}", called.name, calling.name, callee.name, command(""))
        }
    }
}

/// The name as a shell has to be given it.
fn shell_word(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    if name.chars().all(plain) { name.to_owned() } else { format!("'{}'", name.replace('\'', r"'\''")) }
}

/// The runners with live instances of a service, this one first.
fn live<'a>(view: &'a View, callee: &Service) -> Vec<&'a Runner> {
    let mut runners: Vec<RunnerId> = view
        .instances()
        .filter(|instance| instance.service == callee.id && instance.state == InstanceState::Live)
        .map(|instance| instance.runner)
        .collect();
    runners.sort_by_key(|runner| (*runner != view.runner, *runner));
    runners.dedup();
    runners.into_iter().filter_map(|runner| view.runner(runner).map(AsRef::as_ref)).collect()
}

fn runner_step(view: &View, callee: &ServicePath, live: &[&Runner]) -> Step {
    let name = |runner: &&Runner| {
        if runner.id == view.runner { format!("{} (this runner)", runner.name) } else { runner.name.to_string() }
    };
    match live {
        [] => step(
            "runner",
            false,
            format!("no live instance of {callee} runs anywhere: `mesh-node attach {callee}` makes one"),
        ),
        _ => step("runner", true, format!("{callee} runs on {}", live.iter().map(name).collect::<Vec<_>>().join(", "))),
    }
}

/// How this runner reaches those that have the service; `None` if there are none.
fn path_step(view: &View, report: Option<&Report>, live: &[&Runner]) -> Option<Step> {
    let paths: Vec<(bool, String)> = live.iter().map(|runner| path(view, report, runner)).collect();
    let ok = paths.iter().any(|(ok, _)| *ok);
    let words: Vec<String> = paths.into_iter().map(|(_, words)| words).collect();
    (!words.is_empty()).then(|| step("path", ok, words.join("; ")))
}

fn path(view: &View, report: Option<&Report>, runner: &Runner) -> (bool, String) {
    if runner.id == view.runner {
        return (true, "within this runner, nothing leaves the machine".to_owned());
    }
    let peer = report.and_then(|report| report.engine.peers.iter().find(|peer| peer.runner == runner.id));
    match peer.and_then(|peer| Some((peer.endpoint?, peer.handshake_age?))) {
        Some((endpoint, age)) => {
            (true, format!("to {} at {endpoint}, direct, last handshake {} s ago", runner.name, age.as_secs()))
        }
        // A handshake is made when there is something to send, not before.
        None if runner.endpoints.is_empty() => (false, format!("to {}: it has told no address", runner.name)),
        None => {
            let endpoints: Vec<String> = runner.endpoints.iter().map(ToString::to_string).collect();
            (true, format!("to {}: no session yet; the first packet tries {}", runner.name, endpoints.join(", ")))
        }
    }
}

fn step(step: &str, ok: bool, detail: String) -> Step {
    Step { step: step.to_owned(), ok, detail }
}

#[cfg(test)]
mod tests;
