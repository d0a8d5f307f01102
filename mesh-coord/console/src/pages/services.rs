//! The services with their instances.

use maud::{Markup, html};

use super::{head, leaves::Leaf, open_by, placed, service_link};
use crate::{
    frame::{Frame, Seen},
    model::{Edges, Services},
};

/// A page of the services, from 1. `edges`: if runners report.
#[must_use]
pub fn services(frame: &Frame<'_>, services: &Services, edges: Option<&Edges>, page: usize) -> Markup {
    let leaf = Leaf::of(&services.services, page);
    let open = edges.map(|edges| open_by(edges, |edge| Some(&*edge.to)));
    let content = html! {
        table {
            caption { "Services, " (services.services.len()) (leaf.number()) }
            (head(&["Service", "Team", "Address", "Open connections", "Instances"]))
            tbody {
                @for service in leaf.rows {
                    @let path = service.path();
                    tr {
                        th scope="row" { (service_link(&path)) }
                        td { (service.team) }
                        td { code { (service.address) } }
                        td { @if let Some(open) = &open { (open.get(&*path).copied().unwrap_or_default()) } @else { "–" } }
                        td {
                            @if service.instances.is_empty() { span.note { "none" } }
                            ul.plain {
                                @for instance in &service.instances {
                                    li { (placed(instance)) }
                                }
                            }
                        }
                    }
                }
            }
        }
        (leaf.links("services", |page| format!("/services?page={page}")))
    };
    frame.listed(Seen::Live, &content)
}
