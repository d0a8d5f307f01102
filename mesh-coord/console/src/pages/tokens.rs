//! The tokens, a form for a new one, and the new one itself.

use maud::{Markup, html};
use serde::Deserialize;

use super::{act, choice, head, state};
use crate::{
    frame::{Frame, Seen, trouble},
    model::{Role, Tokens},
    words::lasting,
};

/// What the form for a new token holds, by the names of its fields.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Wanted {
    /// `any`, `teams`, `deployments` or `admin`.
    pub scope: String,
    /// The names of the teams or deployments.
    pub names: String,
    /// The role of an administrator.
    pub role: String,
    /// How long it is valid.
    pub ttl: String,
    /// How many runners it can enrol.
    pub uses: String,
    /// Not empty: its runners go when they are silent.
    pub ephemeral: String,
    /// A name for it.
    pub name: String,
}

/// All tokens. `wanted`: what the form holds; `refused`: why it was refused.
#[must_use]
pub fn tokens(frame: &Frame<'_>, tokens: &Tokens, wanted: &Wanted, refused: Option<(&str, Option<&str>)>) -> Markup {
    let content = html! {
        @if let Some((error, hint)) = refused { (trouble(error, hint)) }
        @if frame.may(Role::Admin) { (form(frame, wanted)) }
        table {
            caption { "Tokens, " (tokens.tokens.len()) }
            (head(&["Id", "Name", "Kind", "For", "State", "Uses left", "Expires in", "Runners", "Change"]))
            tbody {
                @for token in &tokens.tokens {
                    tr {
                        th scope="row" { (token.id) }
                        td { (token.name.as_deref().unwrap_or("–")) }
                        td { (token.kind) }
                        td { (token.scope) }
                        td { (state(&token.state)) }
                        td { @if let Some(uses) = token.uses_left { (uses) } @else { "–" } }
                        td { @if token.state == "good" { (lasting(token.expires_seconds)) } @else { "–" } }
                        td { (token.nodes.join(", ")) }
                        td {
                            @if token.state != "revoked" {
                                (act(frame, Role::Admin, "Revoke", &token.id, &[("do", "revoke"), ("token", &*token.id)]))
                            }
                            @if !token.nodes.is_empty() {
                                " "
                                (act(frame, Role::Admin, "Remove its runners", &format!("and revoke {}", token.id), &[
                                    ("do", "revoke-all"), ("token", &*token.id),
                                ]))
                            }
                        }
                    }
                }
            }
        }
    };
    frame.listed(if refused.is_some() { Seen::Still } else { Seen::Live }, &content)
}

fn form(frame: &Frame<'_>, wanted: &Wanted) -> Markup {
    let scopes = [
        ("any", "runners that may host everything"),
        ("teams", "runners for the teams named"),
        ("deployments", "runners for the deployments named"),
        ("admin", "an administrator, of the team named or of all"),
    ];
    let roles = [
        ("viewer", "viewer: may look"),
        ("operator", "operator: also deployments, trust, drains"),
        ("admin", "admin: everything"),
    ];
    html! {
        section #new data-still aria-labelledby="new-title" {
            h2 #new-title { "New token" }
            form action="/tokens" method="post" {
                (frame.proof())
                (choice("scope", "For", &wanted.scope, &scopes))
                label { "Teams or deployments" input type="text" name="names" value=(wanted.names) placeholder="shop, billing"; }
                (choice("role", "Role of an administrator", &wanted.role, &roles))
                label { "Valid for" input type="text" name="ttl" value=(wanted.ttl) placeholder="1h" required; }
                label { "Runners" input type="text" name="uses" value=(wanted.uses) inputmode="numeric" required; }
                label { "Name" input type="text" name="name" value=(wanted.name) placeholder="ci"; }
                label.check {
                    input type="checkbox" name="ephemeral" value="yes" checked[!wanted.ephemeral.is_empty()];
                    " remove its runners when they are silent for ten minutes"
                }
                button type="submit" { "Make the token" }
            }
        }
    }
}

/// A token that was just made.
#[derive(Debug)]
pub struct Joined<'a> {
    /// Its identifier.
    pub id: &'a str,
    /// The text, a secret.
    pub token: &'a str,
    /// What to type on the other machine; `None`: it isn't for one.
    pub line: Option<&'a str>,
    /// What the operator may not expect.
    pub warnings: &'a [String],
}

/// The new token, which is shown once; `None`: it was shown already.
#[must_use]
pub fn joined(frame: &Frame<'_>, made: Option<&Joined<'_>>) -> Markup {
    let content = html! {
        @match made {
            Some(made) => {
                p { "● " (made.id) " is made. It is shown once, here and now. Anyone who has it can use it." }
                @for warning in made.warnings { p { "▲ " (warning) } }
                @if let Some(line) = made.line {
                    h2 { "On the machine that joins, as root" }
                    pre #line tabindex="0" { (line) }
                } @else {
                    h2 { "The token" }
                    pre #token tabindex="0" { (made.token) }
                    p.note { "`mesh-coord … --url URL` takes it from $MESH_ADMIN_TOKEN, and a console from its sign-in page." }
                }
            }
            None => { p { "The token was shown already. Make another one, and revoke this one if it got lost." } }
        }
        p { a href="/tokens" { "To the tokens" } }
    };
    frame.page("New token", Seen::Still, &content)
}
