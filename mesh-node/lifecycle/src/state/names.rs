//! The names of a service, for the hosts files of all its instances.

use mesh_proto::{ServiceId, View, names::names};

use crate::HostLines;

/// The names of a service in a view.
#[derive(Debug)]
pub(crate) struct ServiceNames {
    pub(crate) hosts: HostLines,
    /// Which names are left out and why, for the log.
    pub(crate) warnings: Vec<String>,
    /// The warning that there are more names than a hosts file may have, if there are.
    pub(crate) beyond: Option<String>,
}

impl ServiceNames {
    /// `None` if the view does not hold the service.
    pub(crate) fn of(view: &View, service: ServiceId) -> Option<Self> {
        let names = names(view, service)?;
        Some(Self { hosts: names.hosts.into(), warnings: names.warnings, beyond: names.beyond })
    }
}
