//! Where the agent serves its numbers.

use std::{fmt, net::SocketAddr, str::FromStr};

use serde::{Deserialize, Serialize};

/// Where the agent serves its numbers, as an operator says it: an address with a port, or `no`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) enum MetricsAt {
    /// Nowhere.
    Nowhere,
    /// At this address.
    Address(SocketAddr),
}

/// A text that is neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an address with a port, such as 127.0.0.1:9744, or no")]
pub(crate) struct ParseMetricsAtError;

impl MetricsAt {
    /// The address.
    pub(crate) const fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Nowhere => None,
            Self::Address(address) => Some(address),
        }
    }
}

impl FromStr for MetricsAt {
    type Err = ParseMetricsAtError;

    fn from_str(text: &str) -> Result<Self, ParseMetricsAtError> {
        if text == "no" {
            return Ok(Self::Nowhere);
        }
        text.parse().map(Self::Address).map_err(|_| ParseMetricsAtError)
    }
}

impl TryFrom<String> for MetricsAt {
    type Error = ParseMetricsAtError;

    fn try_from(text: String) -> Result<Self, ParseMetricsAtError> {
        text.parse()
    }
}

impl fmt::Display for MetricsAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere => f.write_str("no"),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl From<MetricsAt> for String {
    fn from(metrics: MetricsAt) -> Self {
        metrics.to_string()
    }
}
