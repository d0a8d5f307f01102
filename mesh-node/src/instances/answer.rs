//! Instances as local callers see them.

use mesh_lifecycle::Shown;

use crate::local;

/// The name of the interface in every instance's namespace.
const INTERFACE: &str = "mesh0";

pub(super) fn instance(shown: Shown) -> local::Instance {
    let Shown { attachment, warnings } = shown;
    local::Instance {
        id: attachment.instance,
        service: attachment.service,
        address: attachment.address,
        service_address: attachment.service_address,
        interface: INTERFACE.into(),
        client: attachment.client,
        draining: attachment.draining,
        release: attachment.release,
        connections: None,
        containers: vec![],
        warnings,
    }
}
