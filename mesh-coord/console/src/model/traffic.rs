//! What passes between services, and what is refused.

use serde::Deserialize;

/// How much of the mesh an answer is about.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Coverage {
    /// All runners.
    pub runners: usize,
    /// Those that have reported.
    pub reporting: usize,
    /// The age of the oldest of the last reports.
    pub oldest_seconds: Option<u64>,
    /// Coordinators that don't answer, so that what their runners report is missing or old.
    #[serde(default)]
    pub lacking: Vec<Lacking>,
}

/// A coordinator that doesn't answer.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Lacking {
    /// The name of its machine.
    pub host: String,
}

/// `GET edges`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Edges {
    /// How much of the mesh it is about.
    #[serde(flatten)]
    pub coverage: Coverage,
    /// Pairs of services.
    pub edges: Vec<Edge>,
}

/// What passed between two services.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Edge {
    /// The caller.
    pub from: String,
    /// The callee.
    pub to: String,
    /// Connections that stand.
    pub open: u64,
    /// Connections that were accepted.
    pub opened: u64,
    /// Attempts that the callee has refused.
    pub refused: u64,
    /// Attempts without an answer.
    pub unanswered: u64,
    /// Bytes from the caller.
    pub sent_bytes: u64,
    /// Bytes from the callee.
    pub received_bytes: u64,
    /// How long ago it was in use.
    pub used_seconds: Option<u64>,
}

/// `GET refused`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Refusals {
    /// How much of the mesh it is about.
    #[serde(flatten)]
    pub coverage: Coverage,
    /// The latest first.
    pub refused: Vec<Refused>,
}

/// A kind of refused connections.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Refused {
    /// The caller.
    pub from: String,
    /// The callee.
    pub to: String,
    /// The port; zero: it wasn't TCP.
    pub port: u16,
    /// The reason.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// The runner that refused.
    pub node: String,
    /// How long ago the last one was.
    pub age_seconds: u64,
}

/// `GET edges/series`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Series {
    /// Pairs of services, those that were in use last first.
    pub series: Vec<OfPair>,
}

/// What passed from one service to another one.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct OfPair {
    /// The caller.
    pub from: String,
    /// The callee.
    pub to: String,
    /// Connections that were accepted in each hour.
    pub opened: Vec<u64>,
}
