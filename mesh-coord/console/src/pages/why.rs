//! Why one service may connect to another, or not.

use maud::{Markup, html};

use super::{act, deployment_of, runner_link, state};
use crate::{
    frame::{Frame, Seen, trouble},
    model::{Role, Why},
};

/// The form with what was asked, and the answer: `None` before a question; a refusal with its hint.
#[must_use]
pub fn why(
    frame: &Frame<'_>,
    [from, to, port]: [&str; 3],
    answer: Option<&Result<Why, (String, Option<String>)>>,
) -> Markup {
    let field = |name: &str, label: &str, value: &str, example: &str| {
        html! { label { (label) input type="text" name=(name) value=(value) placeholder=(example) required; } }
    };
    let content = html! {
        form action="/why" method="get" {
            (field("from", "Caller", from, "shop/app"))
            (field("to", "Callee", to, "shop/db"))
            (field("port", "TCP port", port, "5432"))
            button type="submit" { "Explain" }
        }
        @match answer {
            None => {}
            Some(Err((error, hint))) => {
                (trouble(error, hint.as_deref()))
            }
            Some(Ok(why)) => {
                p { (from) " → " (to) ":" (port) " " (state(&why.verdict)) }
                @if let Some(node) = &why.node { p.note { "Tried by " (runner_link(node)) ", with a real connection." } }
                @if why.verdict == "deny" && why.node.is_none() { (remedy(frame, from, to)) }
                ol.steps {
                    @for step in &why.steps {
                        li data-ok=(step.ok) {
                            strong { (if step.ok { "● " } else { "✖ " }) (step.step) } " " (step.detail)
                        }
                    }
                }
                @if why.verdict == "allow" && frame.may(Role::Operator) { (try_it(frame, [from, to, port])) }
            }
        }
    };
    frame.listed(Seen::Still, &content)
}

/// The form that has a runner try it.
fn try_it(frame: &Frame<'_>, [from, to, port]: [&str; 3]) -> Markup {
    html! {
        form #probe action="/why" method="post" {
            (frame.proof())
            @for (name, value) in [("from", from), ("to", to), ("port", port)] {
                input type="hidden" name=(name) value=(value);
            }
            button type="submit" { "Probe now" }
            span.note { "A runner opens this connection from an instance of " (from) ", and closes it again." }
        }
    }
}

/// The link that gives trust, where two deployments are concerned.
fn remedy(frame: &Frame<'_>, from: &str, to: &str) -> Markup {
    let (caller, callee) = (deployment_of(from), deployment_of(to));
    html! {
        @if caller != callee {
            p {
                (act(frame, Role::Operator, "Give trust", &format!("to {caller} in {callee}"), &[
                    ("do", "give"), ("deployment", callee), ("caller", caller),
                ]))
            }
        }
    }
}
