//! A runner's stream: views and answers go to the agent, confirmations and questions come from it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use futures_util::{
    SinkExt as _, StreamExt as _,
    future::BoxFuture,
    stream::{FuturesUnordered, SplitSink, SplitStream},
};
use mesh_model::{Command, RunnerCommand};
use mesh_proto::{
    RunnerId, View,
    message::{Cause, Down, Have, PROTOCOL, Refusal, Up},
};
use mesh_sessions::{News, Opened, Peer, Report, Sent, StreamId};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval_at, timeout, timeout_at},
};
use tracing::{debug, info};

use super::{asks::answer, newcomer, report};
use crate::{
    coordinator::{Coordinator, Failure, Line},
    places::Place,
    rate::{Busy, RunnerLimits},
};

/// How often the agent is pinged.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How long the agent may send or read nothing.
const SILENCE: Duration = Duration::from_secs(6);
/// How many questions of one agent are answered at once.
const MAX_ASKS: usize = 64;
/// The close code for a policy violation (RFC 6455 §7.4.1).
const POLICY: u16 = 1008;
const GOING_AWAY: u16 = 1001;

/// Why a stream ends: for the log, and for the agent if it can still be sent.
struct End {
    code: u16,
    why: String,
}

impl End {
    fn refused(why: impl Into<String>) -> Self {
        Self { code: POLICY, why: why.into() }
    }

    fn lost(why: impl Into<String>) -> Self {
        Self { code: GOING_AWAY, why: why.into() }
    }

    fn no_place() -> Self {
        Self::lost("the coordinator has no place for it any more")
    }
}

impl From<Busy> for End {
    fn from(busy: Busy) -> Self {
        Self::lost(busy.to_string())
    }
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => Self::refused(refusal.to_string()),
            other => Self::lost(other.to_string()),
        }
    }
}

/// Serves the stream of an authenticated runner until it ends or loses its place.
pub(crate) async fn serve(
    coordinator: Coordinator,
    runner: RunnerId,
    from: SocketAddr,
    place: Place,
    socket: WebSocket,
) {
    let (down, up) = socket.split();
    let mut stream = Stream { coordinator, runner, from: from.ip(), place, down, up };
    let Err(end) = stream.run().await;
    info!(%runner, %from, why = %end.why, "stream ended");
    // A close frame's reason has at most 123 bytes.
    let mut reason = end.why;
    reason.truncate(reason.floor_char_boundary(123));
    let close = Message::Close(Some(CloseFrame { code: end.code, reason: reason.into() }));
    let _ = timeout(HEARTBEAT, stream.down.send(close)).await;
}

struct Stream {
    coordinator: Coordinator,
    runner: RunnerId,
    from: IpAddr,
    place: Place,
    down: SplitSink<WebSocket, Message>,
    up: SplitStream<WebSocket>,
}

/// The beginning of a stream.
struct Hello {
    have: Option<Have>,
    peer: Peer,
    /// Whether the agent reports that it was refused as a copy.
    refused: bool,
    report: Report,
}

type Asks = FuturesUnordered<BoxFuture<'static, Down>>;

enum Never {}

impl Stream {
    async fn run(&mut self) -> Result<Never, End> {
        let Hello { have, peer, refused, mut report } = self.hello().await?;
        let (runner, coordinator) = (self.runner, self.coordinator.clone());
        let limits = coordinator
            .visit(move |core| core.state.is_active(runner).then(|| core.limits.runner(runner)))
            .await?
            .ok_or_else(|| End::refused("the runner was removed"))?;
        self.beat(limits.commands.turn(report.weight())).await??;
        if let Err(refusal) = self.beat(newcomer::admit(&coordinator, runner, peer, refused)).await?? {
            let why = refusal.to_string();
            self.send(&Down::Refused { cause: Cause::Copy, refusal }).await?;
            return Err(End::refused(why));
        }
        self.beat(report::store(&mut report, &coordinator)).await??;
        let (opened, line) = coordinator
            .visit(move |core| core.open(runner, peer, have))
            .await?
            .ok_or_else(|| End::refused("the runner was removed"))?;
        self.place.begin();
        info!(%runner, from = %self.from, took_over = opened.replaced.is_some(), "stream began");
        let (stream, mut sent) = (opened.stream, Sent::default());
        let Err(end) = self.converse((opened, line), report, &limits, peer, &mut sent).await;
        let _ = coordinator.visit(move |core| core.close(stream, sent.into_view())).await;
        Err(end)
    }

    /// Waits, and sends heartbeats meanwhile.
    async fn beat<T>(&mut self, wait: impl Future<Output = T>) -> Result<T, End> {
        let (mut wait, place) = (std::pin::pin!(wait), self.place.clone());
        let mut heartbeat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        loop {
            tokio::select! {
                done = &mut wait => return Ok(done),
                _ = heartbeat.tick() => self.send(&Down::Ping).await?,
                () = place.lost() => return Err(End::no_place()),
            }
        }
    }

