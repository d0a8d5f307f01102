//! One stream: introduces this runner, keeps the view current, carries questions and their answers.

use std::{
    collections::HashMap,
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use mesh_link::Url;
use mesh_proto::{
    Abilities, Ability, Revision, RunnerId, View,
    message::{Answer, Cause, Down, Have, PROTOCOL, Refusal, Tried, Up},
    telemetry::Telemetry,
    token::MAX_URLS,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout, timeout_at},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use super::{Intent, LocalState, Offered, Outside, Pending, Provided, SessionState, TelemetryWish, process};

/// How long the coordinator may be silent: three of its heartbeats.
pub(super) const SILENCE: Duration = Duration::from_secs(6);

/// The most connections that are tried at once for the coordinator.
const MOST_PROBES: usize = 8;
/// How long the coordinator may take to answer the close of a stream.
const FAREWELL: Duration = Duration::from_millis(500);

/// What the coordinator says when it closes the stream of a runner that was removed.
pub(super) const REMOVED: &str = "the runner was removed";

/// How a stream ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Why.
    pub(super) why: SessionEnd,
    /// Whether the coordinator had accepted it.
    pub(super) welcomed: bool,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionEnd {
    #[error("the agent ends")]
    AgentEnds,
    /// Only the beginning of a stream tells that.
    #[error("the operator has changed how other runners reach this one")]
    Renewed,
    #[error("nothing was heard for {} s", SILENCE.as_secs())]
    Silent,
    #[error("the coordinator accepts no data")]
    Stuck,
    #[error("the coordinator closed it")]
    Closed,
    /// The coordinator has closed it with this reason.
    #[error("{0}")]
    ClosedBecause(String),
    #[error("it carried a frame that is not text")]
    NotText,
    #[error("it carried a message that this version does not understand: {0}")]
    Unintelligible(serde_json::Error),
    #[error("it carried the view of {theirs}, and this is {ours}")]
    OtherRunner { theirs: RunnerId, ours: RunnerId },
    /// A coordinator that lags, or whose database was put back: what was taken back since would count again.
    #[error("the coordinator is behind: it sent revision {theirs} of the map, and this runner has {ours}")]
    Behind { theirs: Revision, ours: Revision },
    /// The coordinator refuses this agent.
    #[error(transparent)]
    Refused(Refusal),
    #[error("a message cannot be written: {0}")]
    Unwritable(serde_json::Error),
    #[error("the connection broke")]
    Broken,
    /// The connection failed otherwise.
    #[error(transparent)]
    Failed(Box<Error>),
}

impl From<Error> for SessionEnd {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof => Self::Broken,
            other => Self::Failed(Box::new(other)),
        }
    }
}

/// Serves a stream until it ends.
pub(super) async fn serve<S>(
    stream: WebSocketStream<S>,
    runner: RunnerId,
    state: &SessionState,
    local: &mut LocalState,
) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut session = Session {
        stream,
        runner,
        state,
        waiting: HashMap::new(),
        asked: 0,
        resyncing: false,
        only: false,
        probes: FuturesUnordered::new(),
    };
    let why = match session.run(local).await {
        Ok(never) => match never {},
        Err(why) => why,
    };
    Ended { why, welcomed: state.link.borrow().connected }
}

enum Never {}

