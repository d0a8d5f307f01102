//! How runners and relays stand with other coordinators.

use std::collections::{BTreeMap, BTreeSet};

use mesh_model::record::MemberId;
use mesh_proto::{RelayId, Revision, RunnerId};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::gather::{Lacking, Told};

/// How do your runners and relays stand?
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct AskStanding {}

/// What a coordinator tells of its runners and relays.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Standing {
    /// The runners that were heard since its start.
    pub(crate) runners: Vec<Heard>,
    /// The runners at which something that changed has not been in force for a while.
    pub(crate) behind: BTreeSet<RunnerId>,
    /// The own relays that have a stream.
    pub(crate) relays: BTreeSet<RelayId>,
}

/// A runner that was heard.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Heard {
    pub(crate) runner: RunnerId,
    /// The revision that it has confirmed, if it is connected.
    pub(crate) revision: Option<Revision>,
    /// How many seconds ago it was heard.
    pub(crate) seconds: u64,
}

/// What all others have told last.
#[derive(Debug, Default)]
pub(crate) struct Elsewhere {
    runners: BTreeMap<RunnerId, Last>,
    pub(crate) behind: BTreeSet<RunnerId>,
    relays: BTreeSet<RelayId>,
    pub(crate) lacking: Vec<Lacking>,
}

#[derive(Debug)]
struct Last {
    heard: Instant,
    confirmed: BTreeMap<MemberId, Revision>,
}

impl Elsewhere {
    pub(crate) fn new(told: Told<Standing>) -> Self {
        let mut this = Self { lacking: told.lacking, ..Self::default() };
        for (member, at, standing) in told.answers {
            for Heard { runner, revision, seconds } in standing.runners.iter().copied() {
                let heard = at.checked_sub(std::time::Duration::from_secs(seconds)).unwrap_or(at);
                let last = this.runners.entry(runner).or_insert(Last { heard, confirmed: BTreeMap::new() });
                last.heard = heard.max(last.heard);
                last.confirmed.extend(revision.map(|revision| (member, revision)));
            }
            this.behind.extend(&standing.behind);
            this.relays.extend(&standing.relays);
        }
        this
    }

    /// How many seconds ago a runner was heard by another coordinator.
    pub(crate) fn heard(&self, runner: RunnerId) -> Option<u64> {
        self.runners.get(&runner).map(|last| last.heard.elapsed().as_secs())
    }

    /// The revision that a runner has confirmed at this coordinator, to which it is connected.
    pub(crate) fn confirmed(&self, runner: RunnerId, at: MemberId) -> Option<Revision> {
        self.runners.get(&runner)?.confirmed.get(&at).copied()
    }

    /// Whether an own relay has a stream to another one.
    pub(crate) fn has_relay(&self, relay: RelayId) -> bool {
        self.relays.contains(&relay)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_latest_word_counts_and_a_revision_only_where_the_runner_is_connected() {
        let runner = RunnerId(7);
        let standing = |revision, seconds| {
            let heard = Heard { runner, revision, seconds };
            Arc::new(Standing { runners: vec![heard], behind: BTreeSet::new(), relays: [RelayId(seconds)].into() })
        };
        tokio::time::advance(Duration::from_secs(1000)).await;
        let at = Instant::now();
        let (one, two) = (MemberId(1), MemberId(2));
        let answers = vec![(one, at, standing(Some(Revision(5)), 3)), (two, at, standing(None, 90))];
        let elsewhere = Elsewhere::new(Told { answers, lacking: vec![] });
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!((elsewhere.heard(runner), elsewhere.heard(RunnerId(8))), (Some(5), None));
        assert_eq!((elsewhere.confirmed(runner, one), elsewhere.confirmed(runner, two)), (Some(Revision(5)), None));
        assert!(elsewhere.has_relay(RelayId(90)) && !elsewhere.has_relay(RelayId(4)));
    }
}
