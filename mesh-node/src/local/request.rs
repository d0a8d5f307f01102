//! What the agent can be asked.

use std::path::PathBuf;

use mesh_proto::{InstanceId, ServicePath};
use serde::{Deserialize, Serialize};

use super::ContainerId;
use crate::hosts::Place;

/// A request, on one line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Request {
    /// Puts an instance into a namespace. Descriptors beside it, in this order: the network namespace; the hosts file if
    /// `hosts` is given; a pidfd if `process` is set, whose end is the instance's end. Answer: [`super::Attach`].
    Attach {
        /// Of which service.
        service: ServicePath,
        /// Whether it only calls.
        #[serde(default)]
        client: bool,
        /// Where the namespace was found.
        namespace: NamespacePlace,
        /// Where the hosts file was found.
        #[serde(default)]
        hosts: Option<Place>,
        /// Whether a pidfd comes along.
        #[serde(default)]
        process: bool,
    },
    /// Ends an instance, or the one in the namespace whose descriptor stands beside. Answer: [`super::Detach`].
    Detach {
        /// Which, if not by namespace.
        #[serde(default)]
        instance: Option<InstanceId>,
    },
    /// Gives a container its instance. Descriptors beside it, in this order: the network namespace; the hosts file if
    /// `hosts` is given; a pidfd of its first process, unless `namespace` is given. Answer: [`super::Attach`].
    AttachContainer {
        /// Which container.
        id: ContainerId,
        /// The service that it belongs to.
        service: ServicePath,
        /// Whether it only calls.
        #[serde(default)]
        client: bool,
        /// Where the hosts file was found.
        #[serde(default)]
        hosts: Option<Place>,
        /// Where the namespace was found, if that is all that is known: then the runtime tells of the end.
        #[serde(default)]
        namespace: Option<PathBuf>,
    },
    /// The containers that hold instances. Answer: [`super::Containers`].
    Containers,
    /// A container has ended, known here or not. Answer: [`super::DetachContainer`].
    DetachContainer {
        /// Which container.
        id: ContainerId,
    },
    /// No new connections to an instance from now on. Answer: [`super::Drain`].
    Drain {
        /// Which.
        instance: InstanceId,
    },
    /// New connections to an instance that was drained. Answer: [`super::Drain`].
    Undrain {
        /// Which.
        instance: InstanceId,
    },
    /// The opposite of joining, after which the agent ends. Answer: [`super::Leave`].
    Leave,
    /// What an instance of the service is given. Answer: [`super::Names`].
    Names {
        /// Which service.
        service: ServicePath,
    },
    /// Answer: [`super::Status`].
    Status,
    /// Answer: [`super::Denied`].
    Denied,
    /// Answer: [`super::Why`].
    Why {
        /// Who calls.
        caller: ServicePath,
        /// Whom.
        callee: ServicePath,
        /// On which port.
        port: u16,
        /// Whether to open such a connection, from an instance of the caller on this runner.
        #[serde(default)]
        probe: bool,
    },
}

/// Where a network namespace was found, to find it again after a restart of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NamespacePlace {
    /// By a path.
    Path(PathBuf),
    /// As that of a process.
    Process(i32),
}