    /// Reads the hello.
    async fn hello(&mut self) -> Result<Hello, End> {
        let place = self.place.clone();
        let first = tokio::select! {
            first = timeout(SILENCE, self.receive()) => first.map_err(|_| End::refused("no hello came"))??,
            () = place.lost() => return Err(End::no_place()),
        };
        let Some(Up::Hello { protocol, version, have, endpoints, port, endpoints_only, instances, process, refused }) =
            first
        else {
            return Err(End::refused("the first message is not a hello"));
        };
        if protocol != PROTOCOL {
            let older = if protocol < PROTOCOL { "mesh-node" } else { "mesh-coord" };
            return Err(End::refused(format!(
                "protocol {protocol} is not {PROTOCOL}, the coordinator's: upgrade {older}"
            )));
        }
        // An address that only this machine or its link can reach helps peers only if the runner has no other.
        let local = match self.from {
            IpAddr::V4(address) => address.is_loopback() || address.is_link_local(),
            IpAddr::V6(address) => address.is_loopback() || address.is_unicast_link_local(),
        };
        let of_use = !endpoints_only && port != 0 && (!local || endpoints.is_empty());
        let seen = of_use.then(|| SocketAddr::new(self.from, port));
        let hello = RunnerCommand::Hello { version, endpoints, seen, instances };
        let report = Report::new(self.runner, hello, Instant::now().into_std());
        Ok(Hello { have, peer: Peer { process, from: self.from }, refused, report })
    }

