//! Who may open connections to whom: the reference verdict.
//!
//! The verdict is a pure function of the rules and the segment, without memory. A permission is one-way: all segments
//! may go from caller to callee, and all but a SYN may go back. No TCP connection starts without a SYN (RFC 9293
//! §3.5), so the rule survives restarts, and revoking it stops open connections.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{DeploymentId, Label, ServiceId};

/// The TCP ports of a callee.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Ports {
    /// Every port.
    All,
    /// These ports; none if the set is empty.
    Only(BTreeSet<u16>),
}

impl Ports {
    /// Whether the set contains `port`.
    #[must_use]
    pub fn contain(&self, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Only(ports) => ports.contains(&port),
        }
    }
}

/// What a verdict needs to know about a TCP segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// The sender's port.
    pub source_port: u16,
    /// The receiver's port.
    pub destination_port: u16,
    /// Whether it has SYN without ACK, whatever other flags it has: SYN|FIN and SYN|RST count as SYN.
    pub opens: bool,
}

/// The direction of a segment in a permitted connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the side that may open it.
    Call,
    /// To the side that may open it.
    Reply,
}

/// Why a segment is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Denial {
    /// One of the services is unknown.
    #[error("unknown service")]
    UnknownService,
    /// Their deployments belong to different teams.
    #[error("another team")]
    AnotherTeam,
    /// The callee's deployment doesn't trust the caller's deployment to call this service.
    #[error("no trust")]
    NoTrust,
    /// It does, but not on this port.
    #[error("a port outside the trust's ports")]
    PortNotTrusted,
    /// Only the receiver may open connections between these two.
    #[error("only the other side may open connections")]
    WrongWay,
}

/// The verdict on a segment.
pub type Verdict = Result<Direction, Denial>;

/// The facts for verdicts. An absent fact grants nothing.
pub trait Rules {
    /// The deployment of a service.
    fn deployment_of(&self, service: ServiceId) -> Option<DeploymentId>;
    /// The team of a deployment.
    fn team_of(&self, deployment: DeploymentId) -> Option<&Label>;
    /// The ports on which the services of `caller` may call `callee`, a service of another deployment.
    fn grant(&self, caller: DeploymentId, callee: ServiceId) -> Option<&Ports>;
}

/// Whether `caller` may open a connection to `port` of `callee`.
///
/// # Errors
/// Why it may not.
pub fn may_open(rules: &impl Rules, caller: ServiceId, callee: ServiceId, port: u16) -> Result<(), Denial> {
    let from = rules.deployment_of(caller).ok_or(Denial::UnknownService)?;
    let to = rules.deployment_of(callee).ok_or(Denial::UnknownService)?;
    if from == to {
        return Ok(());
    }
    match (rules.team_of(from), rules.team_of(to)) {
        (Some(a), Some(b)) if a == b => {}
        (Some(_), Some(_)) => return Err(Denial::AnotherTeam),
        _ => return Err(Denial::UnknownService),
    }
    match rules.grant(from, callee) {
        None => Err(Denial::NoTrust),
        Some(ports) if ports.contain(port) => Ok(()),
        Some(_) => Err(Denial::PortNotTrusted),
    }
}

/// The verdict on a segment from `source` to `destination`.
///
/// # Errors
/// Why the segment is denied.
pub fn verdict(rules: &impl Rules, source: ServiceId, destination: ServiceId, segment: Segment) -> Verdict {
    let refusal = match may_open(rules, source, destination, segment.destination_port) {
        Ok(()) => return Ok(Direction::Call),
        Err(refusal) => refusal,
    };
    // For a reply, the permission is the receiver's, and its ports are compared with the sender's port.
    match may_open(rules, destination, source, segment.source_port) {
        Ok(()) if segment.opens => Err(if refusal == Denial::NoTrust { Denial::WrongWay } else { refusal }),
        Ok(()) => Ok(Direction::Reply),
        Err(_) => Err(refusal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Services 10 and 11 of deployment 1, 20 and 21 of deployment 2 (same team), 30 of deployment 3 (another team).
    /// Deployment 1 may call 20 on 5432, and 30, which the teams forbid.
    struct World;

    impl Rules for World {
        fn deployment_of(&self, service: ServiceId) -> Option<DeploymentId> {
            (10..40).contains(&service.0).then_some(DeploymentId(service.0 / 10))
        }

        fn team_of(&self, deployment: DeploymentId) -> Option<&Label> {
            static TEAMS: std::sync::LazyLock<[Label; 2]> =
                std::sync::LazyLock::new(|| ["acme".parse().unwrap(), "evil".parse().unwrap()]);
            match deployment.0 {
                1 | 2 => Some(&TEAMS[0]),
                3 => Some(&TEAMS[1]),
                _ => None,
            }
        }

        fn grant(&self, caller: DeploymentId, callee: ServiceId) -> Option<&Ports> {
            static DB: std::sync::LazyLock<Ports> = std::sync::LazyLock::new(|| Ports::Only([5432].into()));
            match (caller.0, callee.0) {
                (1, 20) => Some(&DB),
                (1, 30) => Some(&Ports::All),
                _ => None,
            }
        }
    }

    fn ask(from: u64, to: u64, source_port: u16, destination_port: u16, opens: bool) -> Verdict {
        verdict(&World, ServiceId(from), ServiceId(to), Segment { source_port, destination_port, opens })
    }

    #[test]
    fn one_deployment_is_open_both_ways() {
        for (from, to) in [(10, 11), (11, 10), (10, 10)] {
            assert_eq!(ask(from, to, 1, 2, true), Ok(Direction::Call));
        }
    }

    #[test]
    fn trust_opens_one_way_and_lets_the_other_answer() {
        assert_eq!(ask(10, 20, 40000, 5432, true), Ok(Direction::Call));
        assert_eq!(ask(10, 20, 40000, 5432, false), Ok(Direction::Call));
        assert_eq!(ask(20, 10, 5432, 40000, false), Ok(Direction::Reply));
        assert_eq!(ask(20, 10, 5432, 40000, true), Err(Denial::WrongWay), "a bare SYN is no answer");
        assert_eq!(ask(20, 10, 5433, 40000, false), Err(Denial::NoTrust), "an answer from a port never called");
    }

    #[test]
    fn what_is_not_opened_is_closed() {
        assert_eq!(ask(10, 20, 40000, 80, true), Err(Denial::PortNotTrusted));
        assert_eq!(ask(10, 21, 40000, 5432, true), Err(Denial::NoTrust));
        assert_eq!(ask(10, 30, 40000, 1, true), Err(Denial::AnotherTeam), "the grant across teams is without effect");
        assert_eq!(ask(30, 10, 1, 40000, false), Err(Denial::AnotherTeam));
        assert_eq!(ask(10, 99, 1, 1, true), Err(Denial::UnknownService));
        assert_eq!(ask(99, 10, 1, 1, false), Err(Denial::UnknownService));
    }

    #[test]
    fn no_ports_is_not_all_ports() {
        assert!(!Ports::Only(BTreeSet::new()).contain(80) && Ports::All.contain(80));
    }
}
