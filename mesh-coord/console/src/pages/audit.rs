//! What was changed, when and by whom.

use maud::{Markup, html};
use mesh_model::record::ACTIONS;
use serde::Deserialize;

use super::{choice, deployment_link, head, runner_link, state};
use crate::{
    frame::{Frame, Seen},
    model::{Audit, Entry},
    words::{date, part},
};

/// Which entries are wanted, by the names of the form's fields; what is empty leaves all.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Trail {
    /// Who did it: the name or identifier of a token, `uid 0`, a runner's identifier.
    pub by: String,
    /// The action.
    pub action: String,
    /// The name of the changed object.
    pub object: String,
    /// `done` or `refused`.
    pub result: String,
    /// For how many hours back.
    pub hours: String,
    /// The number before which a page begins.
    pub before: String,
}

impl Trail {
    /// The fields that leave some, without the page.
    fn fields(&self) -> Vec<String> {
        let all = [
            ("by", &self.by),
            ("action", &self.action),
            ("object", &self.object),
            ("result", &self.result),
            ("hours", &self.hours),
        ];
        let given = all.into_iter().filter(|(_, value)| !value.is_empty());
        given.map(|(name, value)| format!("{name}={}", part(value))).collect()
    }

    /// The query of the next page.
    fn before(&self, number: u64) -> String {
        let mut fields = self.fields();
        fields.push(format!("before={number}"));
        fields.join("&")
    }
}

/// A page of the audit, the newest entry first.
#[must_use]
pub fn audit(frame: &Frame<'_>, audit: &Audit, trail: &Trail) -> Markup {
    let content = html! {
        (form(trail))
        table {
            caption { "Audit" }
            (head(&["When (UTC)", "Who", "Action", "On", "What", "Result"]))
            tbody {
                @for entry in &audit.audit {
                    tr {
                        td { time { (date(entry.at)) } }
                        td { (entry.by) @if let Some(name) = &entry.by_name { " (" (name) ")" } }
                        td { (entry.action) }
                        td { (object(entry)) }
                        td { (entry.detail) }
                        td { (state(&entry.result)) }
                    }
                }
                @if audit.audit.is_empty() { tr { td colspan="6" { "no such entry" } } }
            }
        }
        @if let Some(next) = audit.next {
            p { a href={ "/audit?" (trail.before(next)) } rel="next" { "Earlier entries" } }
        }
        p { a href={ "/audit.ndjson?" (trail.fields().join("&")) } download="audit.ndjson" { "All of them as NDJSON" } }
    };
    frame.listed(Seen::Live, &content)
}

/// The link to what was changed, where it has a page.
fn object(entry: &Entry) -> Markup {
    let Some(name) = entry.object.as_deref() else { return html! { "–" } };
    html! {
        @match &*entry.action {
            "apply" | "delete" | "trust" => (deployment_link(name)),
            action if action.starts_with("node-") || action == "enrol" => (runner_link(name)),
            _ => (name),
        }
    }
}

fn form(trail: &Trail) -> Markup {
    let results = [("", "any"), ("done", "done"), ("refused", "refused")];
    let times = [("", "all"), ("1", "the last hour"), ("24", "the last day"), ("168", "the last week")];
    html! {
        form #filter data-still action="/audit" method="get" role="search" {
            label { "Who" input type="search" name="by" value=(trail.by) placeholder="alice, t-7, uid 0"; }
            label { "Action" input type="search" name="action" value=(trail.action) list="actions" autocomplete="off"; }
            datalist #actions { @for action in ACTIONS { option value=(action) {} } }
            label { "On" input type="search" name="object" value=(trail.object) placeholder="shop"; }
            (choice("result", "Result", &trail.result, &results))
            (choice("hours", "Time", &trail.hours, &times))
            button type="submit" { "Find" }
        }
    }
}
