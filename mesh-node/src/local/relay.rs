//! Relays, mapped ports and round trips, in the agent's answers.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// A time in milliseconds, to a tenth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "f64", from = "f64")]
pub(crate) struct Millis {
    tenths: u32,
}

impl From<Duration> for Millis {
    fn from(time: Duration) -> Self {
        Self { tenths: u32::try_from((time.as_micros() + 50) / 100).unwrap_or(u32::MAX) }
    }
}

impl From<Millis> for f64 {
    fn from(time: Millis) -> Self {
        Self::from(time.tenths) / 10.0
    }
}

impl From<f64> for Millis {
    fn from(millis: f64) -> Self {
        // Saturates.
        Self { tenths: (millis * 10.0).round() as u32 }
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} ms", self.tenths / 10, self.tenths % 10)
    }
}

/// A relay that this runner may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Relay {
    /// Its name.
    pub(crate) name: String,
    /// What carries the messages to it: `udp`, `tcp`, `tls`.
    pub(crate) transport: String,
    /// Where it is.
    pub(crate) address: Option<SocketAddr>,
    /// This runner's address there; absent where it has none.
    pub(crate) relayed: Option<SocketAddr>,
    /// The address that the relay sees this runner come from.
    pub(crate) reflexive: Option<SocketAddr>,
    /// The round trip to it.
    pub(crate) rtt_ms: Option<Millis>,
    /// Why it can't be used, in words.
    pub(crate) error: Option<String>,
}

/// A port of the router that leads to this runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PortMapping {
    /// What the router was asked by: `pcp` or `nat-pmp`; absent while it forwards nothing.
    pub(crate) protocol: Option<String>,
    /// The router's address on this side.
    pub(crate) router: Option<Ipv4Addr>,
    /// The address that leads to this runner.
    pub(crate) outside: Option<SocketAddr>,
    /// What is wrong, in words.
    pub(crate) error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_is_a_number_of_milliseconds() {
        let time = Millis::from(Duration::from_micros(12_345));
        assert_eq!((time.to_string(), serde_json::to_string(&time).unwrap()), ("12.3 ms".into(), "12.3".into()));
        assert_eq!(serde_json::from_str::<Millis>("12.3").unwrap(), time);
        assert_eq!(serde_json::from_str::<Millis>("0").unwrap(), Millis::from(Duration::ZERO));
        assert_eq!(Millis::from(Duration::MAX).tenths, u32::MAX);
    }
}
