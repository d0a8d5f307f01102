//! Whether the mesh is whole, and what needs its operator.

use maud::{Markup, html};

use super::{head, state, why_link};
use crate::{
    frame::{Frame, Seen},
    model::{Audit, Overview, Refusals},
    words::{ago, date, mark},
};

/// How many refusals and changes are shown.
const LAST: usize = 8;

/// The first page. `refused`: if runners report.
#[must_use]
pub fn overview(frame: &Frame<'_>, overview: &Overview, refused: Option<&Refusals>, audit: &Audit) -> Markup {
    let content = html! {
        section aria-labelledby="needs" {
            h2 #needs { "Needs you" }
            @if overview.needs.is_empty() {
                p.good { "● Nothing: the mesh is whole." }
            }
            ul.needs {
                @for need in &overview.needs {
                    li data-level=(need.level) {
                        strong { (mark(&need.level)) " " (need.level) } " " (need.text)
                        br;
                        span.note { (need.hint) }
                    }
                }
            }
        }
        dl.figures {
            div { dt { "Deployments" } dd { (overview.deployments) } }
            div { dt { "Services" } dd { (overview.services) } }
            @for (word, count) in &overview.instances {
                div { dt { "Instances, " (word) } dd { (count) } }
            }
            div { dt { "Revision" } dd { (overview.revision) } }
        }
        table {
            caption { "Runners by provider" }
            (head(&["Provider", "Online", "Silent", "Instances"]))
            tbody {
                @for provider in &overview.providers {
                    tr {
                        th scope="row" { (provider.provider) }
                        td { (provider.online) }
                        td { @if provider.silent > 0 { "✖ " } (provider.silent) }
                        td { (provider.instances) }
                    }
                }
            }
        }
        @if let Some(refused) = refused {
            table {
                caption { "Refused, the latest" }
                (head(&["Connection", "Reason", "Count", "Last", "Explain"]))
                tbody {
                    @for row in refused.refused.iter().take(LAST) {
                        tr {
                            th scope="row" { (row.from) " → " (row.to) ":" (row.port) }
                            td { (row.reason) }
                            td { (row.count) }
                            td { (ago(row.age_seconds)) }
                            td { (why_link(&row.from, &row.to, row.port)) }
                        }
                    }
                    @if refused.refused.is_empty() { tr { td colspan="5" { "none" } } }
                }
            }
        }
        table {
            caption { "What changed" }
            (head(&["When (UTC)", "Who", "What", "Result"]))
            tbody {
                @for entry in audit.audit.iter().take(LAST) {
                    tr {
                        td { time { (date(entry.at)) } }
                        td { (entry.by_name.as_ref().unwrap_or(&entry.by)) }
                        td { (entry.detail) }
                        td { (state(&entry.result)) }
                    }
                }
            }
        }
    };
    frame.listed(Seen::Live, &content)
}
