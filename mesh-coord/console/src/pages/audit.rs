//! What was changed, when and by whom.

use maud::{Markup, html};

use super::{head, state};
use crate::{
    frame::{Frame, Seen},
    model::Audit,
    words::date,
};

/// A page of the audit, the newest entry first.
#[must_use]
pub fn audit(frame: &Frame<'_>, audit: &Audit) -> Markup {
    let content = html! {
        table {
            caption { "Audit" }
            (head(&["When (UTC)", "Who", "Action", "What", "Result"]))
            tbody {
                @for entry in &audit.audit {
                    tr {
                        td { time { (date(entry.at)) } }
                        td { (entry.by) @if let Some(name) = &entry.by_name { " (" (name) ")" } }
                        td { (entry.action) }
                        td { (entry.detail) }
                        td { (state(&entry.result)) }
                    }
                }
            }
        }
        @if let Some(next) = audit.next {
            p { a href={ "/audit?before=" (next) } rel="next" { "Earlier entries" } }
        }
    };
    frame.listed(Seen::Live, &content)
}
