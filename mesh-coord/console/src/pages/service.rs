//! One service: who calls it, its instances, and whom it calls.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::{act, head, placed, service_link, why_link};
use crate::{
    frame::{Frame, Seen},
    model::{Edge, Edges, OfPair, Refusals, Role, Series, Service},
    words::bars,
};

/// The page.
#[must_use]
pub fn service(
    frame: &Frame<'_>,
    service: &Service,
    edges: Option<&Edges>,
    series: Option<&Series>,
    refusals: Option<&Refusals>,
) -> Markup {
    let path = service.path();
    let (mut callers, mut callees) = (Others::new(), Others::new());
    for edge in edges.into_iter().flat_map(|edges| &edges.edges) {
        if edge.to == path {
            callers.entry(&edge.from).or_default().now = Some(edge);
        }
        if edge.from == path {
            callees.entry(&edge.to).or_default().now = Some(edge);
        }
    }
    for pair in series.into_iter().flat_map(|series| &series.series) {
        if pair.to == path {
            callers.entry(&pair.from).or_default().by_hour = Some(pair);
        }
        if pair.from == path {
            callees.entry(&pair.to).or_default().by_hour = Some(pair);
        }
    }
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

/// The services at the other end.
type Others<'a> = BTreeMap<&'a str, Passed<'a>>;

/// What passes between a service and another one.
#[derive(Debug, Default)]
struct Passed<'a> {
    now: Option<&'a Edge>,
    by_hour: Option<&'a OfPair>,
}

fn side(title: &str, others: &Others<'_>) -> Markup {
    html! {
        section aria-label=(title) {
            h2 { (title) }
            @if others.is_empty() { p.note { "none has been seen" } }
            ul.plain {
                @for (path, passed) in others {
                    @let open = passed.now.map_or(0, |edge| edge.open);
                    @let refused = passed.now.map_or(0, |edge| edge.refused);
                    li {
                        (service_link(path)) " "
                        @if open > 0 { "═ " (open) " open" } @else { "─ none open" }
                        @if refused > 0 { ", ✖ " (refused) " refused" }
                        @if let Some(pair) = passed.by_hour {
                            br;
                            span.bars aria-hidden="true" { (bars(&pair.opened)) }
                            " " (pair.opened.iter().fold(0, |sum: u64, hour| sum.saturating_add(*hour))) " in 24 hours"
                        }
                    }
                }
            }
        }
    }
}
