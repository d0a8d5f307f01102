//! What an agent is told of relays: which there are, and what it logs in with. Only agents that use relays are told.

use std::sync::Arc;

use mesh_model::{UnixSeconds, record};
use mesh_proto::{
    RunnerId,
    message::Down,
    relay::{Relay, RelaySecret},
};

use crate::coordinator::{Coordinator, Failure};

/// What an agent was told of relays.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Until when its credentials are good.
    until: Option<UnixSeconds>,
}

impl Told {
    /// The relays that there are now, and the runner's credentials for them.
    ///
    /// # Errors
    /// If the coordinator is ending.
    pub(super) async fn all(&mut self, coordinator: &Coordinator, runner: RunnerId) -> Result<Down, Failure> {
        let relays: Vec<Arc<record::Relay>> =
            coordinator.visit(|core| core.state.relays().cloned().collect::<Vec<_>>()).await?;
        let until = mesh_model::credential_until(runner, coordinator.now());
        self.until = Some(until);
        Ok(told(&relays, runner, until, |relay| coordinator.relay_secrets.get(relay.secret)))
    }

    /// Whether half of the time of the credentials is over.
    pub(super) fn is_due(&self, coordinator: &Coordinator, runner: RunnerId) -> bool {
        self.until.is_some_and(|until| until != mesh_model::credential_until(runner, coordinator.now()))
    }
}

/// The relays of which the secret is there, and the runner's credentials for them.
fn told(
    relays: &[Arc<record::Relay>],
    runner: RunnerId,
    until: UnixSeconds,
    secret: impl Fn(&record::Relay) -> Option<RelaySecret>,
) -> Down {
    let usable: Vec<_> = relays.iter().filter_map(|relay| Some((relay, secret(relay)?))).collect();
    Down::Relays {
        relays: usable.iter().map(|(relay, _)| shown(relay)).collect(),
        credentials: usable.iter().map(|(relay, secret)| secret.credential(runner, relay.id, until.0)).collect(),
    }
}

fn shown(relay: &record::Relay) -> Relay {
    Relay { id: relay.id, name: relay.name.clone(), public: relay.public.clone() }
}
