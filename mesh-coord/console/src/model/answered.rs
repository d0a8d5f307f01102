//! What was done, and why a connection is allowed or not.

use serde::Deserialize;

/// `GET audit`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Audit {
    /// The newest first.
    pub audit: Vec<Entry>,
    /// The `before` of the next page.
    #[serde(default)]
    pub next: Option<u64>,
}

/// An entry of the audit.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Entry {
    /// When it happened, in Unix seconds.
    pub at: u64,
    /// Who did it.
    pub by: String,
    /// The name of the actor's token.
    #[serde(default)]
    pub by_name: Option<String>,
    /// What was done.
    pub action: String,
    /// The name of the changed object.
    #[serde(default)]
    pub object: Option<String>,
    /// In words.
    pub detail: String,
    /// `done` or `refused`.
    #[serde(default)]
    pub result: String,
}

/// `GET why`, or `POST probe`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Why {
    /// `allow` or `deny`.
    pub verdict: String,
    /// The steps that led there.
    pub steps: Vec<Step>,
    /// The runner that has tried it.
    #[serde(default)]
    pub node: Option<String>,
}

/// A step of an explanation.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Step {
    /// Its name.
    pub step: String,
    /// Whether it allows the connection.
    pub ok: bool,
    /// The finding.
    pub detail: String,
}
