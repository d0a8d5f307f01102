//! Long lists, a hundred rows a page.

use maud::{Markup, html};

/// How many rows a page has.
const EACH: usize = 100;

/// The rows of one page, which page it is, from 1, and of how many.
pub(super) struct Leaf<'a, T> {
    pub(super) rows: &'a [T],
    page: usize,
    pages: usize,
}

impl<'a, T> Leaf<'a, T> {
    /// The wanted page, or the one that is nearest.
    pub(super) fn of(all: &'a [T], wanted: usize) -> Self {
        let pages = all.len().div_ceil(EACH).max(1);
        let page = wanted.clamp(1, pages);
        Self { rows: all.chunks(EACH).nth(page - 1).unwrap_or_default(), page, pages }
    }

    /// For the list's caption.
    pub(super) fn number(&self) -> String {
        format!(", page {} of {}", self.page, self.pages)
    }

    /// The links to the pages before and after. `what`: what the list is of.
    pub(super) fn links(&self, what: &str, to: impl Fn(usize) -> String) -> Markup {
        html! {
            @if self.pages > 1 {
                nav aria-label={ "Pages of " (what) } {
                    @if self.page > 1 { a href=(to(self.page - 1)) rel="prev" { "Previous" } " " }
                    @if self.page < self.pages { a href=(to(self.page + 1)) rel="next" { "Next" } }
                }
            }
        }
    }
}
