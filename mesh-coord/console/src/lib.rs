//! The pages of the console: answers of the admin API in, markup out. Pure.
//!
//! Every page is a real URL that works by GET, without JavaScript, by keyboard, and for screen readers. No value gets
//! into markup but through maud's escaping. State never shows by colour alone.

mod frame;
pub mod model;
mod pages;
mod words;

pub use frame::{Frame, failure};
pub use maud::Markup;
pub use pages::{audit, map, overview, refused, runners, services, why};

/// The style sheet, served at [`STYLE_PATH`].
pub const STYLE: &str = include_str!("../assets/console.css");
/// Where pages expect [`STYLE`].
pub const STYLE_PATH: &str = "/console.css";
/// The script, served at [`SCRIPT_PATH`]. It renews what changes while a page is looked at.
pub const SCRIPT: &str = include_str!("../assets/console.js");
/// Where pages expect [`SCRIPT`].
pub const SCRIPT_PATH: &str = "/console.js";

/// The `Content-Security-Policy` that suffices for all pages (W3C CSP Level 3).
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                          form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

#[cfg(test)]
mod tests;
