//! The runners.

use maud::{Markup, html};

use super::{choice, head, leaves::Leaf, runner_link, state};
use crate::{
    frame::{Frame, Seen},
    model::{Node, Nodes},
    words::{ago, part},
};

/// Which runners are wanted.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// A part of the name, the provider or an address; empty: any.
    pub text: String,
    /// The state; empty: any.
    pub state: String,
    /// The page, from 1.
    pub page: usize,
}

impl Filter {
    fn takes(&self, node: &Node) -> bool {
        let has = |text: &str| text.contains(self.text.trim());
        let found = has(&node.name) || has(&node.provider) || node.endpoints.iter().any(|at| has(at));
        let drained = self.state == "drained" && node.drained;
        found && (self.state.is_empty() || self.state == node.state || drained)
    }

    /// The link to another page of the same.
    fn link(&self, page: usize) -> String {
        format!("/runners?text={}&state={}&page={page}", part(&self.text), part(&self.state))
    }
}

/// A page of the runners.
#[must_use]
pub fn runners(frame: &Frame<'_>, nodes: &Nodes, filter: &Filter) -> Markup {
    let found: Vec<&Node> = nodes.nodes.iter().filter(|node| filter.takes(node)).collect();
    let leaf = Leaf::of(&found, filter.page);
    let content = html! {
        (form(filter))
        table {
            caption { "Runners, " (found.len()) " of " (nodes.nodes.len()) (leaf.number()) }
            (head(&["Name", "Provider", "State", "Seen", "Instances", "May host", "Agent", "Addresses"]))
            tbody { @for node in leaf.rows { (row(node)) } }
        }
        (leaf.links("runners", |page| filter.link(page)))
    };
    frame.listed(Seen::Live, &content)
}

fn form(filter: &Filter) -> Markup {
    let states =
        [("", "any"), ("online", "online"), ("silent", "silent"), ("drained", "drained"), ("removed", "removed")];
    html! {
        form #filter data-still action="/runners" method="get" role="search" {
            label { "Name, provider or address" input type="search" name="text" value=(filter.text); }
            (choice("state", "State", &filter.state, &states))
            button type="submit" { "Find" }
        }
    }
}

fn row(node: &Node) -> Markup {
    html! {
        tr {
            th scope="row" { (runner_link(&node.name)) " " span.note { (node.id) } }
            td { (node.provider) }
            td { (state(&node.state)) @if node.drained { ", drained" } }
            td {
                @match (&*node.state, node.last_seen_seconds) {
                    ("online", _) => "now",
                    (_, Some(seconds)) => (ago(seconds)),
                    (_, None) => "–",
                }
            }
            td { (node.instances) }
            td { (node.scope) }
            td { (node.agent) }
            td { (node.endpoints.join(", ")) }
        }
    }
}
