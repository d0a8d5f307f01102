//! The stream to the coordinator: reopened for as long as the agent runs. It carries the view; while it is down everything
//! continues with the last view.
//!
//! [`Control`] is the handle that the agent's parts share. [`SessionState`] is the stream's side of it and runs in one task: `link`
//! opens stream after stream, `session` serves one.

pub(crate) mod ask;
mod backoff;
#[cfg(test)]
pub(crate) mod lab;
mod link;
mod open;
mod round;
mod session;
mod trouble;

use std::{
    net::SocketAddr,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use futures_util::future::BoxFuture;
use mesh_link::{Proxies, Url};
use mesh_proto::{
    RunnerId, ServicePath, View,
    message::{Answer, Ask, Have, Held, Refusal, Switches, Tried},
    relay::{Nat, Relay, RelayCredential, Relayed},
    telemetry::Telemetry,
    token::Fingerprint,
};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use zeroize::Zeroizing;

pub(crate) use ask::{AskError, Question};
pub(crate) use backoff::{pauses, random};
pub(crate) use trouble::{Away, Trouble};

/// How long the coordinator may take to answer a question. It answers `Settle` within two seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The coordinator, and this runner's account there.
#[derive(Debug)]
pub(crate) struct Target {
    /// The coordinator's URLs, at least one.
    pub(crate) urls: Vec<Url>,
    /// The proxies that lead there.
    pub(crate) proxies: Proxies,
    /// The fingerprint of the coordinator's key.
    pub(crate) fingerprint: Fingerprint,
    /// This runner.
    pub(crate) runner: RunnerId,
    /// The runner's credential.
    pub(crate) credential: Zeroizing<String>,
}

/// Tries a connection from the first service to the second one, on a port of that.
pub(crate) type Prober = dyn Fn([ServicePath; 2], u16) -> BoxFuture<'static, Result<Tried, Refusal>> + Send + Sync;

/// What the stream reports about this runner.
pub(crate) struct LocalState {
    /// The UDP port.
    pub(crate) port: u16,
    /// Where other runners reach this one; every change is reported.
    pub(crate) endpoints: watch::Receiver<Offered>,
    /// What relays see of it, and where they have it; every change is reported.
    pub(crate) outside: watch::Receiver<Outside>,
    /// Whether it uses relays.
    pub(crate) relays: bool,
    /// Whether its data plane has several lanes.
    pub(crate) lanes: bool,
    /// The view in force; every change is reported.
    pub(crate) applied: watch::Receiver<Option<Have>>,
    /// What passes; every report is sent on.
    pub(crate) telemetry: mpsc::Receiver<Telemetry>,
    /// Tries connections.
    pub(crate) probe: Box<Prober>,
    /// Lists this runner's instances; called when a stream begins.
    pub(crate) held: Box<dyn Fn() -> BoxFuture<'static, Vec<Held>> + Send + Sync>,
}

/// The addresses at which other runners reach this one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Offered {
    /// The addresses.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Whether the operator has named them, so that peers try no others.
    pub(crate) only: bool,
}

/// A runner's way to the outside, as far as its relays show it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outside {
    /// The addresses that relays see it come from, and peers may reach it at.
    pub(crate) reflexive: Vec<SocketAddr>,
    /// Its addresses at relays.
    pub(crate) relayed: Vec<Relayed>,
    /// What is between; `None` until a relay was asked.
    pub(crate) nat: Option<Nat>,
}

/// The relays, as the coordinator names them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Provided {
    /// All of them.
    pub(crate) relays: Vec<Relay>,
    /// What this runner logs in with.
    pub(crate) credentials: Vec<RelayCredential>,
}

/// How the coordinator wants to be told what passes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TelemetryWish {
    /// The time between two reports; `None`: there are none.
    pub(crate) every: Option<Duration>,
    /// Whether refused connections are told.
    pub(crate) refusals: bool,
    /// The number of the stream that asked. Another one has been told nothing yet.
    pub(crate) stream: u64,
}

