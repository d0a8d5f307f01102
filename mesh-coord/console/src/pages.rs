//! The pages.

mod audit;
mod confirm;
mod deployment;
mod deployments;
mod leaves;
mod map;
mod overview;
mod refused;
mod relays;
mod runner;
mod runners;
mod search;
mod service;
mod services;
mod tokens;
mod why;

use std::collections::HashMap;

use maud::{Markup, html};

pub use self::{
    audit::{Trail, audit},
    confirm::{Ask, confirm},
    deployment::{Deployed, deployment},
    deployments::deployments,
    map::map,
    overview::overview,
    refused::refused,
    relays::relays,
    runner::runner,
    runners::{Filter, runners},
    search::{Found, search},
    service::service,
    services::services,
    tokens::{Joined, Wanted, joined, tokens},
    why::why,
};
use crate::{
    ACT_PATH,
    frame::Frame,
    model::{Coverage, Edge, Edges, Role, ServiceInstance},
    words::{ago, mark, part},
};

/// A state by its mark and its word.
fn state(word: &str) -> Markup {
    html! { span.state data-state=(word) { span aria-hidden="true" { (mark(word)) } " " (word) } }
}

/// The names of a table's columns.
fn head(columns: &[&str]) -> Markup {
    html! { thead { tr { @for column in columns { th scope="col" { (column) } } } } }
}

/// How much of the mesh the page is about.
fn coverage(of: &Coverage) -> Markup {
    html! {
        p.note {
            (of.reporting) " of " (of.runners) " runners report"
            @if let Some(seconds) = of.oldest_seconds { ", the oldest report is from " (ago(seconds)) }
            "."
        }
        @for lacking in &of.lacking {
            p.note { "⚠ The coordinator on " (lacking.host) " doesn't answer: what its runners report is missing or old." }
        }
    }
}

/// The link that explains a connection.
fn why_link(from: &str, to: &str, port: u16) -> Markup {
    let named = from.contains('/') && to.contains('/') && port != 0;
    html! {
        @if named {
            a href={ "/why?from=" (from) "&to=" (to) "&port=" (port) } aria-label={ "Why " (from) " and " (to) } { "why" }
        }
    }
}

/// The deployment of a service's path `DEPLOYMENT/SERVICE`.
fn deployment_of(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

/// The open connections of the pairs with the same key, by that key; pairs without one don't count.
fn open_by<'a>(edges: &'a Edges, key: impl Fn(&'a Edge) -> Option<&'a str>) -> HashMap<&'a str, u64> {
    let mut open: HashMap<&str, u64> = HashMap::new();
    for edge in &edges.edges {
        if let Some(key) = key(edge) {
            *open.entry(key).or_default() += edge.open;
        }
    }
    open
}

/// The link to a deployment, as it is named here.
fn deployment_link(name: &str) -> Markup {
    html! { a href={ "/d/" (part(name)) } { (name) } }
}

/// The link to a service by its path `DEPLOYMENT/SERVICE`; another text stays text.
fn service_link(path: &str) -> Markup {
    html! {
        @if let Some((deployment, service)) = path.split_once('/') {
            a href={ "/d/" (part(deployment)) "/" (part(service)) } { (path) }
        } @else {
            (path)
        }
    }
}

/// The link to a runner.
fn runner_link(name: &str) -> Markup {
    html! { a href={ "/r/" (part(name)) } { (name) } }
}

/// An instance, where it runs, and how it is.
fn placed(instance: &ServiceInstance) -> Markup {
    html! {
        (instance.id) " on " (runner_link(&instance.runner)) " " (state(&instance.state))
        @if let Some(release) = &instance.release { " release " (release) }
    }
}

/// A field that holds one of some values, each with its word.
fn choice(name: &str, label: &str, chosen: &str, options: &[(&str, &str)]) -> Markup {
    html! {
        label {
            (label)
            select name=(name) {
                @for (value, word) in options { option value=(value) selected[*value == chosen] { (word) } }
            }
        }
    }
}

/// A link to the page that shows the effect of a change and asks whether to make it; nothing without the role for it.
fn act(frame: &Frame<'_>, role: Role, label: &str, of: &str, fields: &[(&str, &str)]) -> Markup {
    let query: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", part(value))).collect();
    html! {
        @if frame.may(role) {
            a.act href={ (ACT_PATH) "?" (query.join("&")) } aria-label={ (label) " " (of) } { (label) "…" }
        }
    }
}
