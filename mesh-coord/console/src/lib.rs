//! The pages of the console: answers of the admin API in, markup out. Pure.
//!
//! Every page is a real URL that works by GET, without JavaScript, by keyboard, and for screen readers. Every change is a
//! form that is posted. No value gets into markup but through maud's escaping. State never shows by colour alone.

mod frame;
mod graph;
pub mod model;
mod pages;
mod words;

pub use frame::{Frame, Notice, Seen, closed, failure, sign_in};
pub use maud::Markup;
pub use pages::{
    Ask, Deployed, Filter, Found, Joined, Trail, Wanted, audit, confirm, deployment, deployments, joined, map,
    overview, refused, relays, runner, runners, search, service, services, tokens, why,
};

/// The style sheet, served at [`STYLE_PATH`].
pub const STYLE: &str = include_str!("../assets/console.css");
/// Where pages expect [`STYLE`].
pub const STYLE_PATH: &str = "/console.css";
/// The script, served at [`SCRIPT_PATH`]. It renews what changes while a page is looked at.
pub const SCRIPT: &str = include_str!("../assets/console.js");
/// Where pages expect [`SCRIPT`].
pub const SCRIPT_PATH: &str = "/console.js";
/// Where every change is previewed (GET) and made (POST).
pub const ACT_PATH: &str = "/act";
/// Where the box above every page leads.
pub const SEARCH_PATH: &str = "/search";
/// Where a session is begun.
pub const SIGN_IN_PATH: &str = "/sign-in";
/// Where a session is ended.
pub const SIGN_OUT_PATH: &str = "/sign-out";
/// The field of every form that changes something, with the session's own value.
pub const PROOF: &str = "proof";

/// The `Content-Security-Policy` that suffices for all pages (W3C CSP Level 3).
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                          form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

#[cfg(test)]
mod tests;
