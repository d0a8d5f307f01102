//! Why a namespace could not be attached.

use std::{io, net::Ipv4Addr, path::PathBuf};

use mesh_proto::Range;

use crate::sys::tun::DEVICE;

/// Why a namespace could not be attached, changed or left.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    #[error("can't open the network namespace {}: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{what} is not a network namespace: give one such as /run/netns/NAME or /proc/PID/ns/net")]
    NotANamespace { what: String },
    #[error(
        "this is the machine's own network namespace, which mesh never changes: give the container a network namespace \
         of its own (not `--network host`), or use `mesh-node run`"
    )]
    Host,
    #[error("there is already an interface mesh0 in this namespace, {what}, which mesh did not make: remove it first")]
    Foreign { what: String },
    #[error("mesh0 of this namespace is served by another process: is a second agent running on this machine?")]
    Served,
    #[error("the coordinator sent the MTU {0}, and 576 to 65535 are possible: check `mesh-coord serve --mtu`")]
    Mtu(u16),
    #[error("the coordinator sent the address {address}, which is not in its range {range}: is its database damaged?")]
    Address { address: Ipv4Addr, range: Range },
    #[error(
        "mesh0 is not in the namespace of this instance any more: something has moved it to another one, or removed its mark. Detach the instance and attach it again"
    )]
    Gone,
    #[error(
        "the namespace already uses addresses of the mesh's range: {0}. Attach it without that network, or choose another range when the coordinator is set up"
    )]
    Clash(String),
    #[error(
        "can't open {DEVICE}: {0}. Load the module (`modprobe tun`), or give the agent's container that device and CAP_NET_ADMIN"
    )]
    NoTun(io::Error),
    #[error("{doing}: {source}{}", hint(source))]
    Step { doing: &'static str, source: io::Error },
}

/// Says what was being done when something failed.
pub(super) trait At<T> {
    fn at(self, doing: &'static str) -> Result<T, AttachError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, doing: &'static str) -> Result<T, AttachError> {
        self.map_err(|source| AttachError::Step { doing, source })
    }
}

fn hint(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied {
        ". The agent needs CAP_NET_ADMIN and CAP_SYS_ADMIN over that namespace: run it as root, or as root of the user namespace that owns it"
    } else {
        ""
    }
}
