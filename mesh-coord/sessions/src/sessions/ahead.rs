//! Agents that have seen more than the coordinator's database holds. A view must not go back, or what was taken back
//! would count again.
//!
//! An epoch outlasts the coordinator's run, so its agents compare revisions over restarts. If the database was put back
//! to an earlier state between two runs, only an agent that has seen a later one can tell.

use std::time::Instant;

use mesh_proto::{Epoch, Revision, RunnerId, message::Have};

use super::Sessions;
use crate::session::StreamId;

/// An agent has a view to which this run's database doesn't lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ahead {
    /// The epoch is an earlier run's, whose last commits are lost: another epoch has to begin.
    OfRestored {
        /// The revision of the agent's view.
        seen: Revision,
    },
    /// This run has drawn the epoch, and never made such a view: the agent is mistaken.
    OfNothing,
}

impl Sessions {
    /// The same with the epoch of an earlier run, at this revision.
    #[must_use]
    pub fn resume(epoch: Epoch, revision: Revision, now: Instant) -> Self {
        let mut this = Self::new(epoch, now);
        this.resumed_at = Some(revision);
        this
    }

    /// Whether the view that an agent has is one that the coordinator's database doesn't lead to. Such an agent can't
    /// be served in this epoch, because a view must not go back.
    #[must_use]
    pub fn ahead(&self, runner: RunnerId, have: Option<Have>) -> Option<Ahead> {
        let have = have.filter(|have| have.epoch == self.epoch)?;
        let made = self.presence(runner).map_or(Revision(0), |presence| presence.made);
        // Another coordinator may have made it of any commit that this one knows.
        let made = self.reached_by_all().map_or(made, |reached| reached.max(made));
        match self.resumed_at {
            Some(at) if have.revision > made.max(at) => Some(Ahead::OfRestored { seen: have.revision }),
            None if have.revision > made => Some(Ahead::OfNothing),
            _ => None,
        }
    }

    /// Another epoch begins, because the database was put back to an earlier state before this run: all streams end, and
    /// all views are sent anew.
    pub fn renew(&mut self, epoch: Epoch, now: Instant) {
        (self.epoch, self.resumed_at) = (epoch, None);
        let numbers = self.runners.iter().filter_map(|(runner, p)| Some((*runner, p.session()?.number)));
        for (runner, number) in numbers.collect::<Vec<_>>() {
            self.close(StreamId { runner, number }, None, now);
        }
        for presence in self.runners.values_mut() {
            presence.made = Revision(0);
        }
    }
}
