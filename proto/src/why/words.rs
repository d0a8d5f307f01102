//! The steps in words, each with its code.

use std::{collections::BTreeSet, fmt::Display, net::SocketAddr};

use super::{Facts, Path, Place, Presence, code, shell_word};
use crate::{
    Label, Ports, Release, ServicePath,
    message::Step,
    rules::{Denial, Rules},
    view::{InstanceState, TrustSource},
};

fn step(step: &str, ok: bool, code: &str, detail: String) -> Step {
    Step { step: step.to_owned(), ok, code: code.to_owned(), detail }
}

pub(super) fn names(facts: &Facts<'_>, ruling: Result<(), Denial>) -> Step {
    let (caller, callee) = (&facts.caller, &facts.callee);
    let callee_words = if facts.discloses || ruling.is_ok() {
        format!("{} is {}", callee.path, callee.address)
    } else {
        format!("{} is declared", callee.path)
    };
    step("names", true, "known", format!("{} is {}, and {callee_words}", caller.path, caller.address))
}

pub(super) fn rule(rules: &impl Rules, facts: &Facts<'_>, ruling: Result<(), Denial>) -> Step {
    let (caller, callee) = (&facts.caller, &facts.callee);
    let (a, b, service) = (&caller.path.deployment, &callee.path.deployment, &callee.path.service);
    let ports = rules.grant(caller.deployment, callee.service);
    match ruling {
        Ok(()) if caller.deployment == callee.deployment => {
            let detail = format!("both are services of {a}, which may always call each other");
            step("rule", true, "same-deployment", detail)
        }
        Ok(()) => step("rule", true, "trusted", format!("{b} trusts {a} with `{service}` on {}", on(ports))),
        Err(Denial::AnotherTeam) => {
            let detail = format!("{a} and {b} belong to different teams, which never reach each other");
            step("rule", false, code(Denial::AnotherTeam), detail)
        }
        Err(denial @ Denial::PortNotTrusted) => {
            let detail = format!("{b} trusts {a} with `{service}` on {} only: {}", on(ports), remedy(facts));
            step("rule", false, code(denial), detail)
        }
        Err(Denial::NoTrust | Denial::UnknownService | Denial::WrongWay) => {
            let (code, back) = if rules.grant(callee.deployment, caller.service).is_some() {
                (code(Denial::WrongWay), format!(" ({b} may call {}, but trust goes one way)", caller.path))
            } else {
                (code(Denial::NoTrust), String::new())
            };
            step("rule", false, code, format!("{b} does not let {a} call `{service}`{back}: {}", remedy(facts)))
        }
    }
}

/// What would allow the connection. If a file sets the trust list, the command would be refused, so it isn't named.
fn remedy(facts: &Facts<'_>) -> String {
    let (a, b, port) = (&facts.caller.path.deployment, &facts.callee.path.deployment, facts.port);
    let service: &str = &facts.callee.path.service;
    let word = shell_word(service);
    let option = if service.starts_with('-') { format!("--service={word}") } else { format!("--service {word}") };
    let command = format!("`mesh-coord trust {a} --app {b} {option} --port {port}`");
    let key = format!("the `trust` key of {b}'s file");
    match facts.trust_source {
        Some(TrustSource::Command) => format!("an administrator of {b} can let it, with {command}"),
        Some(TrustSource::File) => {
            format!("{key} rules who may, and would have to name {a} with `{service}` on port {port}")
        }
        None => format!("{command} lets it, unless {key} rules who may"),
    }
}

fn on(ports: Option<&Ports>) -> String {
    match ports {
        None => "no port".to_owned(),
        Some(Ports::All) => "every port".to_owned(),
        Some(Ports::Only(ports)) if ports.len() == 1 => format!("port {}", list(ports)),
        Some(Ports::Only(ports)) => format!("ports {}", list(ports)),
    }
}

pub(super) fn runner(facts: &Facts<'_>, live: &[&Place<'_>]) -> Step {
    let callee = facts.callee.path;
    let refused = |code: &str, detail: String| step("runner", false, code, detail);
    if live.is_empty() {
        return absent(facts);
    }
    let has_session = |place: &Place<'_>| matches!(place.path, Some(Path::Direct { .. } | Path::Relayed { .. }));
    let there = |place: &Place<'_>| match place.presence {
        Presence::Heard | Presence::Here => true,
        Presence::Silent => has_session(place),
        Presence::Missing => false,
    };
    let (there, away): (Vec<&Place<'_>>, Vec<&Place<'_>>) = live.iter().copied().partition(|place| there(place));
    if !there.is_empty() {
        return step("runner", true, "runs", format!("{callee} runs on {}", list(on_runners(&there))));
    }
    let missing: Vec<&Place<'_>> = away.iter().copied().filter(|place| place.presence == Presence::Missing).collect();
    if missing.is_empty() {
        let runners = list(on_runners(&away));
        let detail = format!(
            "{callee} runs on {runners}, of which the coordinator hears nothing: is the machine up, and does the agent run \
             there?"
        );
        return refused("runner-silent", detail);
    }
    let detail = format!(
        "{callee} runs on {}, where its interface mesh0 is missing: `mesh-node status` there lists what is attached",
        list(on_runners(&missing))
    );
    refused("not-attached", detail)
}

