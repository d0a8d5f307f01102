//! Finds again what an instance was attached to.

use std::{os::fd::OwnedFd, path::Path};

use mesh_lifecycle::{Attachment, NamespaceId, NamespacePlace};

use crate::{
    attach::{Addressing, Namespace},
    sys::process,
};

/// The namespace of an instance, if it is still there.
pub(super) fn reopen(attachment: &Attachment) -> Option<Namespace> {
    let found = match &attachment.place {
        NamespacePlace::Path(path) => Namespace::open(Path::new(path)),
        NamespacePlace::Process(pid) => Namespace::of_pid(pid.cast_unsigned()),
    };
    let found = found.ok().filter(|namespace| namespace.id() == attachment.namespace);
    found.or_else(|| Namespace::find(attachment.namespace))
}

/// The process with this number, if it is still one of those in a namespace.
pub(super) fn process_in(pid: i32, namespace: NamespaceId) -> Option<OwnedFd> {
    // First hold on to the process, then see that it is the one.
    let process = process::pidfd(pid).ok()?;
    let found = Namespace::of_pid(pid.cast_unsigned()).ok()?;
    (found.id() == namespace).then_some(process)
}

/// How the interface of an instance is configured.
pub(super) fn addressing(attachment: &Attachment) -> Addressing {
    Addressing {
        instance: attachment.address,
        service: attachment.service_address,
        range: attachment.network.range,
        mtu: attachment.network.mtu,
        mark: attachment.mark,
    }
}
