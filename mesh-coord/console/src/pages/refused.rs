//! Connections that the mesh has refused.

use maud::{Markup, html};

use super::{coverage, head, service_link, why_link};
use crate::{
    frame::{Frame, Seen},
    model::Refusals,
    words::ago,
};

/// The refusals that runners remember, the latest first.
#[must_use]
pub fn refused(frame: &Frame<'_>, refusals: &Refusals) -> Markup {
    let content = html! {
        (coverage(&refusals.coverage))
        table {
            caption { "Refused connections" }
            (head(&["From", "To", "Port", "Reason", "Count", "Runner", "Last", "Explain"]))
            tbody {
                @for row in &refusals.refused {
                    tr {
                        th scope="row" { (service_link(&row.from)) }
                        td { (service_link(&row.to)) }
                        td { @if row.port == 0 { "–" } @else { (row.port) } }
                        td { (row.reason) }
                        td { (row.count) }
                        td { (row.node) }
                        td { (ago(row.age_seconds)) }
                        td { (why_link(&row.from, &row.to, row.port)) }
                    }
                }
                @if refusals.refused.is_empty() { tr { td colspan="8" { "none" } } }
            }
        }
    };
    frame.listed(Seen::Live, &content)
}