    /// `sent` is the view that was sent last, also when this ends.
    async fn converse(
        &mut self,
        (opened, line): (Opened, Line),
        mut report: Report,
        limits: &RunnerLimits,
        peer: Peer,
        sent: &mut Sent,
    ) -> Result<Never, End> {
        let Opened { stream, view, continued, switches: on, replaced } = opened;
        let Line { mut outdated, mut switches, mut probe, answered, heard: last_heard } = line;
        let (coordinator, place) = (self.coordinator.clone(), self.place.clone());
        // The same process has only lost its connection.
        if replaced.is_some_and(|replaced| replaced.process.is_none() || replaced.process != peer.process) {
            self.beat(note_takeover(&coordinator, self.runner, self.from)).await??;
        }
        self.note_heard(&last_heard);
        self.send(&Down::Welcome { seen_from: self.from }).await?;
        *sent = Sent::new(continued);
        self.send_news(view, sent).await?;
        self.send(&Down::Switches(on)).await?;
        let mut asks = Asks::new();
        let mut heard = Instant::now();
        let mut heartbeat = interval_at(heard + HEARTBEAT, HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = outdated.changed() => {
                    let view = if changed.is_ok() { self.view(stream).await? } else { None };
                    match view {
                        Some(view) => self.send_news(view, sent).await?,
                        None => return Err(self.cut_off(asks).await?),
                    }
                }
                // `outdated` signals the end.
                Ok(()) = switches.changed() => {
                    let on = *switches.borrow_and_update();
                    self.send(&Down::Switches(on)).await?;
                }
                Ok(()) = probe.changed() => self.send(&Down::Ping).await?,
                message = self.receive() => {
                    // The end of the connection is no answer.
                    let message = message?;
                    heard = Instant::now();
                    answer_probe(&probe, &answered);
                    self.note_heard(&last_heard);
                    match message {
                        None | Some(Up::Pong) => {}
                        Some(Up::Hello { .. }) => return Err(End::refused("a second hello")),
                        // A revision of another epoch would confirm more than the agent has applied.
                        Some(Up::Applied { revision }) if !sent.reaches(revision) => {
                            debug!(runner = %self.runner, %revision, "the agent confirms a view that was never sent");
                        }
                        Some(Up::Applied { revision }) => {
                            self.beat(limits.notes.turn(1)).await??;
                            self.coordinator.visit(move |core| core.sessions.confirm(stream, revision)).await?;
                        }
                        Some(Up::Resync) => {
                            self.beat(limits.commands.turn(1)).await??;
                            let Some(view) = self.view(stream).await? else { continue };
                            sent.forget();
                            self.send_news(view, sent).await?;
                        }
                        Some(Up::Endpoints { endpoints }) => {
                            let now = Instant::now();
                            let turn = || limits.commands.take(1, now).ok().map(Instant::into_std);
                            report.endpoints(endpoints, now.into_std(), turn);
                        }
                        Some(Up::Ask { request, .. }) if asks.len() >= MAX_ASKS => {
                            let refusal = Refusal::new("too many questions at once", "wait for some answers first");
                            self.send(&Down::Answer { request, result: Err(refusal) }).await?;
                        }
                        Some(Up::Ask { .. }) if report.is_behind() && self.view(stream).await?.is_none() => {
                            return Err(self.cut_off(asks).await?);
                        }
                        Some(Up::Ask { request, ask }) => {
                            match self.beat(report::precede(&mut report, &ask, &coordinator, &limits.commands)).await? {
                                Ok(()) => {
                                    asks.push(answer(coordinator.clone(), limits.clone(), self.runner, request, ask));
                                }
                                Err(refusal) => {
                                    self.send(&Down::Answer { request, result: Err(refusal) }).await?;
                                }
                            }
                        }
                    }
                }
                Some(answer) = asks.next() => self.send(&answer).await?,
                () = place.lost() => return Err(End::no_place()),
                // A replaced stream must not store its report after the newest stream's.
                () = report::due(&report) => match self.view(stream).await? {
                    Some(_) => self.beat(report::store(&mut report, &coordinator)).await??,
                    None => return Err(self.cut_off(asks).await?),
                },
                _ = heartbeat.tick() => {
                    if heard.elapsed() > SILENCE {
                        return Err(End::lost("the agent is silent"));
                    }
                    self.send(&Down::Ping).await?;
                }
            }
        }
    }

    /// Why the coordinator has ended this stream.
    async fn cut_off(&mut self, mut asks: Asks) -> Result<End, Failure> {
        let runner = self.runner;
        let removed = self.coordinator.visit(move |core| !core.state.is_active(runner)).await?;
        // The agent may have asked for its removal itself.
        let deadline = Instant::now() + HEARTBEAT;
        while removed && let Ok(Some(answer)) = timeout_at(deadline, asks.next()).await {
            if self.send(&answer).await.is_err() {
                break;
            }
        }
        Ok(End::refused(if removed { "the runner was removed" } else { "a newer stream of this runner took over" }))
    }

    /// Sends the update from the last sent view to this one: nothing, a delta, or the whole view.
    async fn send_news(&mut self, view: Arc<View>, sent: &mut Sent) -> Result<(), End> {
        let message = match sent.news(&view) {
            None => return Ok(()),
            Some(News::Delta(delta)) => Down::Delta(delta),
            Some(News::Snapshot(view)) => Down::Snapshot { view: View::clone(&view) },
        };
        // If sending fails half-way, it is unknown what has arrived.
        sent.forget();
        self.send(&message).await?;
        sent.sent(view);
        Ok(())
    }

    async fn send(&mut self, message: &Down) -> Result<(), End> {
        let text = serde_json::to_string(message).map_err(|error| End::lost(error.to_string()))?;
        match timeout(SILENCE, self.down.send(Message::Text(text.into()))).await {
            Ok(sent) => sent.map_err(|error| End::lost(error.to_string())),
            Err(_) => Err(End::lost("the agent does not read")),
        }
    }

    /// The next message; `None` for a control frame. Cancel safe.
    async fn receive(&mut self) -> Result<Option<Up>, End> {
        match self.up.next().await {
            Some(Ok(Message::Text(text))) => read(&text).map(Some),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(None),
            Some(Ok(Message::Binary(_))) => Err(End::refused("a message that is not text")),
            Some(Ok(Message::Close(_))) => Err(End::lost("the agent closed it")),
            Some(Err(error)) => Err(End::lost(error.to_string())),
            None => Err(End::lost("the connection broke")),
        }
    }

    /// The view that the runner should have; `None` if a newer stream has replaced this one.
    async fn view(&self, stream: StreamId) -> Result<Option<Arc<View>>, Failure> {
        self.coordinator.visit(move |core| core.view(stream)).await
    }

    fn note_heard(&self, last_heard: &AtomicU64) {
        last_heard.store(self.coordinator.now().0, Ordering::Relaxed);
    }
}

/// Any message after a probe answers it.
fn answer_probe(probe: &watch::Receiver<u64>, answered: &watch::Sender<u64>) {
    let asked = *probe.borrow();
    answered.send_if_modified(|answer| std::mem::replace(answer, asked) != asked);
}

async fn note_takeover(coordinator: &Coordinator, runner: RunnerId, from: IpAddr) -> Result<(), Failure> {
    let what = RunnerCommand::TakenOver { from };
    match coordinator.submit(Command::Runner { by: runner, what }).await {
        // The writer has logged the failure. The stream is worth more than the audit entry.
        Ok(_) | Err(Failure::Store(_)) => Ok(()),
        Err(failure) => Err(failure),
    }
}

fn read(text: &Utf8Bytes) -> Result<Up, End> {
    serde_json::from_str(text).map_err(|error| {
        debug!(%error, "a message could not be read");
        End::refused(format!("a message that cannot be read: {error}"))
    })
}
