//! Requests to the agent.

use std::path::PathBuf;

use mesh_lifecycle::{ContainerId, HostsPlace, NamespacePlace};
use mesh_proto::{InstanceId, Release, ServicePath};
use serde::{Deserialize, Serialize};

/// The longest request, in bytes.
pub(super) const MAX_REQUEST: usize = 64 << 10;

/// A request, on one line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Request {
    /// Attaches an instance in a namespace. Descriptors, in this order: the network namespace; the hosts file if `hosts` is
    /// given; the resolv.conf if `resolv` is; a pidfd if `process` is set: the end of the process ends the instance. Answer: [`super::Attach`].
    Attach {
        /// Its service.
        service: ServicePath,
        /// Whether it only opens connections.
        #[serde(default)]
        client: bool,
        /// The release that it runs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        release: Option<Release>,
        /// Where the namespace was found.
        namespace: NamespacePlace,
        /// Where the hosts file was found.
        #[serde(default)]
        hosts: Option<HostsPlace>,
        /// Where the resolv.conf was found that is to have the resolver.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resolv: Option<HostsPlace>,
        /// Whether a pidfd follows.
        #[serde(default)]
        process: bool,
    },
    /// Ends an instance, or the one in the namespace of the descriptor. Answer: [`super::Detach`].
    Detach {
        /// The instance; `None`: by namespace.
        #[serde(default)]
        instance: Option<InstanceId>,
    },
    /// Attaches a container's instance. Descriptors, in this order: the network namespace; the hosts file if `hosts` is given; the
    /// resolv.conf if `resolv` is; a pidfd of its first process, unless `namespace` is given. Answer: [`super::Attach`].
    AttachContainer {
        /// The container.
        id: ContainerId,
        /// Its service.
        service: ServicePath,
        /// Whether it only opens connections.
        #[serde(default)]
        client: bool,
        /// The release that it runs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        release: Option<Release>,
        /// Where the hosts file was found.
        #[serde(default)]
        hosts: Option<HostsPlace>,
        /// Where the resolv.conf was found that is to have the resolver.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resolv: Option<HostsPlace>,
        /// Where the namespace was found, if there is no process: then the runtime reports the end.
        #[serde(default)]
        namespace: Option<PathBuf>,
    },
    /// Lists the containers that hold instances. Answer: [`super::Containers`].
    Containers,
    /// Reports the end of a container, known here or not. Answer: [`super::DetachContainer`].
    DetachContainer {
        /// The container.
        id: ContainerId,
    },
    /// Stops new connections to an instance. Answer: [`super::Drain`].
    Drain {
        /// The instance.
        instance: InstanceId,
    },
    /// Allows new connections to a drained instance. Answer: [`super::Drain`].
    Undrain {
        /// The instance.
        instance: InstanceId,
    },
    /// Leaves the mesh, after which the agent ends. Answer: [`super::Leave`].
    Leave,
    /// Lists the names and variables of a service's instances. Answer: [`super::Names`].
    Names {
        /// The service.
        service: ServicePath,
    },
    /// Answer: [`super::Status`].
    Status,
    /// Answer: [`super::Metrics`].
    Metrics,
    /// Answer: [`super::Denied`].
    Denied,
    /// Asks another runner for an answer. Answer: [`super::Ping`].
    Ping {
        /// The runner's name, or DEPLOYMENT/SERVICE.
        target: String,
    },
    /// Answer: [`super::Netcheck`].
    Netcheck,
    /// The end of the log, for a bug report. Answer: [`super::Log`].
    Log,
    /// Answer: [`super::Why`].
    Why {
        /// The service that opens the connection.
        caller: ServicePath,
        /// The service that accepts it.
        callee: ServicePath,
        /// Its TCP port.
        port: u16,
        /// Whether to open such a connection from an instance of the caller on this runner.
        #[serde(default)]
        probe: bool,
    },
}
