//! What runners may still act on that was taken back, where several coordinators serve.

use std::collections::BTreeMap;

use mesh_proto::{DeploymentId, Revision, RunnerId};
use serde::{Deserialize, Serialize};

/// Deployments that a runner may still act on although its map doesn't hold them any more, each with the revision of
/// the commit that took it. The runner owes to confirm that revision or a later one. `None` is any deployment.
pub type Owes = BTreeMap<Option<DeploymentId>, Revision>;

/// The runners that may still act on one deployment. It is a record only where the coordinator that has a runner's
/// stream would not remember: of runners without a stream, and of those that don't confirm for seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    /// The deployment; `None`: any.
    pub of: Option<DeploymentId>,
    /// The runners, with the revision that they have to confirm.
    pub runners: BTreeMap<RunnerId, Revision>,
}

impl Owed {
    /// Of no runner yet.
    #[must_use]
    pub const fn new(of: Option<DeploymentId>) -> Self {
        Self { of, runners: BTreeMap::new() }
    }
}
