//! What has a word in its name or address.

use maud::{Markup, html};

use super::{deployment_link, head, runner_link, service_link, state};
use crate::{
    frame::{Frame, Seen},
    model::{Deployment, Instance, Node, Service},
};

/// The most that is shown of each kind.
const EACH: usize = 50;

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Deployments by their names and teams.
    pub deployments: Vec<Deployment>,
    /// Services by their names and addresses.
    pub services: Vec<Service>,
    /// Instances by their identifiers and addresses.
    pub instances: Vec<Instance>,
    /// Runners by their names, providers and addresses.
    pub nodes: Vec<Node>,
}

impl Found {
    /// Leaves what has this word.
    pub fn leave(&mut self, word: &str) {
        let word = word.trim().to_lowercase();
        let has = |texts: &[&str]| !word.is_empty() && texts.iter().any(|text| text.to_lowercase().contains(&word));
        self.deployments.retain(|one| has(&[&one.deployment, &one.team]));
        self.services.retain(|one| has(&[&one.path(), &one.address]));
        self.instances.retain(|one| one.id.eq_ignore_ascii_case(&word) || has(&[&one.address]));
        self.nodes.retain(|one| {
            let endpoints = one.endpoints.iter().map(String::as_str);
            let texts: Vec<&str> = [&*one.name, &*one.provider].into_iter().chain(endpoints).collect();
            has(&texts) || one.id.eq_ignore_ascii_case(&word)
        });
    }

    fn number(&self) -> usize {
        self.deployments.len() + self.services.len() + self.instances.len() + self.nodes.len()
    }
}

/// The page.
#[must_use]
pub fn search(frame: &Frame<'_>, word: &str, found: &Found) -> Markup {
    let content = html! {
        p #found {
            @if word.trim().is_empty() { "Type a part of a name or an address above." }
            @else { (found.number()) " found for «" (word.trim()) "»." }
        }
        (list("Deployments", &["Name", "Team"], found.deployments.iter().map(|one| html! {
            th scope="row" { (deployment_link(&one.deployment)) } td { (one.team) }
        })))
        (list("Services", &["Name", "Address"], found.services.iter().map(|one| html! {
            th scope="row" { (service_link(&one.path())) } td { code { (one.address) } }
        })))
        (list("Runners", &["Name", "State"], found.nodes.iter().map(|one| html! {
            th scope="row" { (runner_link(&one.name)) } td { (state(&one.state)) }
        })))
        (list("Instances", &["Id", "Service", "Runner", "Address"], found.instances.iter().map(|one| html! {
            th scope="row" { (one.id) }
            td { (service_link(&one.service)) }
            td { (runner_link(&one.runner)) }
            td { code { (one.address) } }
        })))
    };
    frame.page("Search", Seen::Still, &content)
}

fn list(title: &str, columns: &[&str], rows: impl ExactSizeIterator<Item = Markup>) -> Markup {
    let number = rows.len();
    html! {
        @if number > 0 {
            table {
                caption { (title) ", " (number) @if number > EACH { ", the first " (EACH) } }
                (head(columns))
                tbody { @for row in rows.take(EACH) { tr { (row) } } }
            }
        }
    }
}