/// The state of the stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Link {
    /// Whether the coordinator has accepted the current stream.
    pub(crate) connected: bool,
    /// Whether the view at hand is the coordinator's, by the current stream.
    pub(crate) synced: bool,
    /// The time of the coordinator's last message, over this stream or an earlier one.
    pub(crate) heard: Option<SystemTime>,
    /// How many streams the coordinator has accepted since the agent's start.
    pub(crate) streams: u64,
    /// Why there is no stream.
    pub(crate) trouble: Option<Arc<Trouble>>,
    /// The coordinator has said that it doesn't know this runner (any more), or that this machine is a copy.
    pub(crate) unknown: bool,
    /// The coordinator has said that this machine is a copy of another one.
    pub(crate) copy: bool,
}

/// A random number for this process, by which the coordinator distinguishes this machine from a copy of it.
fn process() -> u64 {
    static PROCESS: LazyLock<u64> = LazyLock::new(random);
    *PROCESS
}

/// A question that waits for its answer.
type Pending = (Ask, oneshot::Sender<Result<Answer, Refusal>>);

/// Passes questions to the current stream.
#[derive(Debug, Clone, Default)]
struct RequestQueue {
    /// The current stream's queue; `None` without a stream.
    open: Arc<Mutex<Option<mpsc::UnboundedSender<Pending>>>>,
    /// Rings when something waits for a stream: the next attempt is made at once.
    bell: Arc<Notify>,
    /// What should happen to the stream.
    intent: Arc<watch::Sender<Intent>>,
}

/// What should happen to the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Intent {
    /// It is kept open.
    #[default]
    Stay,
    /// The runner leaves: the coordinator will end it.
    Leave,
    /// The agent ends: it is closed.
    End,
}

impl RequestQueue {
    fn open(&self) -> mpsc::UnboundedReceiver<Pending> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    fn close(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn get(&self) -> Option<mpsc::UnboundedSender<Pending>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A handle to the stream.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    views: watch::Receiver<Option<Arc<View>>>,
    link: watch::Receiver<Link>,
    switches: watch::Receiver<Switches>,
    relays: watch::Receiver<Option<Arc<Provided>>>,
    telemetry: watch::Receiver<TelemetryWish>,
    coordinators: watch::Receiver<Vec<Url>>,
    queue: RequestQueue,
}

impl Control {
    /// Prepares a stream that begins with the view of an earlier run, if there is one, and the time at which that view was
    /// current. Nothing happens until the [`SessionState`] runs.
    pub(crate) fn new(view: Option<Arc<View>>, heard: Option<SystemTime>) -> (Self, SessionState) {
        let (views, view_receiver) = watch::channel(view);
        let (link, link_receiver) = watch::channel(Link { heard, ..Link::default() });
        let (switches, switches_receiver) = watch::channel(Switches::default());
        let (relays, relays_receiver) = watch::channel(None);
        let (telemetry, telemetry_receiver) = watch::channel(TelemetryWish::default());
        let (coordinators, coordinators_receiver) = watch::channel(Vec::new());
        let queue = RequestQueue::default();
        let control = Self {
            views: view_receiver,
            link: link_receiver,
            switches: switches_receiver,
            relays: relays_receiver,
            telemetry: telemetry_receiver,
            coordinators: coordinators_receiver,
            queue: queue.clone(),
        };
        (control, SessionState { views, link, switches, relays, telemetry, coordinators, queue })
    }

    /// The view at hand.
    pub(crate) fn view(&self) -> Option<Arc<View>> {
        self.views.borrow().clone()
    }

    /// Follows the view. Intermediate ones may be skipped.
    pub(crate) fn views(&self) -> watch::Receiver<Option<Arc<View>>> {
        self.views.clone()
    }

    /// The state of the stream.
    pub(crate) fn link(&self) -> Link {
        self.link.borrow().clone()
    }

