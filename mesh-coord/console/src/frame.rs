//! What all pages have around them.

use maud::{DOCTYPE, Markup, html};

use crate::{SCRIPT_PATH, STYLE_PATH};

/// The pages, in the order of the navigation.
const PAGES: [(&str, &str); 7] = [
    ("/", "Overview"),
    ("/map", "Map"),
    ("/services", "Services"),
    ("/runners", "Runners"),
    ("/refused", "Refused"),
    ("/audit", "Audit"),
    ("/why", "Why"),
];

/// A page without its content.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Its path, one of the navigation's.
    pub path: &'a str,
    /// Which mesh it is about.
    pub mesh: &'a str,
}

impl Frame<'_> {
    /// The whole page. `content` is renewed while it is looked at, unless it is a form to be filled in.
    pub(crate) fn page(&self, live: bool, content: &Markup) -> Markup {
        let title = PAGES.iter().find(|(path, _)| *path == self.path).map_or("mesh", |(_, title)| *title);
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (title) " · mesh" }
                    link rel="stylesheet" href=(STYLE_PATH);
                    script src=(SCRIPT_PATH) defer {}
                }
                body {
                    a.skip href="#content" { "Skip to the content" }
                    header {
                        p.brand { "mesh " span { (self.mesh) } }
                        nav aria-label="Pages" {
                            ul {
                                @for (path, name) in PAGES {
                                    li {
                                        @if path == self.path {
                                            a href=(path) aria-current="page" { (name) }
                                        } @else {
                                            a href=(path) { (name) }
                                        }
                                    }
                                }
                            }
                        }
                    }
                    main #content data-live[live] tabindex="0" {
                        h1 { (title) }
                        (content)
                    }
                }
            }
        }
    }
}

/// A page that says why there is none.
#[must_use]
pub fn failure(frame: &Frame<'_>, error: &str, hint: Option<&str>) -> Markup {
    let content = html! {
        p.error role="alert" { "✖ " (error) }
        @if let Some(hint) = hint {
            p { "Next: " (hint) }
        }
    };
    frame.page(true, &content)
}
