//! What an agent reports of connections: for pages, metrics and previews. A report never grants or takes anything.
//!
//! All counts are absolute, of one life of the agent's data plane, so that a lost report costs nothing.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::{RelayId, RunnerId, ServiceId};

/// The most pairs in one report. The rest follows with the next ones.
pub const MOST_PAIRS: usize = 256;
/// The most refusals in one report.
pub const MOST_REFUSED: usize = 32;
/// The most paths in one report.
pub const MOST_PATHS: usize = 256;

/// A report: what has changed since the stream's last one.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Telemetry {
    /// Distinguishes the lives of the data plane: another number, and all counts have begun at zero.
    pub life: u64,
    /// The seconds since this life began; `None`: the agent is too old to say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<u64>,
    /// Pairs of services, at most [`MOST_PAIRS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pairs: Vec<Pair>,
    /// For each of them, how many seconds ago the agent has seen its counts change; empty: they have only just changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub idle: Vec<u64>,
    /// Refused connections, at most [`MOST_REFUSED`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refused>,
    /// Paths to other runners, at most [`MOST_PATHS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<Path>,
}

/// Which end of the connections is on the reporting runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Both ends.
    Both,
    /// Only the caller.
    From,
    /// Only the callee.
    To,
}

/// What passed between two services. On the wire it is a list, since a runner may report thousands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "PairOnWire", from = "PairOnWire")]
pub struct Pair {
    /// The caller's service.
    pub caller: ServiceId,
    /// The callee's service.
    pub callee: ServiceId,
    /// The end that is on the reporting runner.
    pub side: Side,
    /// The counts.
    pub counts: Counts,
}

/// The counts of a pair of services.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Connections that the callee has accepted.
    pub opened: u64,
    /// Attempts that the callee, or its runner, has refused.
    pub refused: u64,
    /// Attempts without any answer.
    pub unanswered: u64,
    /// Connections that ended by a RST.
    pub reset: u64,
    /// Connections that stand now.
    pub open: u64,
    /// Bytes of TCP payload from the caller, without what was sent again.
    pub sent: u64,
    /// Bytes of TCP payload from the callee, without what was sent again.
    pub received: u64,
}

type PairOnWire = (u64, u64, Side, u64, u64, u64, u64, u64, u64, u64);

impl From<Pair> for PairOnWire {
    fn from(Pair { caller, callee, side, counts }: Pair) -> Self {
        let Counts { opened, refused, unanswered, reset, open, sent, received } = counts;
        (caller.0, callee.0, side, opened, refused, unanswered, reset, open, sent, received)
    }
}

impl From<PairOnWire> for Pair {
    fn from((caller, callee, side, opened, refused, unanswered, reset, open, sent, received): PairOnWire) -> Self {
        let counts = Counts { opened, refused, unanswered, reset, open, sent, received };
        Self { caller: ServiceId(caller), callee: ServiceId(callee), side, counts }
    }
}

/// One end of a refused connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Party {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its service, if the runner knew one at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceId>,
}

/// Connections that the filter of the reporting runner has refused: all with the same services, port and reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The caller of the last one.
    pub caller: Party,
    /// The callee of the last one.
    pub callee: Party,
    /// The callee's TCP port; zero if the packet wasn't TCP.
    pub port: u16,
    /// The reason, as `mesh-node denied --json` names it.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// The seconds since the last one.
    pub age: u64,
}

/// How data reaches another runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Path {
    /// The other runner.
    pub runner: RunnerId,
    /// The kind.
    pub kind: PathKind,
    /// The relay, if it is by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<RelayId>,
    /// The last round trip in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt: Option<u64>,
    /// Unanswered handshakes in a row.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tries: u32,
}

/// The kind of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathKind {
    /// By UDP to the other runner itself.
    Direct,
    /// By a relay.
    Relay,
    /// None at the moment.
    None,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_frozen() {
        let counts = Counts { opened: 1, refused: 2, unanswered: 3, reset: 4, open: 5, sent: 6, received: u64::MAX };
        let caller = Party { address: Ipv4Addr::new(100, 127, 0, 1), service: Some(ServiceId(7)) };
        let callee = Party { address: Ipv4Addr::new(100, 112, 0, 9), service: None };
        let report = Telemetry {
            life: 9,
            age: Some(60),
            pairs: vec![Pair { caller: ServiceId(7), callee: ServiceId(8), side: Side::From, counts }],
            idle: vec![7],
            refused: vec![Refused { caller, callee, port: 80, reason: "no-trust".to_owned(), count: 3, age: 12 }],
            paths: vec![
                Path { runner: RunnerId(2), kind: PathKind::Direct, relay: None, rtt: Some(1500), tries: 0 },
                Path { runner: RunnerId(3), kind: PathKind::Relay, relay: Some(RelayId(4)), rtt: None, tries: 0 },
                Path { runner: RunnerId(5), kind: PathKind::None, relay: None, rtt: None, tries: 6 },
            ],
        };
        let text = r#"{"life":9,"age":60,"pairs":[[7,8,"from",1,2,3,4,5,6,18446744073709551615]],"idle":[7],"refused":[{"caller":{"address":"100.127.0.1","service":"s-7"},"callee":{"address":"100.112.0.9"},"port":80,"reason":"no-trust","count":3,"age":12}],"paths":[{"runner":"r-2","kind":"direct","rtt":1500},{"runner":"r-3","kind":"relay","relay":"relay-4"},{"runner":"r-5","kind":"none","tries":6}]}"#;
        assert_eq!(serde_json::to_string(&report).unwrap(), text);
        assert_eq!(serde_json::from_str::<Telemetry>(text).unwrap(), report);
        assert_eq!(serde_json::from_str::<Telemetry>(r#"{"life":0}"#).unwrap(), Telemetry::default());
        assert_eq!(serde_json::to_string(&Telemetry::default()).unwrap(), r#"{"life":0}"#);
    }
}
