//! An instance that is being made.

use std::{collections::BTreeMap, time::Instant};

use mesh_proto::message::{Have, Held, Refusal};

use super::request::{Attach, HostsWait};
use crate::{Attachment, Error, HostsPlace, OpId, SaveId, effect::KeptHosts};

/// An instance that is being made.
#[derive(Debug)]
pub(crate) struct Attaching {
    pub(crate) attach: Attach,
    pub(crate) hosts: Option<KeptHosts>,
    pub(crate) step: Step,
    pub(crate) prepared: Prepared,
    pub(crate) grant: Option<Grant>,
    /// Known once the view holds the instance; remembered from then on.
    pub(crate) attachment: Option<Attachment>,
    /// The view that this was taken from.
    pub(crate) seen: Option<Have>,
}

/// An instance that the coordinator has given.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    pub(crate) held: Held,
    /// The first view that holds it; `None`: any view.
    pub(crate) since: Option<Have>,
}

/// What the kernel makes ahead of time.
#[derive(Debug)]
pub(crate) enum Prepared {
    Unasked,
    Pending(OpId),
    Ready,
    Failed(Refusal),
    /// It has become the interface.
    Used,
}

/// How far the making of an instance is.
#[derive(Debug)]
pub(crate) enum Step {
    /// Waits for its hosts file.
    Hosts(HostsWait),
    /// The namespace is searched for addresses of the range.
    FindingClash(OpId),
    /// The coordinator is away, and an instance that is about to end is to be taken over. `why`: the error if it does
    /// not end.
    TakingOver {
        until: Instant,
        why: Option<Refusal>,
    },
    /// Waits for a stream to the coordinator.
    Connecting {
        until: Instant,
    },
    /// The coordinator was asked.
    Asking,
    /// The coordinator did not answer. Whether it is away shows soon.
    FindingOut {
        until: Instant,
        why: Refusal,
    },
    /// The coordinator has given an instance. Waits for the kernel, then until `until` for the view with the instance.
    Granted {
        until: Option<Instant>,
    },
    /// The file is being written, so that the next agent finds what is made from here on.
    Saving(SaveId),
    Creating,
    Naming,
    Serving,
    /// The attachment has failed, and what was done is taken back.
    Undoing {
        error: Error,
        left: BTreeMap<OpId, Option<HostsPlace>>,
    },
}
