//! Leaving the mesh: the instances are detached, the coordinator removes the runner, the identity is deleted.

use std::time::Duration;

use mesh_proto::message::{Answer, Ask, Refusal};

use super::{Agent, apply, coordinators, endpoints, identity, learned, pins, relays};
use crate::{
    hosts, instances,
    local::{self, VERSION},
    state::StateDir,
};

/// How long to wait for a connection to the coordinator that is just being made.
const PATIENCE: Duration = Duration::from_secs(5);

/// All files of an agent, the secret ones first.
const FILES: [&str; 11] = [
    identity::FILE,
    relays::FILE,
    apply::FILE,
    instances::FILE,
    instances::FILE_OF_CONTAINERS,
    hosts::FILE,
    learned::FILE,
    coordinators::FILE,
    endpoints::FILE,
    pins::FILE,
    pins::BOOT,
];

impl Agent {
    /// Leaves the mesh. The agent ends then.
    ///
    /// # Errors
    /// If the coordinator can't be reached; then nothing has changed except that instances may be detached.
    pub(super) async fn leave(&self) -> Result<local::Leave, Refusal> {
        if !self.control.link().unknown && !self.control.connected(PATIENCE).await {
            let why = self.control.link().trouble.map(|trouble| format!(": {trouble}")).unwrap_or_default();
            return Err(Refusal::new(
                format!("the coordinator can't be told that this runner leaves{why}"),
                format!(
                    "try again when it is there; or run `mesh-coord node remove {}` there, stop the agent and delete {}",
                    self.name,
                    self.state.path().display()
                ),
            ));
        }
        let mut ended = self.instances.detach_all().await?;
        // A coordinator that doesn't know this runner need not be asked.
        if !self.control.link().unknown {
            // The coordinator closes the stream then.
            self.control.expect_end(true);
            match self.control.ask(Ask::Leave).await {
                Ok(Answer::Left) => {}
                other => {
                    self.control.expect_end(false);
                    other?;
                    return Err(Refusal::bare("the coordinator's answer doesn't fit the question"));
                }
            }
        }
        // What was attached in between must not keep an interface without an agent.
        ended.extend(self.instances.detach_all().await?);
        super::cdi::remove();
        forget(&self.state)?;
        tracing::info!(runner = %self.runner, name = %self.name, "has left the mesh");
        let runner = local::Runner { id: self.runner, name: self.name.clone() };
        Ok(local::Leave { version: VERSION, runner, instances: ended })
    }
}

fn forget(state: &StateDir) -> Result<(), Refusal> {
    state.clear(&FILES).map_err(|error| {
        let path = state.path().display();
        Refusal::new(
            format!("this runner has left the mesh, but its files in {path} can't be deleted: {error}"),
            format!("delete {path} yourself: it holds a private key that is good for nothing any more"),
        )
    })
}
