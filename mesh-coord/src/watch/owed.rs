//! Who has yet to put a change of trust into force without being concerned by the deployment any more: whoever lost sight of
//! it by that very change.

use std::collections::{BTreeMap, BTreeSet};

use mesh_proto::{DeploymentId, Revision, RunnerId};

use super::Sessions;

/// By deployment, the runners that a change concerned, and the last such change. Kept for as long as the coordinator lives.
#[derive(Debug, Default)]
pub(crate) struct Owed(BTreeMap<DeploymentId, BTreeMap<RunnerId, Revision>>);

impl Owed {
    /// Notes that the change of `revision` concerns these runners, and forgets those that have put theirs into force.
    pub(crate) fn note(
        &mut self,
        deployment: DeploymentId,
        runners: impl IntoIterator<Item = RunnerId>,
        revision: Revision,
        sessions: &Sessions,
    ) {
        self.0.entry(deployment).or_default().extend(runners.into_iter().map(|runner| (runner, revision)));
        self.0.retain(|_, runners| {
            runners.retain(|runner, revision| !sessions.pending(&BTreeSet::from([*runner]), *revision).is_empty());
            !runners.is_empty()
        });
    }

    /// Those who may have to put a change of this deployment into force.
    pub(crate) fn of(&self, deployment: DeploymentId) -> impl Iterator<Item = RunnerId> {
        self.0.get(&deployment).into_iter().flat_map(|runners| runners.keys().copied())
    }

    /// Forgets a runner that is none any more.
    pub(crate) fn forget(&mut self, runner: RunnerId) {
        for runners in self.0.values_mut() {
            runners.remove(&runner);
        }
    }
}
