//! What a runner tells of itself. It isn't asked again: what can't be kept at once (the disk is full) is kept later, and
//! the stream goes on meanwhile.

use std::{net::SocketAddr, time::Duration};

use mesh_model::{Command, RunnerCommand};
use mesh_proto::{
    RunnerId,
    message::{Ask, Refusal},
};
use tokio::time::{Instant, sleep_until};

use super::Brake;
use crate::{
    coordinator::{Coordinator, Failure},
    http::failure,
};

/// How long after a failure of the store it is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Instances that a hello may tell of in one turn.
const INSTANCES_A_TURN: usize = 64;

/// How much time lies between two changes of the endpoints: each is news to all the runner's peers.
const PACE: Duration = Duration::from_secs(1);

/// What one stream has told and that isn't kept yet.
#[derive(Debug)]
pub(super) struct Told {
    runner: RunnerId,
    /// How the stream began. Whatever else the runner wants comes after it: it ends the instances that it doesn't name.
    hello: Option<RunnerCommand>,
    /// The last ones told count.
    endpoints: Option<Vec<SocketAddr>>,
    /// When to keep it.
    at: Instant,
}

impl Told {
    /// A stream begins with this.
    pub(super) fn new(runner: RunnerId, hello: RunnerCommand) -> Self {
        Self { runner, hello: Some(hello), endpoints: None, at: Instant::now() }
    }

    /// The runner's endpoints are these now: kept when its turn comes.
    pub(super) fn endpoints(&mut self, endpoints: Vec<SocketAddr>, brake: &Brake) {
        if self.endpoints.replace(endpoints).is_none() {
            let now = Instant::now();
            self.at = self.at.max(brake.take(1, now).unwrap_or(now + RETRY));
        }
    }

    /// Whether it isn't kept yet how the stream began.
    pub(super) fn is_behind(&self) -> bool {
        self.hello.is_some()
    }

    /// How many turns it is worth to keep how the stream began.
    pub(super) fn weight(&self) -> u32 {
        let instances = match &self.hello {
            Some(RunnerCommand::Hello { instances, .. }) => instances.len(),
            _ => 0,
        };
        u32::try_from(instances / INSTANCES_A_TURN).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// Waits until there is something to keep.
    pub(super) async fn due(&self) {
        if self.hello.is_none() && self.endpoints.is_none() {
            return std::future::pending().await;
        }
        sleep_until(self.at).await;
    }

    /// Keeps all of it. Where the store fails it is due again later.
    ///
    /// # Errors
    /// If it is refused, or the coordinator is ending.
    pub(super) async fn keep(&mut self, coordinator: &Coordinator) -> Result<(), Failure> {
        let kept = async {
            self.keep_hello(coordinator).await?;
            if let Some(endpoints) = &self.endpoints {
                let what = RunnerCommand::Endpoints { endpoints: endpoints.clone() };
                coordinator.submit(Command::Runner { by: self.runner, what }).await?;
                self.endpoints = None;
                self.at = Instant::now() + PACE;
            }
            Ok(())
        };
        match kept.await {
            Err(Failure::Store(_)) => {
                self.at = Instant::now() + RETRY;
                Ok(())
            }
            other => other,
        }
    }

    /// Sees to it that how the stream began is kept before anything that comes after it.
    ///
    /// # Errors
    /// If it can't be kept, still, or too much was asked.
    pub(super) async fn precede(&mut self, ask: &Ask, coordinator: &Coordinator, brake: &Brake) -> Result<(), Refusal> {
        match ask {
            Ask::Settle { .. } | Ask::Lookup { .. } | Ask::Why { .. } => Ok(()),
            Ask::Attach { .. } | Ask::Detach { .. } | Ask::Drain { .. } | Ask::Undrain { .. } | Ask::Leave
                if self.hello.is_none() =>
            {
                Ok(())
            }
            Ask::Attach { .. } | Ask::Detach { .. } | Ask::Drain { .. } | Ask::Undrain { .. } | Ask::Leave => {
                brake.turn(self.weight()).await?;
                self.keep_hello(coordinator).await.map_err(|failure| failure::refusal(&failure))
            }
        }
    }

    async fn keep_hello(&mut self, coordinator: &Coordinator) -> Result<(), Failure> {
        if let Some(hello) = &self.hello {
            coordinator.submit(Command::Runner { by: self.runner, what: hello.clone() }).await?;
            self.hello = None;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::{coordinator::Choice, store::MemoryStore, testing::enrolled};

    #[tokio::test]
    async fn what_could_not_be_kept_is_due_again_later() {
        let store = MemoryStore::new();
        let full = store.full();
        let (coordinator, _) = Coordinator::start(store, Choice::default()).await.unwrap();
        let runner = enrolled(&coordinator).await;
        coordinator.submit(Command::Silent(runner)).await.unwrap();
        let silent = async || coordinator.visit(move |core| core.state.runner(runner).unwrap().silent).await.unwrap();
        let hello = RunnerCommand::Hello { version: "1".to_owned(), endpoints: vec![], seen: None, instances: vec![] };
        let mut told = Told::new(runner, hello);

        full.store(true, Ordering::Relaxed);
        told.due().await;
        told.keep(&coordinator).await.unwrap();
        assert!(silent().await && told.hello.is_some());
        let wait = told.at.duration_since(Instant::now());
        assert!(!wait.is_zero() && wait <= RETRY, "{wait:?}");

        full.store(false, Ordering::Relaxed);
        told.endpoints(vec![([198, 51, 100, 1], 1).into()], &Brake::commands());
        told.endpoints(vec![([198, 51, 100, 1], 2).into()], &Brake::commands());
        told.keep(&coordinator).await.unwrap();
        assert!(!silent().await && told.hello.is_none() && told.endpoints.is_none());
        let endpoints = coordinator.visit(move |core| core.state.runner(runner).unwrap().endpoints.clone());
        assert_eq!(endpoints.await.unwrap(), [([198, 51, 100, 1], 2).into()], "the last ones told");
    }
}
