//! One deployment: its services, and who may call it.

use maud::{Markup, html};

use super::{act, deployment_link, deployment_of, head, open_by, service_link, state};
use crate::{
    ACT_PATH,
    frame::{Frame, Seen},
    model::{Deployment, Edges, Role, Service, Trust, TrustEntry},
};

/// What is known of a deployment.
#[derive(Debug)]
pub struct Deployed<'a> {
    /// Itself.
    pub deployment: &'a Deployment,
    /// Its services.
    pub services: &'a [Service],
    /// Its trust list.
    pub trust: &'a Trust,
    /// Both directions for each caller, in words.
    pub sentences: &'a [String],
    /// The other deployments that there are.
    pub others: &'a [&'a str],
    /// What passes between services, if runners report.
    pub edges: Option<&'a Edges>,
}

/// The page.
#[must_use]
pub fn deployment(frame: &Frame<'_>, of: &Deployed<'_>) -> Markup {
    let name = &*of.deployment.deployment;
    let content = html! {
        p.note {
            "Team " (of.deployment.team) ". A trust without services opens "
            @match &of.deployment.expose {
                Some(expose) if !expose.is_empty() => (expose.join(", ")),
                Some(_) => "no service",
                None => "all services",
            }
            "."
        }
        (in_force(of.trust))
        (callers(frame, of))
        @if frame.may(Role::Operator) {
            @match &of.deployment.trust_file {
                None => (give(name, of.others)),
                Some(file) => (in_file(name, file)),
            }
        }
        (services(of))
    };
    let seen = if of.trust.pending.is_empty() { Seen::Live } else { Seen::Soon };
    frame.page(name, seen, &content)
}

/// At how many of the runners concerned the list is in force.
fn in_force(trust: &Trust) -> Markup {
    let pending = trust.pending.len();
    html! {
        p #force {
            @match (trust.concerned, pending) {
                (Some(0), _) | (None, 0) => { "● The list is in force everywhere." }
                (Some(all), 0) => { "● In force " (all) "/" (all) " runners." }
                (all, _) => {
                    "▲ In force "
                    @if let Some(all) = all { (all.saturating_sub(pending)) "/" (all) " runners" } @else { "not everywhere" }
                    "; not yet at " (trust.pending.join(", ")) ". "
                    a href="" { "Look again" }
                }
            }
        }
    }
}

fn callers(frame: &Frame<'_>, of: &Deployed<'_>) -> Markup {
    let name = &*of.deployment.deployment;
    let open = of
        .edges
        .map(|edges| open_by(edges, |edge| (deployment_of(&edge.to) == name).then(|| deployment_of(&edge.from))));
    html! {
        table #callers {
            caption { "Who may call " (name) }
            (head(&["Caller", "Services", "Ports", "Open connections", "Change"]))
            tbody {
                @for entry in &of.trust.trust {
                    tr {
                        th scope="row" { (deployment_link(&entry.caller)) }
                        td { @if entry.services.is_empty() { "those that it exposes" } @else { (entry.services.join(", ")) } }
                        td { @if entry.ports.is_empty() { "all" } @else { (ports(entry)) } }
                        td { @if let Some(open) = &open { (open.get(&*entry.caller).copied().unwrap_or_default()) } @else { "–" } }
                        td {
                            @if of.deployment.trust_file.is_none() {
                                (act(frame, Role::Operator, "Take back", &format!("the trust in {}", entry.caller), &[
                                    ("do", "take"), ("deployment", name), ("caller", &*entry.caller),
                                    ("services", &*entry.services.join(", ")), ("ports", &*ports(entry)),
                                ]))
                            }
                        }
                    }
                }
                @if of.trust.trust.is_empty() { tr { td colspan="5" { "no other deployment" } } }
            }
        }
        @if !of.sentences.is_empty() {
            ul #ways { @for sentence in of.sentences { li { (sentence) } } }
        }
    }
}

fn ports(entry: &TrustEntry) -> String {
    entry.ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The form that begins to give trust: it shows the effect first.
fn give(name: &str, others: &[&str]) -> Markup {
    html! {
        section #give data-still aria-labelledby="give-title" {
            h2 #give-title { "Give trust" }
            form action=(ACT_PATH) method="get" {
                input type="hidden" name="do" value="give";
                input type="hidden" name="deployment" value=(name);
                label { "Caller" input type="text" name="caller" list="others" autocomplete="off" required; }
                datalist #others { @for other in others { option value=(other) {} } }
                label { "Services (empty: those that it exposes)" input type="text" name="services" placeholder="api, *-public"; }
                label { "Ports (empty: all)" input type="text" name="ports" placeholder="80, 443"; }
                button type="submit" { "Show the effect" }
            }
        }
    }
}

fn in_file(name: &str, file: &str) -> Markup {
    html! {
        section #give data-still aria-labelledby="give-title" {
            h2 #give-title { "Give trust" }
            p { "The file " code { (file) } " sets this list. Change it there, for example like this, and apply it:" }
            pre tabindex="0" { "deployment = \"" (name) "\"\ntrust = [\"CALLER\", { from = \"CALLER\", services = [\"api\"], ports = [443] }]" }
        }
    }
}

fn services(of: &Deployed<'_>) -> Markup {
    html! {
        table #services {
            caption { "Services, " (of.services.len()) }
            (head(&["Service", "Address", "Instances"]))
            tbody {
                @for service in of.services {
                    tr {
                        th scope="row" { (service_link(&service.path())) }
                        td { code { (service.address) } }
                        td {
                            @if service.instances.is_empty() { span.note { "none" } }
                            ul.plain {
                                @for instance in &service.instances {
                                    li { (instance.id) " on " (instance.runner) " " (state(&instance.state)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
