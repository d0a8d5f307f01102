//! The pages.

mod audit;
mod map;
mod overview;
mod refused;
mod runners;
mod services;
mod why;

use maud::{Markup, html};

pub use self::{
    audit::audit, map::map, overview::overview, refused::refused, runners::runners, services::services, why::why,
};
use crate::{
    model::Coverage,
    words::{ago, mark},
};

/// A state by its mark and its word.
fn state(word: &str) -> Markup {
    html! { span.state data-state=(word) { span aria-hidden="true" { (mark(word)) } " " (word) } }
}

/// The names of a table's columns.
fn head(columns: &[&str]) -> Markup {
    html! { thead { tr { @for column in columns { th scope="col" { (column) } } } } }
}

/// How much of the mesh the page is about.
fn coverage(of: &Coverage) -> Markup {
    html! {
        p.note {
            (of.reporting) " of " (of.runners) " runners report"
            @if let Some(seconds) = of.oldest_seconds { ", the oldest report is from " (ago(seconds)) }
            "."
        }
    }
}

/// The link that explains a connection.
fn why_link(from: &str, to: &str, port: u16) -> Markup {
    let named = from.contains('/') && to.contains('/') && port != 0;
    html! {
        @if named {
            a href={ "/why?from=" (from) "&to=" (to) "&port=" (port) } aria-label={ "Why " (from) " and " (to) } { "why" }
        }
    }
}
