//! The writer's handle and the writer itself: one task owns the state. It decides on a command, commits the changes,
//! absorbs them into the state, and then notifies the affected runners. Readers get their turn between commands, and
//! during a commit.

use std::{convert::Infallible, sync::Arc};

use anyhow::{Result, anyhow, ensure};
use mesh_model::{
    Change, Command, Outcome, Record, Refusal, State, UnixSeconds,
    record::{Key, Meta, Relay, StreamKey},
};
use mesh_proto::{Range, Revision, message, view::Network};
use mesh_sessions::Sessions;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};
use tracing::{info, warn};

use crate::{
    clock::{Clock, Clocks, SystemClocks},
    metrics::Metrics,
    peers::Peers,
    random,
    relay_secrets::{self, RelaySecrets},
    store::{Draft, Loaded, Nonce, Store, StoreError},
    telemetry::Telemetry,
    tenant::Tenant,
};

mod core;
mod elsewhere;
mod events;
mod fair;
mod fresh;
mod keyring;
mod links;
mod queue;
mod relays;
mod settle;
mod writer;

pub(crate) use self::core::Core;
pub(crate) use events::{Event, Since};
pub(crate) use links::{Line, Trial};
pub(crate) use relays::RelayLine;

use fair::Lane;
use fresh::Fresh;
use keyring::Keyring;
use queue::{Queue, Request, Submission, Visit};
use writer::Writer;

/// The default MTU of `mesh0`: 21×64 bytes, which fits WireGuard over paths of 1404 bytes (IPv4) and 1424 (IPv6).
pub(crate) const DEFAULT_MTU: u16 = 1344;

/// The operator's choices for the mesh.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Choice {
    /// The range of overlay addresses, fixed at the first start.
    pub(crate) range: Option<Range>,
    /// The MTU of every `mesh0`, in bytes.
    pub(crate) mtu: Option<u16>,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The model refuses it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store can't commit it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The coordinator is shutting down.
    #[error("the coordinator is shutting down")]
    Ending,
    /// A bug of the coordinator, not a mistake of the caller.
    #[error("the coordinator has failed: {0}")]
    Internal(String),
}

impl Failure {
    /// The outcome belongs to another command.
    pub(crate) fn unexpected(outcome: &Outcome) -> Self {
        Self::Internal(format!("an unexpected outcome: {outcome:?}"))
    }

    /// The refusal that the caller receives.
    pub(crate) fn refusal(&self) -> message::Refusal {
        match self {
            Self::Refused(refusal) => refusal.clone().into(),
            Self::Store(error) => message::Refusal::new(error.to_string(), error.hint()),
            Self::Ending => message::Refusal::new(self.to_string(), "try again when it is back"),
            Self::Internal(_) => {
                message::Refusal::new(self.to_string(), "this is a bug: please report it with the log")
            }
        }
    }
}

/// The result of a command.
#[derive(Debug)]
pub(crate) struct Done {
    /// The answer.
    pub(crate) outcome: Outcome,
    /// The commit with its changes, or the last commit if it changed nothing.
    pub(crate) revision: Revision,
}

/// A handle to the writer, on the account of one caller.
#[derive(Debug, Clone)]
pub(crate) struct Coordinator {
    queue: Arc<Queue>,
    lane: Lane,
    /// Closed when the last clone is dropped.
    _alive: mpsc::Sender<Infallible>,
    pub(crate) clock: Arc<Clock>,
    /// Checks secrets without the writer.
    pub(crate) keyring: Arc<Keyring>,
    /// The secrets of the relays.
    pub(crate) relay_secrets: Arc<RelaySecrets>,
    /// The range of overlay addresses.
    pub(crate) range: Range,
    /// Counts what happens.
    pub(crate) metrics: Arc<Metrics>,
    /// What runners report of connections.
    pub(crate) telemetry: Arc<Telemetry>,
    /// Other coordinators on the same records.
    pub(crate) peers: Arc<Peers>,
    /// The stream whose commands these are, where several coordinators serve.
    stream: Option<StreamKey>,
    fresh: Arc<Fresh>,
}