/// Which instances each release of the caller reaches, if its instances have told one: where its own is there, that.
pub(super) fn release(facts: &Facts<'_>, live: &[&Place<'_>]) -> Option<Step> {
    let (caller, callee) = (&facts.caller, &facts.callee);
    if facts.calling.is_empty() || live.is_empty() || caller.deployment != callee.deployment {
        return None;
    }
    let of = |release: &Release| -> Vec<&Place<'_>> {
        live.iter().copied().filter(|place| place.release == Some(release)).collect()
    };
    let (own, other): (Vec<&Release>, Vec<&Release>) =
        facts.calling.iter().copied().partition(|release| !of(release).is_empty());
    let code = if other.is_empty() { "same-release" } else { "another-release" };
    let kept =
        own.iter().map(|release| format!("release {release} calls its own, on {}", list(on_runners(&of(release)))));
    let left = (!other.is_empty()).then(|| {
        let (of, callee) = (list(other), callee.path);
        format!("of release {of} no live instance of {callee} is there, so any may be called")
    });
    Some(step("release", true, code, kept.chain(left).collect::<Vec<_>>().join("; ")))
}

/// Why no instance gets new connections, and what would change that.
fn absent(facts: &Facts<'_>) -> Step {
    let callee = facts.callee.path;
    let attach = format!("`mesh-node attach {} --netns PATH`", shell_word(&callee.to_string()));
    let in_state = |state: InstanceState| -> Vec<&Place<'_>> {
        facts.instances.iter().filter(|place| place.state == state).collect()
    };
    let (draining, clients) = (in_state(InstanceState::Draining), in_state(InstanceState::Client));
    let (code, detail) = if !draining.is_empty() {
        let detail = format!(
            "every instance of {callee} is draining (on {}) and takes no new connections: {attach} on a runner that may host \
             it adds one that does",
            list(on_runners(&draining))
        );
        ("only-draining", detail)
    } else if !clients.is_empty() {
        let detail = format!(
            "every instance of {callee} only calls (on {}): {attach}, without --client, adds one that answers",
            list(on_runners(&clients))
        );
        ("only-clients", detail)
    } else {
        let detail =
            format!("no live instance of {callee} runs anywhere: {attach} on a runner that may host it adds one");
        ("no-live-instance", detail)
    };
    step("runner", false, code, detail)
}

fn on_runners(places: &[&Place<'_>]) -> BTreeSet<String> {
    let name = |place: &&Place<'_>| match place.presence {
        Presence::Here | Presence::Missing => format!("{} (this runner)", place.runner),
        Presence::Heard | Presence::Silent => place.runner.to_string(),
    };
    places.iter().map(name).collect()
}

/// The paths from this runner to the instances' runners. One that works is enough.
pub(super) fn path(paths: &[(&Label, &Path)]) -> Step {
    let best = paths.iter().find(|(_, path)| path.is_open()).or_else(|| paths.first());
    let code = best.map_or("no-address", |(_, path)| match path {
        Path::Local => "local",
        Path::Direct { .. } => "direct",
        Path::Relayed { .. } => "relay",
        Path::Untried { .. } => "untried",
        Path::NoAnswer { .. } => "no-answer",
        Path::NoAddress => "no-address",
    });
    let words: Vec<String> = paths.iter().map(|(runner, path)| way(runner, path)).collect();
    step("path", paths.iter().any(|(_, path)| path.is_open()), code, words.join("; "))
}

pub(super) fn way(runner: &Label, path: &Path) -> String {
    match path {
        Path::Local => "within this runner, nothing leaves the machine".to_owned(),
        Path::Direct { endpoint, handshake_seconds } => {
            format!("to {runner} at {endpoint}, direct, last handshake {handshake_seconds} s ago")
        }
        Path::Relayed { relay, handshake_seconds } => {
            format!("to {runner} by relay {relay}, last handshake {handshake_seconds} s ago")
        }
        Path::Untried { endpoints } if endpoints.is_empty() => {
            format!("to {runner}: no session yet; the first packet goes by a relay")
        }
        Path::Untried { endpoints } => {
            format!("to {runner}: no session yet; the first packet tries {}", list(endpoints))
        }
        Path::NoAddress => format!("to {runner}: the runner has named no address (`join --endpoint` there names one)"),
        Path::NoAnswer { tries, seconds, endpoints } => {
            let handshakes = if *tries == 1 { "handshake" } else { "handshakes" };
            format!(
                "to {runner}: {tries} {handshakes} in {seconds} s went unanswered at {}: does a firewall let {} to it \
                 through?",
                list(endpoints),
                udp(endpoints)
            )
        }
    }
}

/// What a firewall has to allow.
fn udp(endpoints: &[SocketAddr]) -> String {
    let ports: BTreeSet<u16> = endpoints.iter().map(SocketAddr::port).collect();
    format!("UDP {}", list(ports))
}

pub(super) fn denied(caller: &ServicePath, callee: &ServicePath, port: u16, denial: Denial) -> Step {
    step("verdict", false, "denied", format!("{caller} may not connect to {callee} on port {port}: {denial}"))
}

pub(super) fn verdict(caller: &ServicePath, callee: &ServicePath, port: u16, allowed: bool) -> Step {
    let may = format!("{caller} may connect to {callee} on port {port}");
    if allowed {
        step("verdict", true, "allowed", may)
    } else {
        step("verdict", false, "unanswered", format!("{may}, but nothing there would answer"))
    }
}

/// `a`, `a and b`, `a, b and c`; beyond twelve, how many more there are.
fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    const MOST: usize = 12;
    let mut items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.len() > MOST + 1 {
        let more = items.len() - MOST;
        items.truncate(MOST);
        items.push(format!("{more} more"));
    }
    match items.pop() {
        None => "none".to_owned(),
        Some(last) if items.is_empty() => last,
        Some(last) => format!("{} and {last}", items.join(", ")),
    }
}
