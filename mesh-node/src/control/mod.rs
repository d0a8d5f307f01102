//! The stream to the coordinator: kept up for as long as the agent runs, whatever happens to the other end. What comes
//! over it is the view; without it everything goes on with the last one.

mod backoff;
#[cfg(test)]
pub(crate) mod lab;
mod link;
mod open;
mod session;

use std::{
    net::SocketAddr,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use mesh_link::Url;
use mesh_proto::{
    RunnerId, View,
    message::{Answer, Ask, Have, Held, Refusal, Switches},
    token::Fingerprint,
};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use zeroize::Zeroizing;

pub(crate) use backoff::{Backoff, random};

/// How long the coordinator may think about a question. It answers `Settle` after two seconds at most.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Which coordinator, and who we are to it.
#[derive(Debug)]
pub(crate) struct Target {
    /// Where it is, one at least.
    pub(crate) urls: Vec<Url>,
    /// The key that it must have.
    pub(crate) fingerprint: Fingerprint,
    /// Who we are.
    pub(crate) runner: RunnerId,
    /// What shows it.
    pub(crate) credential: Zeroizing<String>,
}

/// What the stream tells about this runner.
pub(crate) struct Ourselves {
    /// Our UDP port.
    pub(crate) port: u16,
    /// Whether the operator has given the endpoints.
    pub(crate) endpoints_only: bool,
    /// Where we may be reached; told again when it changes.
    pub(crate) endpoints: watch::Receiver<Vec<SocketAddr>>,
    /// The view that is in force; told when it changes.
    pub(crate) applied: watch::Receiver<Option<Have>>,
    /// The instances that we hold, asked when a stream begins.
    pub(crate) held: Box<dyn Fn() -> Vec<Held> + Send + Sync>,
}

/// The state of the stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Link {
    /// Whether the coordinator has welcomed us and is still there.
    pub(crate) connected: bool,
    /// Whether the view is the coordinator's, as of this stream.
    pub(crate) synced: bool,
    /// When the coordinator was last heard, over this stream or an earlier one.
    pub(crate) heard: Option<SystemTime>,
    /// Why we are not connected.
    pub(crate) trouble: Option<Refusal>,
    /// The coordinator has said that it doesn't know us (any more), or that we are a copy.
    pub(crate) unknown: bool,
    /// It has said that this machine is a copy of another one.
    pub(crate) copy: bool,
}

/// This process, drawn by lot: tells the coordinator a copy of this machine from this machine.
fn process() -> u64 {
    static PROCESS: LazyLock<u64> = LazyLock::new(random);
    *PROCESS
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AskError {
    /// The coordinator isn't there, or went away before it answered: whether it has acted isn't known.
    Away(Refusal),
    /// It says no.
    Refused(Refusal),
}

impl From<AskError> for Refusal {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Away(refusal) | AskError::Refused(refusal) => refusal,
        }
    }
}

type Question = (Ask, oneshot::Sender<Result<Answer, Refusal>>);

/// The way to put questions to the stream that is up, if one is.
#[derive(Debug, Clone, Default)]
struct Desk {
    open: Arc<Mutex<Option<mpsc::UnboundedSender<Question>>>>,
    /// A stream is waited for: the next attempt is not put off.
    bell: Arc<Notify>,
    /// What is to become of the stream.
    intent: Arc<watch::Sender<Intent>>,
}

/// What is to become of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Intent {
    /// It is kept up.
    #[default]
    Stay,
    /// Its end is expected: the coordinator is told that the runner leaves.
    Leave,
    /// It is closed, since the agent ends.
    End,
}

