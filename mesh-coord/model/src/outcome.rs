//! The result of a command, for the answer to its caller.

use std::{fmt, net::Ipv4Addr};

use mesh_proto::{InstanceId, Label, Ports, RunnerId, ServiceId, ServiceName, TokenId};
use serde::{Deserialize, Serialize};

use crate::{
    Offload, UnixSeconds,
    declare::{Pattern, Trust},
    record::Change,
    words::{list, quoted},
};

/// What a command leads to, once the store has committed its changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What to commit, all at once; with nothing to change there is no commit and no new revision.
    pub changes: Vec<Change>,
    /// The answer, if the commit succeeds.
    pub outcome: Outcome,
}

/// The answer to a command. Serialised, it is the body of the answer to an admin request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// To `Apply`.
    Planned(Plan),
    /// To `Delete`.
    Deleted {
        /// The deployment that is gone.
        deployment: Label,
        /// How many services it had.
        services: usize,
        /// Its instances, which have ended.
        instances: Vec<InstanceId>,
        /// The deployments on whose trust lists it stood.
        untrusted_by: Vec<Label>,
    },
    /// To `Trust`.
    Trusted {
        /// Who is called.
        deployment: Label,
        /// Who may call it now.
        trust: Vec<Trust>,
        /// For each caller that the command named, or that lost its right, who may now call whom.
        directions: Vec<BothWays>,
        /// What the operator may not have expected.
        warnings: Vec<String>,
    },
    /// To `CreateToken`.
    TokenCreated {
        /// Its identifier, which the token's text carries.
        token: TokenId,
        /// From when on it is no longer good.
        expires: UnixSeconds,
        /// What the operator may not have expected.
        warnings: Vec<String>,
    },
    /// To `RevokeToken`.
    TokenRevoked {
        /// Which.
        token: TokenId,
        /// The runners that were removed with it.
        removed: Vec<Label>,
        /// The runners that it enrolled and that stay.
        standing: Vec<Label>,
    },
    /// To `RemoveNode`.
    NodeRemoved {
        /// Which.
        runner: RunnerId,
        /// Its instances, which have ended.
        instances: Vec<InstanceId>,
        /// What the operator may not have expected.
        warnings: Vec<String>,
    },
    /// To an enrolment.
    Enrolled {
        /// Which runner the machine is now.
        runner: RunnerId,
        /// Whether it was none before.
        new: bool,
        /// The runner whose name it took over, which is removed.
        replaced: Option<RunnerId>,
    },
    /// To `Hello`.
    Welcomed {
        /// Instances that the runner didn't hold any more: ended.
        ended: Vec<InstanceId>,
        /// Instances that the coordinator didn't know: taken in.
        adopted: Vec<InstanceId>,
        /// Instances that the runner holds and can't keep: it is to attach them anew.
        rejected: Vec<InstanceId>,
    },
    /// To `Attach`.
    Attached {
        /// The new instance.
        instance: InstanceId,
        /// Its service.
        service: ServiceId,
        /// Its own address.
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
        /// Which.
        instance: InstanceId,
        /// Of which service.
        service: String,
        /// On which runner.
        node: Option<Label>,
        /// Whether it is out of new connections now.
        draining: bool,
    },
    /// To `DrainNode` and `UndrainNode`.
    NodeDrained {
        /// Which.
        node: Label,
        /// Whether what it hosts is out of new connections now.
        drained: bool,
        /// The instances that this has changed.
        instances: Vec<InstanceId>,
    },
    /// To `Leave`.
    Left {
        /// Its instances, which have ended.
        instances: Vec<InstanceId>,
    },
    /// To `Switch`.
    Switched {
        /// Which.
        offload: Offload,
        /// Whether it is on.
        on: bool,
        /// Of which runner; `None`: the mesh's switch.
        node: Option<Label>,
        /// What the operator may not have expected.
        warnings: Vec<String>,
    },
    /// To `Endpoints`, `TakenOver`, `Silent`, `Expire` and `Refused`.
    Noted,
}

/// What an `apply` does, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// It was only asked for: nothing has changed.
    pub dry_run: bool,
    /// Each deployment that the files name, by name.
    pub deployments: Vec<DeploymentPlan>,
    /// What the operator may not have expected.
    pub warnings: Vec<String>,
}

impl Plan {
    /// Whether all is as the files say already.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.deployments.iter().all(DeploymentPlan::is_empty)
    }

    /// The services that go.
    #[must_use]
    pub fn removed(&self) -> Vec<String> {
        let of = |d: &DeploymentPlan| {
            let gone = d.services.iter().filter(|s| matches!(s.change, ServiceChange::Removed { .. }));
            gone.map(|s| format!("{}/{}", d.deployment, s.service)).collect::<Vec<_>>()
        };
        self.deployments.iter().flat_map(of).collect()
    }
}

/// What an `apply` does to one deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentPlan {
    /// Its name.
    pub deployment: Label,
    /// Its team.
    pub team: Label,
    /// It doesn't exist yet.
    pub new: bool,
    /// What changes in what it says of itself (`expose`, who rules its trust), in words.
    pub settings: Vec<String>,
    /// Its services that are added, changed or removed, by name.
    pub services: Vec<ServicePlan>,
    /// How many services stay as they are.
    pub unchanged: usize,
    /// For each caller whose entries on its trust list change, who may then call whom.
    pub directions: Vec<BothWays>,
}

impl DeploymentPlan {
    /// Whether it is as the files say already.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        !self.new && self.settings.is_empty() && self.services.is_empty() && self.directions.is_empty()
    }
}

/// What an `apply` does to one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePlan {
    /// Its name.
    pub service: ServiceName,
    /// What happens to it.
    pub change: ServiceChange,
}

/// What an `apply` does to a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "lowercase")]
pub enum ServiceChange {
    /// It is new.
    Added {
        /// Its address; none in a dry run, which reserves nothing.
        address: Option<Ipv4Addr>,
    },
    /// It is declared differently; its address and its instances stay.
    Changed {
        /// Which of its keys, as they are written in a deployment file.
        keys: Vec<String>,
    },
    /// It is gone.
    Removed {
        /// Its instances, which have ended.
        instances: Vec<InstanceId>,
    },
}

/// Who may call whom, between two deployments: what `trust` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BothWays {
    /// The deployment that the trust is about.
    pub caller: Label,
    /// The deployment that trusts.
    pub callee: Label,
    /// Whether `caller` may call `callee`.
    pub forward: May,
    /// Whether that is new.
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

/// What a permission is limited to, in brackets; nothing if it isn't.
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

/// Whether a deployment may call another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "may", rename_all = "kebab-case")]
pub enum May {
    /// It may not.
    Not,
    /// It may, as soon as there is a deployment of its name in the same team.
    OnceThere {
        /// What it then may call.
        what: Vec<Opened>,
    },
    /// It may.
    Call {
        /// What.
        what: Vec<Opened>,
    },
}

/// What one entry of a trust list opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Which services; `None`: all.
    pub services: Option<Vec<Pattern>>,
    /// On which ports.
    pub ports: Ports,
}
