//! The runners.

use maud::{Markup, html};

use super::{head, state};
use crate::{frame::Frame, model::Nodes, words::ago};

/// All runners.
#[must_use]
pub fn runners(frame: &Frame<'_>, nodes: &Nodes) -> Markup {
    let content = html! {
        table {
            caption { "Runners, " (nodes.nodes.len()) }
            (head(&["Name", "Provider", "State", "Seen", "Instances", "May host", "Agent", "Addresses"]))
            tbody {
                @for node in &nodes.nodes {
                    tr {
                        th scope="row" { (node.name) " " span.note { (node.id) } }
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
        }
    };
    frame.page(true, &content)
}
