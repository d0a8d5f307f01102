//! A change before it is made: what it takes away, and a form that makes it.

use maud::{Markup, html};

use crate::{
    ACT_PATH,
    frame::{Frame, Seen, trouble},
};

/// A change that is asked for.
#[derive(Debug, Default)]
pub struct Ask<'a> {
    /// What is to be done, as a title.
    pub title: &'a str,
    /// The word on the button.
    pub button: &'a str,
    /// Where to go back to.
    pub back: &'a str,
    /// The fields that say what is wanted, as they were sent.
    pub fields: &'a [(&'static str, &'a str)],
    /// What has to be typed first, because it can't be undone.
    pub typed: Option<&'a str>,
    /// What would be, and what would be taken away, line by line; `None` if it would be refused.
    pub effect: Option<&'a [String]>,
    /// What the operator may not expect.
    pub warnings: &'a [String],
    /// Why it is refused, and what to try next.
    pub refused: Option<(&'a str, Option<&'a str>)>,
}

/// The page.
#[must_use]
pub fn confirm(frame: &Frame<'_>, ask: &Ask<'_>) -> Markup {
    let content = html! {
        @if let Some((error, hint)) = ask.refused { (trouble(error, hint)) }
        @if let Some(effect) = ask.effect {
            section aria-labelledby="effect" {
                h2 #effect { "What it does" }
                ul.effect { @for line in effect { li { (line.trim_start()) } } }
                @for warning in ask.warnings { p { "▲ " (warning) } }
            }
        }
        form action=(ACT_PATH) method="post" {
            (frame.proof())
            @for (name, value) in ask.fields { input type="hidden" name=(name) value=(value); }
            @if ask.effect.is_some() {
                @if let Some(typed) = ask.typed {
                    label {
                        span { "This can't be undone. To do it, type " code { (typed) } }
                        input type="text" name="typed" autocomplete="off" required;
                    }
                }
                button.danger[ask.typed.is_some()] type="submit" { (ask.button) }
            }
            a href=(ask.back) { "Back, and change nothing" }
        }
    };
    frame.page(ask.title, Seen::Still, &content)
}
