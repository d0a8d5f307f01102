//! A request for an instance, and what waits for a container or a hosts file.

use std::time::Instant;

use crate::{AttachRequest, CallId, WatchId};

/// A request to attach, on its way.
#[derive(Debug, Clone)]
pub(crate) struct Attach {
    pub(crate) call: CallId,
    pub(crate) request: AttachRequest,
    /// Its container has held the namespace only since this request.
    pub(crate) fresh: bool,
    /// The end of the instance shows without the end of the namespace.
    pub(crate) watched: bool,
}

/// What hears that a container has let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LetGoCaller {
    Call(CallId),
    /// Nothing: its process has ended, or it starts elsewhere.
    None,
    /// The start of the agent.
    Start,
}

/// A change of a container.
#[derive(Debug)]
pub(crate) enum IdJob {
    Attach(Box<Attach>),
    Detach(CallId),
    Ended(WatchId),
}

/// A wait for a hosts file that another service keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HostsWait {
    pub(crate) since: Instant,
    /// When the next attempt is due at the latest. `None`: an attempt is under way.
    pub(crate) retry: Option<Instant>,
}

impl HostsWait {
    /// The first attempt is under way.
    pub(crate) const fn begun(now: Instant) -> Self {
        Self { since: now, retry: None }
    }
}
