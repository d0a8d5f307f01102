//! The services with their instances.

use maud::{Markup, html};

use super::{head, open_by, placed, service_link};
use crate::{
    frame::{Frame, Seen},
    model::{Edges, Services},
};

/// All services. `edges`: if runners report.
#[must_use]
pub fn services(frame: &Frame<'_>, services: &Services, edges: Option<&Edges>) -> Markup {
    let open = edges.map(|edges| open_by(edges, |edge| Some(&*edge.to)));
    let content = html! {
        table {
            caption { "Services, " (services.services.len()) }
            (head(&["Service", "Team", "Address", "Open connections", "Instances"]))
            tbody {
                @for service in &services.services {
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
    };
    frame.listed(Seen::Live, &content)
}
