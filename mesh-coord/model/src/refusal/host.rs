//! Refusals about what a runner hosts and reports.

use std::net::SocketAddr;

use mesh_proto::{InstanceId, Label, ServicePath, endpoint::EndpointError};

use super::{Class, did_you_mean};
use crate::{limits, words::Candidates};

/// A refused report of a runner, or command about an instance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostRefusal {
    /// The deployment doesn't exist, or the runner may not host it. It must not learn which.
    #[error("there is no deployment `{deployment}` that `{runner}` may host: its token's scope is {scope}")]
    OutOfScope {
        /// The name that was asked for.
        deployment: Label,
        /// The runner.
        runner: Label,
        /// The runner's scope, in words.
        scope: String,
        /// Similar names that it may host.
        nearest: Option<Candidates>,
    },
    /// The other end of a connection doesn't exist, or the runner may not know of it. It must not learn which.
    #[error(
        "there is no service `{service}` that `{runner}` may know of: its token's scope is {scope}, and no trust connects \
         that service with `{}`", if service.deployment == *callee { caller } else { callee }
    )]
    OutOfSight {
        /// The service that was asked for.
        service: Box<ServicePath>,
        /// The runner.
        runner: Label,
        /// The runner's scope, in words.
        scope: String,
        /// The calling deployment.
        caller: Label,
        /// The called deployment.
        callee: Label,
    },
    /// An endpoint that no peer could use.
    #[error("the endpoint {endpoint} {why}")]
    BadEndpoint {
        /// The endpoint as reported.
        endpoint: SocketAddr,
        /// Why no peer can use it.
        why: EndpointError,
    },
    /// The instance doesn't exist, or is on another runner.
    #[error("there is no instance {instance} on `{runner}`")]
    NoInstance {
        /// The instance.
        instance: InstanceId,
        /// The runner.
        runner: Label,
    },
    /// The instance doesn't exist, or belongs to another team. The administrator must not learn which.
    #[error("{} {instance}", team.as_ref().map_or("there is no instance".to_owned(), |team| format!("team `{team}` has no instance")))]
    UnknownInstance {
        /// The instance.
        instance: InstanceId,
        /// The caller's team.
        team: Option<Label>,
    },
    /// A client gets no connections anyway.
    #[error("the instance {instance} is a client: it never gets connections, so there is nothing to drain")]
    ClientDrained {
        /// The instance.
        instance: InstanceId,
    },
    /// The runner has its share of the service's instances.
    #[error("`{runner}` has {here} instances of the service `{service}`, and the places left are for other runners")]
    ServiceShare {
        /// The service.
        service: ServicePath,
        /// The runner.
        runner: Label,
        /// How many it has.
        here: usize,
    },
    /// The stream is not the runner's newest one.
    #[error("a newer stream of `{runner}` has begun")]
    Replaced {
        /// The runner.
        runner: Label,
    },
    /// An agent's version that can't be kept.
    #[error("the agent's version is longer than {} bytes, or holds control characters", limits::VERSION)]
    BadVersion,
}

impl HostRefusal {
    pub(crate) fn class(&self) -> Class {
        match self {
            Self::OutOfScope { .. } | Self::OutOfSight { .. } => Class::Forbidden,
            Self::BadEndpoint { .. } | Self::BadVersion => Class::Invalid,
            Self::NoInstance { .. } | Self::UnknownInstance { .. } => Class::NotFound,
            Self::ClientDrained { .. } | Self::ServiceShare { .. } | Self::Replaced { .. } => Class::Conflict,
        }
    }

    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::OutOfScope { deployment, nearest, .. } => {
                Some(did_you_mean(deployment, nearest.as_ref()).unwrap_or_else(|| {
                    format!(
                        "if it exists, make a token for it (`mesh-coord token create --deployment {deployment}`) and join with that as a new runner"
                    )
                }))
            }
            Self::OutOfSight { caller, callee, .. } => Some(format!(
                "if both are of one team, `mesh-coord trust {caller} --app {callee}` lets {caller} call {callee}"
            )),
            Self::BadEndpoint { .. } => {
                Some("give addresses of this machine that its peers can reach (--endpoint)".to_owned())
            }
            Self::NoInstance { .. } => Some("`mesh-node status` lists those of a runner".to_owned()),
            Self::UnknownInstance { .. } => Some("`mesh-coord instances` lists them".to_owned()),
            Self::ServiceShare { .. } => Some(format!(
                "a service can have {} instances on one runner, and no more than are left for others: attach it on another",
                limits::INSTANCES_OF_SERVICE_ON_RUNNER
            )),
            Self::Replaced { .. } => Some("the newer one asks for what is still needed".to_owned()),
            Self::BadVersion => Some("run a released mesh-node".to_owned()),
            Self::ClientDrained { instance } => Some(format!("`mesh-node detach {instance}` on its node ends it")),
        }
    }
}