impl Coordinator {
    /// Reads the store, sets it up if it is empty, and starts the writer. The writer ends when the last clone of the
    /// coordinator is dropped, and then closes its store.
    ///
    /// # Errors
    /// If the store fails, holds no valid state, or contradicts the choice.
    pub(crate) async fn start(store: impl Store, choice: Choice) -> Result<(Self, JoinHandle<()>)> {
        Self::start_by(SystemClocks, store, choice).await
    }

    /// The same, with other clocks.
    pub(crate) async fn start_by(
        clocks: impl Clocks,
        store: impl Store,
        choice: Choice,
    ) -> Result<(Self, JoinHandle<()>)> {
        let mut loaded = store.load().await.map_err(described)?;
        let kept = loaded.head.epoch;
        let epoch = kept.map_or_else(random::epoch, Ok)?;
        let changes = set_up(&loaded, choice)?;
        if !changes.is_empty() || kept.is_none() {
            let is_needed = !changes.is_empty();
            let (running, nonce) = (loaded.head.running, Nonce(random::number()?));
            let draft = Draft { changes, epoch, running, nonce, right: None };
            match store.commit(loaded.head.revision, draft).await {
                Ok(_) => loaded = store.load().await.map_err(described)?,
                // The next commit writes the epoch too.
                Err(StoreError::ReadOnly | StoreError::Full) if !is_needed => {}
                Err(error) => return Err(described(error)),
            }
        }
        let Loaded { head, records } = loaded;
        let watch = store.watch(head.revision).await.map_err(described)?;
        let state = State::load(head.revision, records)?;
        let now = Instant::now().into_std();
        let mut sessions = match kept {
            Some(epoch) => Sessions::resume(epoch, head.revision, now),
            None => Sessions::new(epoch, now),
        };
        if let Some(me) = store.member() {
            sessions.share(me, &state, now);
        }
        let running = head.running.max(state.running());
        let clock = match store.member() {
            Some(_) => Clock::shared(running, clocks),
            None => Clock::alone(running, clocks),
        };
        let core = Core::new(state, sessions);
        info!(revision = %core.state.revision(), epoch = %core.sessions.epoch(), range = %core.state.network().range, "state loaded");
        let (alive, gone) = mpsc::channel(1);
        let store = Arc::new(store);
        let (reached, fresh) = Fresh::new(Arc::clone(&store), core.state.revision());
        let coordinator = Self {
            queue: Arc::default(),
            lane: Lane::First,
            _alive: alive,
            clock: Arc::new(clock),
            keyring: Arc::default(),
            relay_secrets: Arc::default(),
            range: core.state.network().range,
            metrics: Arc::default(),
            telemetry: Arc::default(),
            peers: Arc::default(),
            stream: None,
            fresh: Arc::new(fresh),
        };
        coordinator.keyring.load(&core.state);
        let writer = Writer {
            store,
            watch,
            core,
            queue: Arc::clone(&coordinator.queue),
            clock: Arc::clone(&coordinator.clock),
            keyring: Arc::clone(&coordinator.keyring),
            reached,
            trouble: None,
        };
        Ok((coordinator, tokio::spawn(writer.run(gone))))
    }

    /// The same with the secrets of a file. Told are relays whose secret is not in it, as after a restore of the database
    /// alone.
    ///
    /// # Errors
    /// If the coordinator is ending.
    pub(crate) async fn with_secrets(self, secrets: RelaySecrets) -> Result<Self, Failure> {
        let this = Self { relay_secrets: Arc::new(secrets), ..self };
        for relay in this.relays_without_secret().await? {
            warn!(
                relay = %relay.name,
                "the secret of this relay is not in {}, so no runner uses it: restore that file with the database, or \
                 `mesh-coord relay remove` the relay and add it again",
                relay_secrets::FILE
            );
        }
        Ok(this)
    }

    /// The relays whose secret isn't in this coordinator's file.
    ///
    /// # Errors
    /// If the coordinator is ending.
    pub(crate) async fn relays_without_secret(&self) -> Result<Vec<Arc<Relay>>, Failure> {
        let mut relays: Vec<Arc<Relay>> = self.visit(|core| core.state.relays().cloned().collect()).await?;
        relays.retain(|relay| self.relay_secrets.get(relay.secret).is_none());
        Ok(relays)
    }

