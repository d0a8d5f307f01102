//! Mistakes that can be planted, for the tests of the simulation itself.

use mesh_proto::{Record, View, view::Grant};

/// A mistake to be planted, for the tests of the simulation itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Runners take every permission for its opposite.
    DirectionSwapped,
    /// The coordinator loses one delta in four.
    DeltaDropped,
    /// An agent that restarts finds nothing of what the one before knew of connections.
    PinLost,
    /// Addresses are given again at once.
    QuarantineIgnored,
    /// The ends of a connection to which the right is gone are not told.
    ResetForgotten,
    /// What a hostile instance sends reaches whom it is for, whatever it says.
    SourceBelieved,
    /// An engine follows so few connections that hostile instances leave too little to others.
    TableTooSmall,
}

/// The view in which every permission is its opposite.
pub(crate) fn swapped(view: &View) -> View {
    let mut swapped = View::empty(view.epoch, view.revision, view.runner, view.network);
    let services = |deployment| view.services().filter(move |s| s.deployment == deployment).map(|s| s.id);
    for record in view.records() {
        match record {
            Record::Grant(grant) => {
                let callee = view.service(grant.callee).map(|s| s.deployment);
                for (caller, callee) in callee.into_iter().flat_map(|c| services(grant.caller).map(move |s| (c, s))) {
                    swapped.put(Record::Grant(Grant { caller, callee, ports: grant.ports.clone() }.into()));
                }
            }
            other => swapped.put(other.clone()),
        }
    }
    swapped
}
