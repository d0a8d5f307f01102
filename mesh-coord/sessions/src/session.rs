//! The streams of one runner.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Instant};

use mesh_model::{Sliced, record::StreamKey};
use mesh_proto::{
    DeploymentId, Revision, RunnerId,
    message::{Have, Switches},
};

/// A stream, by its runner and its number since the coordinator's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// The runner.
    pub runner: RunnerId,
    /// The number.
    pub number: u64,
}

/// The agent at the other end of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The agent's process, a random number; `None` for agents too old to send it.
    pub process: Option<u64>,
    /// The address that it connects from.
    pub from: IpAddr,
}

/// A connected stream.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) number: u64,
    /// Its name in the records, where several coordinators serve.
    pub(crate) key: Option<StreamKey>,
    pub(crate) peer: Peer,
    pub(crate) switches: Switches,
    /// The runner's view when it was last computed.
    pub(crate) view: Arc<Sliced>,
    /// The first later commit that may have changed the view. The stream asks for the new view when it is ready, so a
    /// slow stream costs nothing, and commits don't wait for views to be computed.
    pub(crate) outdated: Option<Revision>,
    /// The last revision at which `view` changed for the runner.
    pub(crate) changed: Revision,
    /// The revision that the agent has confirmed on this stream.
    pub(crate) confirmed: Option<Revision>,
    /// Since when something that may have changed is not in force there: a commit, or the stream's begin.
    pub(crate) behind: Option<Instant>,
}

impl Session {
    /// Whether the agent has confirmed all that changed up to `revision`. Until the view is computed again, a
    /// possible change counts as one.
    pub(crate) fn has_confirmed(&self, revision: Revision) -> bool {
        self.outdated.is_none_or(|outdated| outdated > revision)
            && self.confirmed.is_some_and(|confirmed| confirmed >= revision.min(self.changed))
    }

    /// Whether the agent has confirmed all that changed.
    pub(crate) fn is_current(&self) -> bool {
        self.outdated.is_none() && self.has_confirmed(self.changed)
    }
}

/// Whether a runner is connected.
#[derive(Debug)]
pub(crate) enum Link {
    /// Connected.
    Connected(Session),
    /// Not connected.
    Away {
        /// When its last stream ended, or when it enrolled. `None`: before the coordinator's start.
        since: Option<Instant>,
        /// The agent of its last stream.
        last: Option<Peer>,
        /// Its view when its last stream ended.
        view: Option<Arc<Sliced>>,
        /// The last view that its last stream sent.
        sent: Option<Arc<Sliced>>,
    },
}

/// A runner that has been connected or has enrolled since the coordinator's start.
#[derive(Debug)]
pub(crate) struct Presence {
    pub(crate) link: Link,
    /// Deployments that an earlier view held, with the revision of the first view without them. Until the agent
    /// confirms that revision, its runner may still act on the earlier view.
    pub(crate) lost: BTreeMap<DeploymentId, Revision>,
    /// The latest revision of a view that this run of the coordinator has made for it.
    pub(crate) made: Revision,
}

impl Presence {
    pub(crate) const fn away(since: Option<Instant>) -> Self {
        let link = Link::Away { since, last: None, view: None, sent: None };
        Self { link, lost: BTreeMap::new(), made: Revision(0) }
    }

    pub(crate) const fn session(&self) -> Option<&Session> {
        match &self.link {
            Link::Connected(session) => Some(session),
            Link::Away { .. } => None,
        }
    }

    pub(crate) const fn session_mut(&mut self) -> Option<&mut Session> {
        match &mut self.link {
            Link::Connected(session) => Some(session),
            Link::Away { .. } => None,
        }
    }

    /// Whether the runner may act on knowledge about the deployment.
    pub(crate) fn may_know(&self, deployment: DeploymentId) -> bool {
        let view = match &self.link {
            Link::Connected(session) => Some(&session.view),
            Link::Away { view, .. } => view.as_ref(),
        };
        self.lost.contains_key(&deployment) || view.is_some_and(|view| view.holds(deployment))
    }

    /// The view that the agent reports to have, if the coordinator still has it too.
    pub(crate) fn continued(&self, have: Option<Have>) -> Option<Arc<Sliced>> {
        let Link::Away { sent: Some(sent), .. } = &self.link else { return None };
        have.is_some_and(|have| have.epoch == sent.epoch && have.revision == sent.revision).then(|| Arc::clone(sent))
    }

    /// Records that `after` replaces the last computed view.
    pub(crate) fn replace_view(&mut self, after: &Sliced) {
        self.made = self.made.max(after.revision);
        let before = match &self.link {
            Link::Connected(session) => Some(&session.view),
            Link::Away { view, .. } => view.as_ref(),
        };
        let gone: Vec<_> = before.into_iter().flat_map(|view| view.gone(after)).collect();
        self.lost.extend(gone.into_iter().map(|deployment| (deployment, after.revision)));
        self.lost.retain(|deployment, _| !after.holds(*deployment));
    }
}