struct Session<'a, S> {
    stream: WebSocketStream<S>,
    runner: RunnerId,
    state: &'a SessionState,
    waiting: HashMap<u64, oneshot::Sender<Result<Answer, Refusal>>>,
    asked: u64,
    /// A snapshot is on its way: deltas before it don't apply.
    resyncing: bool,
    /// Whether the hello said that peers try no other endpoints.
    only: bool,
    /// Connections that are being tried, each with its number.
    probes: FuturesUnordered<BoxFuture<'static, (u64, Result<Tried, Refusal>)>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<'_, S> {
    async fn run(&mut self, local: &mut LocalState) -> Result<Never, SessionEnd> {
        // Questions are accepted before the hello lists the instances: one that is attached from here on is asked for.
        let mut questions: mpsc::UnboundedReceiver<Pending> = self.state.queue.open();
        let hello = self.hello(local).await;
        self.send(&hello).await?;
        let mut deadline = Instant::now() + SILENCE;
        let mut intent = self.state.queue.intent.subscribe();
        loop {
            tokio::select! {
                () = is_over(&mut intent) => {
                    if let Ok(last) = local.telemetry.try_recv() {
                        self.tell(last).await?;
                    }
                    return Err(self.close(SessionEnd::AgentEnds).await);
                }
                message = timeout_at(deadline, self.stream.next()) => {
                    let message = message.map_err(|_| SessionEnd::Silent)?;
                    deadline = Instant::now() + SILENCE;
                    self.receive(message.transpose()?, local).await?;
                }
                Some((ask, answer)) = questions.recv() => {
                    self.asked += 1;
                    self.waiting.retain(|_, waiting| !waiting.is_closed());
                    self.waiting.insert(self.asked, answer);
                    self.send(&Up::Ask { request: self.asked, ask }).await?;
                }
                Ok(()) = local.applied.changed() => self.report_applied(local).await?,
                Ok(()) = local.endpoints.changed() => self.report_places(local).await?,
                Ok(()) = local.outside.changed() => self.report_places(local).await?,
                Some(report) = local.telemetry.recv() => self.tell(report).await?,
                Some((number, result)) = self.probes.next() => self.send(&Up::Probed { number, result }).await?,
            }
        }
    }

    /// Closes WebSocket and TLS in order, so that the coordinator doesn't log a broken connection.
    async fn close(&mut self, why: SessionEnd) -> SessionEnd {
        let frame = CloseFrame { code: CloseCode::Away, reason: why.to_string().into() };
        let farewell = async {
            self.stream.close(Some(frame)).await?;
            // Later messages are dropped; only the answer to the close counts.
            while let Some(Ok(_)) = self.stream.next().await {}
            self.stream.get_mut().shutdown().await?;
            Ok::<_, Error>(())
        };
        let _ = timeout(FAREWELL, farewell).await;
        why
    }

    async fn hello(&mut self, local: &mut LocalState) -> Up {
        let instances = (local.held)().await;
        let Offered { addresses: endpoints, only } = local.endpoints.borrow_and_update().clone();
        self.only = only;
        let Outside { reflexive, relayed, nat } = local.outside.borrow_and_update().clone();
        Up::Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            have: self.state.views.borrow().as_ref().map(|view| Have { epoch: view.epoch, revision: view.revision }),
            endpoints,
            port: local.port,
            endpoints_only: only,
            instances,
            process: Some(process()),
            refused: self.state.link.borrow().copy,
            can: abilities(local),
            reflexive,
            relayed,
            nat,
        }
    }

    async fn receive(&mut self, message: Option<Message>, local: &mut LocalState) -> Result<(), SessionEnd> {
        let text = match message {
            Some(Message::Text(text)) => text,
            Some(Message::Ping(_) | Message::Pong(_)) => return Ok(()),
            Some(Message::Close(Some(frame))) if !frame.reason.is_empty() => {
                return Err(SessionEnd::ClosedBecause(frame.reason.to_string()));
            }
            Some(Message::Close(_)) | None => return Err(SessionEnd::Closed),
            Some(Message::Binary(_) | Message::Frame(_)) => return Err(SessionEnd::NotText),
        };
        let message = serde_json::from_str(&text).map_err(SessionEnd::Unintelligible)?;
        self.state.link.send_modify(|link| link.heard = Some(SystemTime::now()));
        // The coordinator sends changes of the view first. Any other message means that the view at hand is the latest.
        if matches!(message, Down::Ping | Down::Switches(_) | Down::Answer { .. })
            && self.state.link.borrow().connected
            && !self.resyncing
        {
            self.sync(local).await?;
        }
        match message {
            Down::Welcome { seen_from } => {
                tracing::info!(%seen_from, "connected to the coordinator");
                self.state.link.send_modify(|link| {
                    (link.connected, link.unknown, link.copy) = (true, false, false);
                    link.streams += 1;
                    link.trouble = None;
                });
            }
            Down::Snapshot { view } => {
                if view.runner != self.runner {
                    return Err(SessionEnd::OtherRunner { theirs: view.runner, ours: self.runner });
                }
                self.resyncing = false;
                self.take(sifted(view), local).await?;
            }
            Down::Delta(delta) if !self.resyncing => {
                let view = self.state.views.borrow().clone();
                let applied = view.map(|view| {
                    let mut view = View::clone(&view);
                    view.apply(&delta).map(|()| sifted(view))
                });
                match applied {
                    Some(Ok(view)) => self.take(view, local).await?,
                    Some(Err(gap)) => self.resync(&gap.to_string()).await?,
                    None => self.resync("a change before any view").await?,
                }
            }
            Down::Delta(_) => {}
            Down::Switches(switches) => {
                let _ = self.state.switches.send(switches);
            }
            Down::Relays { relays, credentials } => {
                self.state.relays.send_replace(Some(Arc::new(Provided { relays, credentials })));
            }
            Down::Telemetry { seconds, refusals } => {
                let every = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
                let stream = self.state.link.borrow().streams;
                self.state.telemetry.send_replace(TelemetryWish { every, refusals, stream });
            }
            Down::Coordinators { urls } => self.learn(&urls),
            Down::Probe { number, caller, callee, port } => {
                if self.probes.len() < MOST_PROBES {
                    let tried = (local.probe)([caller, callee], port);
                    self.probes.push(tried.map(move |result| (number, result)).boxed());
                } else {
                    let busy = Refusal::new("this runner tries as many connections as it may", "try again in a moment");
                    self.send(&Up::Probed { number, result: Err(busy) }).await?;
                }
            }
            Down::Refused { cause, refusal } => {
                self.state.link.send_modify(|link| (link.unknown, link.copy) = (true, cause == Cause::Copy));
                return Err(SessionEnd::Refused(refusal));
            }
            Down::Ping => self.send(&Up::Pong).await?,
            Down::Answer { request, result } => {
                if let Some(waiting) = self.waiting.remove(&request) {
                    // The asking task may have given up.
                    let _ = waiting.send(result);
                }
            }
        }
        Ok(())
    }

    /// Where coordinators are. They have to show the pinned key like any other.
    fn learn(&self, urls: &[String]) {
        let parsed = urls.iter().take(MAX_URLS).filter_map(|url| url.parse().ok());
        let mut told: Vec<Url> = Vec::new();
        parsed.for_each(|url| {
            if !told.contains(&url) {
                told.push(url)
            }
        });
        self.state.coordinators.send_if_modified(|known| std::mem::replace(known, told.clone()) != told);
    }

    /// Takes a view in. Within an epoch none goes back.
    async fn take(&mut self, view: View, local: &mut LocalState) -> Result<(), SessionEnd> {
        tracing::debug!(revision = %view.revision, epoch = %view.epoch, "received a view");
        let old = self.state.views.borrow().clone().filter(|old| old.epoch == view.epoch);
        if let Some(old) = old.as_deref().filter(|old| old.revision > view.revision) {
            return Err(SessionEnd::Behind { theirs: view.revision, ours: old.revision });
        }
        if old.as_deref() != Some(&view) {
            self.state.views.send_replace(Some(Arc::new(view)));
        }
        self.sync(local).await
    }

    /// The view at hand is the coordinator's. This stream hasn't reported yet what is in force of it.
    async fn sync(&mut self, local: &mut LocalState) -> Result<(), SessionEnd> {
        let first = self.state.link.send_if_modified(|link| !std::mem::replace(&mut link.synced, true));
        if first { self.report_applied(local).await } else { Ok(()) }
    }

    async fn resync(&mut self, why: &str) -> Result<(), SessionEnd> {
        tracing::info!(why, "a change does not apply to the view: asking for a snapshot");
        self.resyncing = true;
        self.send(&Up::Resync).await
    }

    /// Reports where other runners reach this one.
    async fn report_places(&mut self, local: &mut LocalState) -> Result<(), SessionEnd> {
        let Offered { addresses: endpoints, only } = local.endpoints.borrow_and_update().clone();
        if only != self.only {
            return Err(self.close(SessionEnd::Renewed).await);
        }
        let Outside { reflexive, relayed, nat } = local.outside.borrow_and_update().clone();
        self.send(&Up::Endpoints { endpoints, reflexive, relayed, nat }).await
    }

    /// Reports the revision in force, once the coordinator has shown its epoch: a revision means nothing in another one.
    async fn report_applied(&mut self, local: &mut LocalState) -> Result<(), SessionEnd> {
        let applied = *local.applied.borrow_and_update();
        let epoch = self.state.views.borrow().as_ref().map(|view| view.epoch);
        match applied.filter(|applied| Some(applied.epoch) == epoch && self.state.link.borrow().synced) {
            Some(Have { revision, .. }) => self.send(&Up::Applied { revision }).await,
            None => Ok(()),
        }
    }

    /// Reports what passes, if this stream's coordinator has asked for it.
    async fn tell(&mut self, report: Telemetry) -> Result<(), SessionEnd> {
        let wish = *self.state.telemetry.borrow();
        if wish.every.is_some() && wish.stream == self.state.link.borrow().streams {
            self.send(&Up::Telemetry(report)).await?;
        }
        Ok(())
    }

    async fn send(&mut self, message: &Up) -> Result<(), SessionEnd> {
        let text = serde_json::to_string(message).map_err(SessionEnd::Unwritable)?;
        match timeout(SILENCE, self.stream.send(Message::text(text))).await {
            Ok(sent) => Ok(sent?),
            Err(_) => Err(SessionEnd::Stuck),
        }
    }
}

/// What this runner can do with these settings.
fn abilities(local: &LocalState) -> Abilities {
    let all = if local.relays { Abilities::AGENT } else { Abilities::AGENT.without(Ability::Relays) };
    if local.lanes { all } else { all.without(Ability::Lanes) }
}

/// Waits until the agent ends.
async fn is_over(intent: &mut watch::Receiver<Intent>) {
    if intent.wait_for(|intent| *intent == Intent::End).await.is_err() {
        std::future::pending().await
    }
}

/// The view without addresses outside the mesh's range.
fn sifted(mut view: View) -> View {
    let left_out = view.sift();
    if let Some(first) = left_out.first() {
        tracing::warn!(
            count = left_out.len(),
            ?first,
            "the coordinator sent addresses outside the mesh's range: left out"
        );
    }
    view
}

#[cfg(test)]
mod tests;
