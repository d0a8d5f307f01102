//! What all pages have around them.

use maud::{DOCTYPE, Markup, html};

use crate::{
    PROOF, SCRIPT_PATH, SEARCH_PATH, SIGN_IN_PATH, SIGN_OUT_PATH, STYLE_PATH,
    model::{Me, Role},
};

/// The pages, in the order of the navigation.
const PAGES: [(&str, &str); 10] = [
    ("/", "Overview"),
    ("/map", "Map"),
    ("/deployments", "Deployments"),
    ("/services", "Services"),
    ("/runners", "Runners"),
    ("/refused", "Refused"),
    ("/audit", "Audit"),
    ("/why", "Why"),
    ("/tokens", "Tokens"),
    ("/relays", "Relays"),
];

/// A page without its content.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// The page of the navigation to which it belongs.
    pub path: &'a str,
    /// Which mesh it is about.
    pub mesh: &'a str,
    /// Who looks.
    pub who: &'a Me,
    /// The value of [`PROOF`] in this session.
    pub proof: &'a str,
    /// Whether the session was begun by a form, and so can be ended by one.
    pub signed_in: bool,
    /// What the last form has done.
    pub notice: Option<&'a Notice>,
}

/// What a form has done, told on the next page.
#[derive(Debug, Clone, Default)]
pub struct Notice {
    /// In words.
    pub text: String,
    /// Effects that the operator may not expect.
    pub warnings: Vec<String>,
}

/// How a page is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It is renewed every few seconds.
    Live,
    /// It is renewed every second, because something is about to change.
    Soon,
    /// It is a form to be filled in.
    Still,
}

impl Frame<'_> {
    /// Whether the one who looks may do what needs this role.
    pub(crate) fn may(&self, role: Role) -> bool {
        self.who.role >= role
    }

    /// The hidden field of a form that changes something.
    pub(crate) fn proof(&self) -> Markup {
        html! { input type="hidden" name=(PROOF) value=(self.proof); }
    }

    /// The page of the navigation.
    pub(crate) fn listed(&self, seen: Seen, content: &Markup) -> Markup {
        let title = PAGES.iter().find(|(path, _)| *path == self.path).map_or("mesh", |(_, title)| *title);
        self.page(title, seen, content)
    }

    /// The whole page.
    pub(crate) fn page(&self, title: &str, seen: Seen, content: &Markup) -> Markup {
        let every = match seen {
            Seen::Live => Some("5"),
            Seen::Soon => Some("1"),
            Seen::Still => None,
        };
        let body = html! {
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
                form.search action=(SEARCH_PATH) method="get" role="search" aria-label="Everything" {
                    input type="search" name="q" aria-label="Service, runner or address" placeholder="service, runner, address" required;
                    button type="submit" { "Search" }
                }
                (self.session())
            }
            main #content data-every=[every] tabindex="0" {
                h1 { (title) }
                @if let Some(notice) = self.notice {
                    div.notice role="status" {
                        p { "● " (notice.text) }
                        @for warning in &notice.warnings { p { "▲ " (warning) } }
                    }
                }
                (content)
            }
        };
        document(title, &body)
    }

    fn session(&self) -> Markup {
        let who = self.who.name.as_ref().or(self.who.token.as_ref()).map_or("this machine's operator", String::as_str);
        let role = match self.who.role {
            Role::Viewer => "may look",
            Role::Operator => "operator",
            Role::Admin => "admin",
        };
        html! {
            div.session {
                span #live {}
                span { (who) " · " (role) @if let Some(team) = &self.who.team { " of team " (team) } }
                @if self.signed_in {
                    form action=(SIGN_OUT_PATH) method="post" {
                        (self.proof())
                        button type="submit" { "Sign out" }
                    }
                }
            }
        }
    }
}

fn document(title: &str, body: &Markup) -> Markup {
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
            body { (body) }
        }
    }
}

/// An error, and what to try next.
pub(crate) fn trouble(error: &str, hint: Option<&str>) -> Markup {
    html! {
        div.error role="alert" {
            p { "✖ " (error) }
            @if let Some(hint) = hint { p { "Next: " (hint) } }
        }
    }
}

/// A page that says why there is none.
#[must_use]
pub fn failure(frame: &Frame<'_>, error: &str, hint: Option<&str>) -> Markup {
    frame.listed(Seen::Live, &trouble(error, hint))
}

/// The way in for those who have an admin token.
#[must_use]
pub fn sign_in(refused: Option<(&str, Option<&str>)>) -> Markup {
    let body = html! {
        main #content tabindex="-1" {
            h1 { "Sign in to mesh" }
            @if let Some((error, hint)) = refused { (trouble(error, hint)) }
            form action=(SIGN_IN_PATH) method="post" {
                label { "Admin token" input type="password" name="token" autocomplete="off" required; }
                button type="submit" { "Sign in" }
            }
            p.note { "`mesh-coord token create --admin` makes a token. The console can do what the token allows, and no more." }
        }
    };
    document("Sign in", &body)
}

/// A page for those who aren't let in, in words.
#[must_use]
pub fn closed(text: &str) -> Markup {
    let body = html! { main #content tabindex="-1" { h1 { "Not open" } p.error { "✖ " (text) } } };
    document("Not open", &body)
}