    /// The same with these counters.
    pub(crate) fn with_metrics(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics, ..self }
    }

    /// The same among these coordinators.
    pub(crate) fn with_peers(self, peers: Arc<Peers>) -> Self {
        Self { peers, ..self }
    }

    /// The same for the commands of a stream, which are refused once a newer one of its runner has begun.
    pub(crate) fn of_stream(self, stream: Option<StreamKey>) -> Self {
        Self { stream, ..self }
    }

    /// The same with this telemetry.
    pub(crate) fn with_telemetry(self, telemetry: Telemetry) -> Self {
        Self { telemetry: Arc::new(telemetry), ..self }
    }

    /// A handle on the account of `tenant`, or of the operator.
    pub(crate) fn on_account(&self, tenant: Option<&Tenant>) -> Self {
        let lane = tenant.map_or(Lane::First, |tenant| Lane::Tenant(tenant.clone()));
        Self { lane, ..self.clone() }
    }

    /// Carries out a command. On return it is committed, and changed views are on their way.
    ///
    /// # Errors
    /// If it is refused or can't be committed. Then nothing has changed, except as [`StoreError::is_unknown`] says.
    pub(crate) async fn submit(&self, command: Command) -> Result<Done, Failure> {
        let (answer, answered) = oneshot::channel();
        let command = match (self.stream, command) {
            (Some(stream), Command::Runner { by, what }) => Command::Streamed { by, stream, what },
            (_, command) => command,
        };
        self.queue.push(&self.lane, Request::Submit(Submission { command: Box::new(command), answer }))?;
        // Whether a writer that has ended meanwhile has carried it out can't be told.
        answered.await.unwrap_or(Err(Failure::Store(StoreError::Unknown)))
    }

    /// Reads the writer's state, or changes the sessions, between two commands. All other requests wait for `look`,
    /// so keep it short. It isn't called if the caller is gone before its turn.
    ///
    /// # Errors
    /// If the coordinator is ending.
    pub(crate) async fn visit<T: Send + 'static>(
        &self,
        look: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let (answer, answered) = oneshot::channel();
        let visit: Visit = Box::new(move |core| {
            if !answer.is_closed() {
                drop(answer.send(look(core)));
            }
        });
        self.queue.push(&self.lane, Request::Visit(visit))?;
        answered.await.map_err(|_| Failure::Ending)
    }

    /// The time of day.
    pub(crate) fn now(&self) -> UnixSeconds {
        self.clock.now().day
    }
}

/// The changes to commit before the first command.
fn set_up(loaded: &Loaded, choice: Choice) -> Result<Vec<Change>> {
    let meta = loaded.records.iter().find_map(|record| match record {
        Record::Meta(meta) => Some(meta),
        _ => None,
    });
    let Some(meta) = meta else {
        ensure!(
            loaded.records.is_empty(),
            "the database holds records, but not `{}`: restore it from a backup",
            Key::Meta
        );
        let network = Network { range: choice.range.unwrap_or(Range::DEFAULT), mtu: choice.mtu.unwrap_or(DEFAULT_MTU) };
        return Ok(vec![Change::Put(Record::Meta(Arc::new(Meta::new(network)?)))]);
    };
    if let Some(range) = choice.range {
        ensure!(
            range == meta.network.range,
            "this mesh has the range {}, chosen at its first start; it can't be {range}: leave --range out, or begin \
             another mesh with another --data",
            meta.network.range
        );
    }
    match choice.mtu {
        Some(mtu) if mtu != meta.network.mtu => {
            let network = Network { mtu, ..meta.network };
            Meta::new(network)?;
            Ok(vec![Change::Put(Record::Meta(Arc::new(Meta { network, ..Meta::clone(meta) })))])
        }
        _ => Ok(Vec::new()),
    }
}

fn described(error: StoreError) -> anyhow::Error {
    anyhow!(error.with_hint())
}

#[cfg(test)]
mod tests;
