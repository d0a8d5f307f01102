//! The agent's numbers, in its answers.

use serde::{Deserialize, Serialize};

/// `metrics`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Metrics {
    /// [`super::VERSION`].
    pub(crate) version: u32,
    /// The metrics in Prometheus' text format.
    pub(crate) text: String,
}
