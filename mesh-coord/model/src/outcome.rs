//! The results of commands.

use std::{fmt, net::Ipv4Addr};

use mesh_proto::{InstanceId, Label, Ports, RelayId, RunnerId, ServiceId, ServiceName, TokenId};
use serde::{Deserialize, Serialize};

use crate::{
    Offload, UnixSeconds,
    declare::{Pattern, Trust},
    record::Change,
    words::{list, quoted},
};

/// The result of deciding on a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What to commit, at once. Without changes there is no commit and no new revision.
    pub changes: Vec<Change>,
    /// The answer, if the commit succeeds.
    pub outcome: Outcome,
}

/// The answer to a command. Serialised, it is the body of the answer to an admin request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// To `Apply`.
    Planned(Plan),
    /// To `Delete`.
    Deleted {
        /// The deleted deployment.
        deployment: Label,
        /// How many services it had.
        services: usize,
        /// Its instances, which have ended.
        instances: Vec<InstanceId>,
        /// The deployments whose trust lists contained it.
        untrusted_by: Vec<Label>,
    },
    /// To `Trust`.
    Trusted {
        /// The called deployment.
        deployment: Label,
        /// Its trust list now.
        trust: Vec<Trust>,
        /// Both directions for each caller that the command named, or that lost its trust.
        directions: Vec<BothWays>,
        /// Effects that the operator may not expect.
        warnings: Vec<String>,
    },
    /// To `CreateToken`.
    TokenCreated {
        /// The token's identifier, also part of its text.
        token: TokenId,
        /// When it expires.
        expires: UnixSeconds,
        /// Effects that the operator may not expect.
        warnings: Vec<String>,
    },
    /// To `RevokeToken`.
    TokenRevoked {
        /// The token.
        token: TokenId,
        /// The runners that were removed with it.
        removed: Vec<Label>,
        /// The runners that it enrolled and that remain.
        standing: Vec<Label>,
    },
    /// To `RemoveNode`.
    NodeRemoved {
        /// The runner.
        runner: RunnerId,
        /// Its instances, which have ended.
        instances: Vec<InstanceId>,
        /// Effects that the operator may not expect.
        warnings: Vec<String>,
    },
    /// To an enrolment.
    Enrolled {
        /// The machine's runner.
        runner: RunnerId,
        /// Whether the machine is a new runner.
        new: bool,
        /// The removed runner that had the name before.
        replaced: Option<RunnerId>,
    },
    /// To `Hello`.
    Welcomed {
        /// Instances that the runner no longer has. They have ended.
        ended: Vec<InstanceId>,
        /// Instances that the coordinator didn't know and has adopted.
        adopted: Vec<InstanceId>,
        /// Instances that the runner can't keep and has to attach anew.
        rejected: Vec<InstanceId>,
    },
    /// To `Attach`.
    Attached {
        /// The new instance.
        instance: InstanceId,
        /// Its service.
        service: ServiceId,
        /// Its address.
        #[cfg_attr(feature = "schema", schema(value_type = String, format = Ipv4))]
        address: Ipv4Addr,
    },
    /// To `Detach`.
    Detached,
    /// To `Drain`.
    Drained,
    /// To a runner's `Undrain`.
    Undrained,
    /// To an administrator's `Drain` and `Undrain`.
    InstanceDrained {
        /// The instance.
        instance: InstanceId,
        /// Its service.
        service: String,
        /// Its runner.
        node: Option<Label>,
        /// Whether it gets no new connections now.
        draining: bool,
    },
    /// To `DrainNode` and `UndrainNode`.
    NodeDrained {
        /// The runner.
        node: Label,
        /// Whether its instances get no new connections now.
        drained: bool,
        /// The instances that have changed.
        instances: Vec<InstanceId>,
    },
    /// To `Leave`.
    Left {
        /// Its instances, which have ended.
        instances: Vec<InstanceId>,
    },
    /// To `Switch`.
    Switched {
        /// The offload.
        offload: Offload,
        /// Whether it is on.
        on: bool,
        /// The runner; `None`: the whole mesh.
        node: Option<Label>,
        /// Effects that the operator may not expect.
        warnings: Vec<String>,
    },
    /// To `AddRelay`.
    RelayAdded {
        /// The relay.
        relay: RelayId,
        /// Its name.
        name: Label,
    },
    /// To `RemoveRelay`.
    RelayRemoved {
        /// The relay.
        relay: RelayId,
        /// Its name.
        name: Label,
        /// How many relays are left.
        left: usize,
    },
    /// To a relay's enrolment.
    RelayEnrolled {
        /// The relay.
        relay: RelayId,
        /// Its name.
        name: Label,
    },
    /// To `Endpoints`, `TakenOver`, `Silent`, `Expire`, `RelayHello` and `Refused`.
    Noted,
}

