//! One service: who calls it, its instances, and whom it calls.

use maud::{Markup, html};

use super::{act, head, placed, service_link, why_link};
use crate::{
    frame::{Frame, Seen},
    model::{Edge, Edges, Refusals, Role, Service},
};

/// The page.
#[must_use]
pub fn service(frame: &Frame<'_>, service: &Service, edges: Option<&Edges>, refusals: Option<&Refusals>) -> Markup {
    let path = service.path();
    let all = || edges.into_iter().flat_map(|edges| &edges.edges);
    let callers: Vec<_> = all().filter(|edge| edge.to == path).map(|edge| (&*edge.from, edge)).collect();
    let callees: Vec<_> = all().filter(|edge| edge.from == path).map(|edge| (&*edge.to, edge)).collect();
    let refused = refusals.into_iter().flat_map(|refusals| &refusals.refused).filter(|row| row.to == path);
    let content = html! {
        p { "Address " code { (service.address) } ", team " (service.team) "." }
        div.columns {
            (side("Callers", &callers))
            section aria-labelledby="instances" {
                h2 #instances { "Instances" }
                @if service.instances.is_empty() { p.note { "none" } }
                ul.plain {
                    @for instance in &service.instances {
                        li {
                            (placed(instance)) " " (turn(frame, &instance.id, &instance.state))
                        }
                    }
                }
            }
            (side("Callees", &callees))
        }
        table #refused {
            caption { "Refused calls to it" }
            (head(&["From", "Port", "Reason", "Count", "Explain"]))
            tbody {
                @for row in refused {
                    tr {
                        th scope="row" { (service_link(&row.from)) }
                        td { (row.port) }
                        td { (row.reason) }
                        td { (row.count) }
                        td { (why_link(&row.from, &row.to, row.port)) }
                    }
                }
            }
        }
    };
    frame.page(&path, Seen::Live, &content)
}

/// The link that drains an instance, or takes that back.
pub(super) fn turn(frame: &Frame<'_>, id: &str, state: &str) -> Markup {
    let (label, wish) = if state == "draining" { ("Undrain", "undrain") } else { ("Drain", "drain") };
    html! {
        @if state == "live" || state == "draining" {
            (act(frame, Role::Operator, label, id, &[("do", wish), ("instance", id)]))
        }
    }
}

fn side(title: &str, edges: &[(&str, &Edge)]) -> Markup {
    html! {
        section aria-label=(title) {
            h2 { (title) }
            @if edges.is_empty() { p.note { "none has been seen" } }
            ul.plain {
                @for (path, edge) in edges {
                    li {
                        (service_link(path)) " "
                        @if edge.open > 0 { "═ " (edge.open) " open" } @else { "─ none open" }
                        @if edge.refused > 0 { ", ✖ " (edge.refused) " refused" }
                    }
                }
            }
        }
    }
}