    /// Follows the state of the stream.
    pub(crate) fn links(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }

    /// Follows the offloads that the coordinator allows.
    pub(crate) fn switches(&self) -> watch::Receiver<Switches> {
        self.switches.clone()
    }

    /// Follows the relays; `None` until the coordinator has named them.
    pub(crate) fn relays(&self) -> watch::Receiver<Option<Arc<Provided>>> {
        self.relays.clone()
    }

    /// Follows how the coordinator wants to be told what passes.
    pub(crate) fn telemetry(&self) -> watch::Receiver<TelemetryWish> {
        self.telemetry.clone()
    }

    /// Follows of which coordinators this one was told, beside those that it has joined by.
    pub(crate) fn coordinators(&self) -> watch::Receiver<Vec<Url>> {
        self.coordinators.clone()
    }

    /// The next attempt at a stream is made at once.
    pub(crate) fn hurry(&self) {
        self.queue.bell.notify_one();
    }

    /// Waits up to `patience` for a stream; returns whether there is one. The next attempt is made at once.
    pub(crate) async fn connected(&self, patience: Duration) -> bool {
        let mut link = self.link.clone();
        if !link.borrow().connected {
            self.hurry();
        }
        matches!(tokio::time::timeout(patience, link.wait_for(|link| link.connected)).await, Ok(Ok(_)))
    }

    /// Sets whether the end of the stream is expected because the runner leaves.
    pub(crate) fn expect_end(&self, expected: bool) {
        self.queue.intent.send_replace(if expected { Intent::Leave } else { Intent::Stay });
    }

    /// Closes the stream in order, and waits up to `patience` for that.
    pub(crate) async fn close(&self, patience: Duration) {
        let mut link = self.link.clone();
        self.queue.intent.send_replace(Intent::End);
        let _ = tokio::time::timeout(patience, link.wait_for(|link| !link.connected)).await;
    }

    /// Asks the coordinator.
    ///
    /// # Errors
    /// If it is away, refuses, or answers another question.
    pub(crate) async fn ask<Q: Question>(&self, question: Q) -> Result<Q::Answer, AskError> {
        let queue = self.queue.get().ok_or_else(|| self.away())?;
        let (sender, receiver) = oneshot::channel();
        queue.send((question.into(), sender)).map_err(|_| self.away())?;
        match tokio::time::timeout(ANSWER_TIMEOUT, receiver).await {
            Ok(Ok(Ok(answer))) => Q::read(answer).ok_or(AskError::Mismatch),
            Ok(Ok(Err(refusal))) => Err(AskError::Refused(refusal)),
            Ok(Err(_)) | Err(_) => Err(self.away()),
        }
    }

    fn away(&self) -> AskError {
        let link = self.link();
        AskError::Away(Away { trouble: link.trouble, unknown: link.unknown })
    }
}

/// The stream's side of [`Control`].
#[derive(Debug)]
pub(crate) struct SessionState {
    views: watch::Sender<Option<Arc<View>>>,
    link: watch::Sender<Link>,
    switches: watch::Sender<Switches>,
    relays: watch::Sender<Option<Arc<Provided>>>,
    telemetry: watch::Sender<TelemetryWish>,
    coordinators: watch::Sender<Vec<Url>>,
    queue: RequestQueue,
}

impl SessionState {
    /// With the coordinators of which an earlier run was told.
    pub(crate) fn told_of(self, coordinators: Vec<Url>) -> Self {
        self.coordinators.send_replace(coordinators);
        self
    }

    /// All coordinators that are known.
    fn known(&self, target: &Target) -> Vec<Url> {
        let told = self.coordinators.borrow().clone();
        let more = told.into_iter().filter(|url| !target.urls.contains(url));
        target.urls.iter().cloned().chain(more).collect()
    }

    /// Keeps a stream open for as long as there is a [`Control`].
    pub(crate) async fn run(self, target: Target, local: LocalState) {
        link::keep(self, target, local).await;
    }
}