/// What an `apply` changes, or would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Plan {
    /// Whether it is a dry run, after which nothing has changed.
    pub dry_run: bool,
    /// The deployments that the files name, by name.
    pub deployments: Vec<DeploymentPlan>,
    /// Effects that the operator may not expect.
    pub warnings: Vec<String>,
}

impl Plan {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.deployments.iter().all(DeploymentPlan::is_empty)
    }

    /// The services that are removed, as `DEPLOYMENT/SERVICE`.
    #[must_use]
    pub fn removed(&self) -> Vec<String> {
        let of = |d: &DeploymentPlan| {
            let gone = d.services.iter().filter(|s| matches!(s.change, ServiceChange::Removed { .. }));
            gone.map(|s| format!("{}/{}", d.deployment, s.service)).collect::<Vec<_>>()
        };
        self.deployments.iter().flat_map(of).collect()
    }
}

/// What an `apply` changes about one deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DeploymentPlan {
    /// Its name.
    pub deployment: Label,
    /// Its team.
    pub team: Label,
    /// Whether it is created.
    pub new: bool,
    /// Changes of its settings (`expose`, the source of its trust), in words.
    pub settings: Vec<String>,
    /// The services that are added, changed or removed, by name.
    pub services: Vec<ServicePlan>,
    /// How many services stay as they are.
    pub unchanged: usize,
    /// Both directions for each caller whose trust changes.
    pub directions: Vec<BothWays>,
}

impl DeploymentPlan {
    /// Whether nothing changes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        !self.new && self.settings.is_empty() && self.services.is_empty() && self.directions.is_empty()
    }
}

/// A service that an `apply` changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ServicePlan {
    /// Its name.
    pub service: ServiceName,
    /// The change.
    pub change: ServiceChange,
}

/// How an `apply` changes a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(tag = "change", rename_all = "lowercase")]
pub enum ServiceChange {
    /// It is added.
    Added {
        /// Its address; `None` in a dry run, which reserves none.
        #[cfg_attr(feature = "schema", schema(value_type = Option<String>, format = Ipv4))]
        address: Option<Ipv4Addr>,
    },
    /// Its declaration changes. It keeps its address and its instances.
    Changed {
        /// The changed keys, as in a deployment file.
        keys: Vec<String>,
    },
    /// It is removed.
    Removed {
        /// Its instances, which have ended.
        instances: Vec<InstanceId>,
    },
}

/// Which of two deployments may call the other, as `trust` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct BothWays {
    /// The trusted deployment.
    pub caller: Label,
    /// The deployment whose trust list it is.
    pub callee: Label,
    /// Whether `caller` may call `callee`.
    pub forward: May,
    /// Whether `forward` has changed.
    pub changed: bool,
    /// Whether `callee` may call `caller`.
    pub back: May,
}

impl BothWays {
    /// Both directions in words: `api may now call shop; shop may not call api`.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Self { caller, callee, .. } = self;
        let forward = match &self.forward {
            May::Not if self.changed => format!("{caller} may no longer call {callee}"),
            May::Not => format!("{caller} may not call {callee}"),
            May::OnceThere { what } => {
                format!("{caller} may call {callee}{} as soon as there is a deployment {caller}", only(what))
            }
            May::Call { what } if self.changed => format!("{caller} may now call {callee}{}", only(what)),
            May::Call { what } => format!("{caller} may call {callee}{}", only(what)),
        };
        let back = match &self.back {
            May::Call { what } => format!("{callee} may call {caller}{}", only(what)),
            May::Not | May::OnceThere { .. } => format!("{callee} may not call {caller}"),
        };
        format!("{forward}; {back}")
    }
}

/// The limits of a permission in brackets; empty if it has none.
fn only(what: &[Opened]) -> String {
    if what.iter().any(|o| o.services.is_none() && o.ports == Ports::All) {
        return String::new();
    }
    format!(" ({})", list(what))
}

impl fmt::Display for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.services {
            None => f.write_str("all services")?,
            Some(patterns) => f.write_str(&list(patterns.iter().map(quoted)))?,
        }
        match &self.ports {
            Ports::All => Ok(()),
            Ports::Only(ports) if ports.len() == 1 => write!(f, " on port {}", list(ports)),
            Ports::Only(ports) => write!(f, " on ports {}", list(ports)),
        }
    }
}

/// Whether one deployment may call another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(tag = "may", rename_all = "kebab-case")]
pub enum May {
    /// No.
    Not,
    /// Yes, once a deployment with its name exists in the same team.
    OnceThere {
        /// What it may call then.
        what: Vec<Opened>,
    },
    /// Yes.
    Call {
        /// What it may call.
        what: Vec<Opened>,
    },
}

/// What an entry of a trust list opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Opened {
    /// The services; `None`: all.
    pub services: Option<Vec<Pattern>>,
    /// The ports.
    pub ports: Ports,
}
