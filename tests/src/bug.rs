//! Bugs that can be planted, to test the simulation itself.

use mesh_proto::{
    Record, View,
    view::{Grant, Instance},
};

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Runners take every permission for its opposite.
    DirectionSwapped,
    /// The coordinator loses one delta in four.
    DeltaDropped,
    /// A restarted agent has lost its predecessor's connections.
    PinLost,
    /// Addresses are reused at once.
    QuarantineIgnored,
    /// The ends of a connection whose right is gone get no RST.
    ResetForgotten,
    /// Packets of hostile instances reach their destination in spite of the verdict.
    SourceBelieved,
    /// Runners don't know which release an instance runs.
    ReleasesMixed,
    /// An engine follows so few connections that hostile instances leave too few to others.
    TableTooSmall,
}

/// The view without releases.
pub(crate) fn mixed(view: &View) -> View {
    let mut mixed = view.clone();
    for instance in view.instances() {
        mixed.put(Record::Instance(Instance { release: None, ..Instance::clone(instance) }.into()));
    }
    mixed
}

/// The view with every permission reversed.
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
