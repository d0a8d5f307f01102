//! Why one service may connect to another, or not.

use maud::{Markup, html};

use super::state;
use crate::{frame::Frame, model::Why};

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
                p.error role="alert" { "✖ " (error) }
                @if let Some(hint) = hint { p { "Next: " (hint) } }
            }
            Some(Ok(why)) => {
                p { (from) " → " (to) ":" (port) " " (state(&why.verdict)) }
                ol.steps {
                    @for step in &why.steps {
                        li data-ok=(step.ok) {
                            strong { (if step.ok { "● " } else { "✖ " }) (step.step) } " " (step.detail)
                        }
                    }
                }
            }
        }
    };
    frame.page(false, &content)
}
