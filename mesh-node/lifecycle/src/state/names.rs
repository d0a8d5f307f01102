//! The names of a service, for the hosts files of all its instances.

use std::sync::Arc;

use mesh_proto::{ServiceId, View, names::names};

use crate::HostLines;

/// The names of a service in a view.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ServiceNames {
    pub(crate) hosts: HostLines,
    /// Which names are left out and why, for the log.
    pub(crate) warnings: Vec<String>,
    /// The warning that there are more names than a hosts file may have, if there are.
    pub(crate) beyond: Option<String>,
}

impl ServiceNames {
    /// `None` if the view does not hold the service. Mostly they are as `before`, and then that is returned: no file is
    /// written for it.
    pub(crate) fn of(view: &View, service: ServiceId, before: Option<Arc<Self>>) -> Option<Arc<Self>> {
        let names = names(view, service)?;
        let now = Self { hosts: names.hosts.into(), warnings: names.warnings, beyond: names.beyond };
        Some(before.filter(|before| **before == now).unwrap_or_else(|| Arc::new(now)))
    }

    /// The warnings for the log, but for `beyond`.
    pub(crate) fn clashes(&self) -> impl Iterator<Item = &String> {
        self.warnings.iter().filter(|warning| Some(*warning) != self.beyond.as_ref())
    }
}