impl Desk {
    fn open(&self) -> mpsc::UnboundedReceiver<Question> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    fn close(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn get(&self) -> Option<mpsc::UnboundedSender<Question>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A handle to the stream.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    views: watch::Receiver<Option<Arc<View>>>,
    link: watch::Receiver<Link>,
    switches: watch::Receiver<Switches>,
    desk: Desk,
}

impl Control {
    /// Prepares a stream that begins with the view of an earlier run, if there is one, and the time at which that was
    /// current. Nothing happens until the [`Keeper`] runs.
    pub(crate) fn new(view: Option<Arc<View>>, heard: Option<SystemTime>) -> (Self, Keeper) {
        let (views, view_receiver) = watch::channel(view);
        let (link, link_receiver) = watch::channel(Link { heard, ..Link::default() });
        let (switches, switches_receiver) = watch::channel(Switches::default());
        let desk = Desk::default();
        let control =
            Self { views: view_receiver, link: link_receiver, switches: switches_receiver, desk: desk.clone() };
        (control, Keeper { views, link, switches, desk })
    }

    /// The view that we have.
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

    /// Follows the offloads that the coordinator leaves on.
    pub(crate) fn switches(&self) -> watch::Receiver<Switches> {
        self.switches.clone()
    }

    /// Waits for a stream, for so long; whether there is one. The next attempt is made at once.
    pub(crate) async fn connected(&self, patience: Duration) -> bool {
        let mut link = self.link.clone();
        if !link.borrow().connected {
            self.desk.bell.notify_one();
        }
        matches!(tokio::time::timeout(patience, link.wait_for(|link| link.connected)).await, Ok(Ok(_)))
    }

    /// Whether the end of the stream is expected: the runner leaves.
    pub(crate) fn expect_end(&self, expected: bool) {
        self.desk.intent.send_replace(if expected { Intent::Leave } else { Intent::Stay });
    }

    /// Closes the stream with a word to the coordinator, and waits for that for so long.
    pub(crate) async fn close(&self, patience: Duration) {
        let mut link = self.link.clone();
        self.desk.intent.send_replace(Intent::End);
        let _ = tokio::time::timeout(patience, link.wait_for(|link| !link.connected)).await;
    }

    /// Waits for a view that does, for so long.
    pub(crate) async fn view_where(&self, patience: Duration, does: impl Fn(&View) -> bool) -> Option<Arc<View>> {
        let mut views = self.views.clone();
        let found = views.wait_for(|view| view.as_deref().is_some_and(&does));
        tokio::time::timeout(patience, found).await.ok()?.ok()?.clone()
    }

    /// Asks the coordinator.
    ///
    /// # Errors
    /// If it is away, or refuses.
    pub(crate) async fn ask(&self, ask: Ask) -> Result<Answer, AskError> {
        let desk = self.desk.get().ok_or_else(|| self.away())?;
        let (sender, receiver) = oneshot::channel();
        desk.send((ask, sender)).map_err(|_| self.away())?;
        match tokio::time::timeout(ANSWER_TIMEOUT, receiver).await {
            Ok(Ok(result)) => result.map_err(AskError::Refused),
            Ok(Err(_)) | Err(_) => Err(self.away()),
        }
    }

    fn away(&self) -> AskError {
        let link = self.link();
        // It is there, and knows nothing of us: what there is to do about that is said in the trouble.
        if let Some(trouble) = link.trouble.clone().filter(|_| link.unknown) {
            return AskError::Away(trouble);
        }
        let because = link.trouble.map(|t| format!(" ({t})")).unwrap_or_default();
        AskError::Away(Refusal::new(
            format!("the coordinator is away{because}"),
            "try again when it is back: `mesh-node status` tells",
        ))
    }
}

/// Keeps the stream up.
#[derive(Debug)]
pub(crate) struct Keeper {
    views: watch::Sender<Option<Arc<View>>>,
    link: watch::Sender<Link>,
    switches: watch::Sender<Switches>,
    desk: Desk,
}

impl Keeper {
    /// Runs for as long as anybody holds a [`Control`].
    pub(crate) async fn run(self, target: Target, ourselves: Ourselves) {
        link::keep(self, target, ourselves).await;
    }
}
