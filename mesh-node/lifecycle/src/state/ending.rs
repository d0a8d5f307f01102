//! An instance that is being taken out.

use std::{collections::BTreeMap, time::Instant};

use mesh_proto::message::{Have, Held};

use super::request::{Attach, LetGoCaller};
use crate::{CallId, ContainerId, EndReason, Farewell, HostsPlace, OpId, Port, SaveId, Shown, effect::KeptHosts};

/// An instance that is being taken out: first out of the views of all runners, so that the ends of its connections hear
/// of it while they can still reach it, then out of its namespace.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) shown: Shown,
    pub(crate) hosts: Vec<KeptHosts>,
    pub(crate) port: Option<Port>,
    pub(crate) reason: EndReason,
    pub(crate) farewell: Farewell,
    pub(crate) step: EndStep,
    pub(crate) then: Then,
}

/// How far an end is.
#[derive(Debug)]
pub(crate) enum EndStep {
    /// The file is being written.
    Saving(SaveId),
    /// The coordinator is told. If it is away, the next stream tells it.
    Telling,
    /// Waits until the view without the instance is in force.
    Applying {
        since: Have,
        until: Instant,
    },
    EndingConnections,
    /// From here on another instance can take its place. Left are steps in the kernel, and hosts files that are being
    /// cleared.
    Removing(BTreeMap<OpId, Option<HostsPlace>>),
}

/// What comes after an end.
#[derive(Debug)]
pub(crate) enum Then {
    Nothing,
    Detached(CallId),
    DetachedForAll,
    LetGo(ContainerId, LetGoCaller),
    /// The attachment that found the namespace occupied.
    Attach(Box<Attach>),
}

/// An instance whose end the coordinator does not know yet. While the coordinator is away, the next instance of the
/// service may take it over.
#[derive(Debug, Clone)]
pub(crate) struct Departed {
    pub(crate) held: Held,
    /// A stream has begun since, and its hello did not name the instance.
    pub(crate) told: bool,
}
