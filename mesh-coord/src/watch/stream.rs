//! One runner's stream: what it should know goes down, what it has done and wants to know comes up.

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
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval_at, timeout, timeout_at},
};
use tracing::{debug, info};

use super::{Brakes, Busy, Opened, Peer, asks::answer, newcomer, told::Told};
use crate::{
    coordinator::{Coordinator, Core, Failure},
    http::place::Place,
};

/// How often the agent is asked whether it is still there.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How long it may say nothing, or take nothing.
const SILENCE: Duration = Duration::from_secs(6);
/// Questions of one agent that are answered at once.
const MAX_ASKS: usize = 64;
/// Close codes (RFC 6455 §7.4.1).
const POLICY: u16 = 1008;
const GOING_AWAY: u16 = 1001;

/// Why a stream ends, for the log and, where it can still be told, for the agent.
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

/// Serves the stream of a runner that has shown its credential, until it ends or has to give its place to another.
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
    // A close frame's reason has room for 123 octets.
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

/// How a stream begins.
struct Hello {
    have: Option<Have>,
    peer: Peer,
    /// It says that it was refused as a copy before.
    refused: bool,
    told: Told,
}

type Asks = FuturesUnordered<BoxFuture<'static, Down>>;

enum Never {}

impl Stream {
    async fn run(&mut self) -> Result<Never, End> {
        let Hello { have, peer, refused, mut told } = self.hello().await?;
        let (runner, coordinator) = (self.runner, self.coordinator.clone());
        let brakes = coordinator
            .visit(move |core| core.state.stands(runner).then(|| core.sessions.brakes(runner)))
            .await?
            .ok_or_else(|| End::refused("the runner was removed"))?;
        self.beat(brakes.commands.turn(told.weight())).await??;
        if let Err(refusal) = self.beat(newcomer::admit(&coordinator, runner, peer, refused)).await?? {
            let why = refusal.to_string();
            self.send(&Down::Refused { cause: Cause::Copy, refusal }).await?;
            return Err(End::refused(why));
        }
        self.beat(told.keep(&coordinator)).await??;
        let opened = coordinator
            .visit(move |core| {
                let view = core.state.view(runner, core.epoch)?;
                let switches = core.state.switches(runner);
                Some(core.sessions.open(runner, peer, view, switches, have))
            })
            .await?
            .ok_or_else(|| End::refused("the runner was removed"))?;
        self.place.begin();
        info!(%runner, from = %self.from, took_over = opened.replaced.is_some(), "stream began");
        let (number, mut sent) = (opened.number, None);
        let Err(end) = self.converse(opened, told, &brakes, peer, &mut sent).await;
        let _ = coordinator.visit(move |core| core.sessions.close(runner, number, sent)).await;
        Err(end)
    }

    /// Waits, and lets the agent know meanwhile that the coordinator is there.
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

    /// Reads the first message: the view that the agent has, and what it tells of its runner.
    async fn hello(&mut self) -> Result<Hello, End> {
        let place = self.place.clone();
        let first = tokio::select! {
            first = timeout(SILENCE, self.receive()) => first.map_err(|_| End::refused("no hello came"))??,
            () = place.lost() => return Err(End::no_place()),
        };
        let Some(Up::Hello { protocol, version, have, endpoints, port, endpoints_only, instances, process, refused }) =
            first
        else {
            return Err(End::refused("the first message is no hello"));
        };
        if protocol != PROTOCOL {
            let older = if protocol < PROTOCOL { "mesh-node" } else { "mesh-coord" };
            return Err(End::refused(format!(
                "protocol {protocol} is not {PROTOCOL}, the coordinator's: upgrade {older}"
            )));
        }
        // What only this machine or its link can reach is of use to a runner's peers only where it has nothing else.
        let local = match self.from {
            IpAddr::V4(address) => address.is_loopback() || address.is_link_local(),
            IpAddr::V6(address) => address.is_loopback() || address.is_unicast_link_local(),
        };
        let of_use = !endpoints_only && port != 0 && (!local || endpoints.is_empty());
        let seen = of_use.then(|| SocketAddr::new(self.from, port));
        let told = Told::new(self.runner, RunnerCommand::Hello { version, endpoints, seen, instances });
        Ok(Hello { have, peer: Peer { process, from: self.from }, refused, told })
    }

    /// `sent` is the view that was sent last, also when this ends.
    async fn converse(
        &mut self,
        opened: Opened,
        mut told: Told,
        brakes: &Brakes,
        peer: Peer,
        sent: &mut Option<Arc<View>>,
    ) -> Result<Never, End> {
        let Opened { number, view, mut news, mut switches, has, seen, replaced, mut probe, answered } = opened;
        let (coordinator, place) = (self.coordinator.clone(), self.place.clone());
        // The same process again has only lost its connection.
        if replaced.is_some_and(|replaced| replaced.process.is_none() || replaced.process != peer.process) {
            self.beat(note_takeover(&coordinator, self.runner, self.from)).await??;
        }
        self.note_seen(&seen);
        self.send(&Down::Welcome { seen_from: self.from }).await?;
        *sent = has;
        self.send_news(view, sent).await?;
        let on = *switches.borrow_and_update();
        self.send(&Down::Switches(on)).await?;
        let mut asks = Asks::new();
        let mut heard = Instant::now();
        let mut heartbeat = interval_at(heard + HEARTBEAT, HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = news.changed() => {
                    let view = if changed.is_ok() { self.look(number).await? } else { None };
                    match view {
                        Some(view) => self.send_news(view, sent).await?,
                        None => return Err(self.cut_off(asks).await?),
                    }
                }
                // Its end is told by the news'.
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
                    self.note_seen(&seen);
                    match message {
                        None | Some(Up::Pong) => {}
                        Some(Up::Hello { .. }) => return Err(End::refused("a second hello")),
                        // One of another epoch would count for more than it is worth.
                        Some(Up::Applied { revision }) if sent.as_ref().is_none_or(|sent| sent.revision < revision) => {
                            debug!(runner = %self.runner, %revision, "a view that was never sent is said to be in force");
                        }
                        Some(Up::Applied { revision }) => {
                            self.beat(brakes.notes.turn(1)).await??;
                            let runner = self.runner;
                            self.coordinator.visit(move |core| core.sessions.applied(runner, number, revision)).await?;
                        }
                        Some(Up::Resync) => {
                            self.beat(brakes.commands.turn(1)).await??;
                            let Some(view) = self.look(number).await? else { continue };
                            *sent = None;
                            self.send_news(view, sent).await?;
                        }
                        Some(Up::Endpoints { endpoints }) => told.endpoints(endpoints, &brakes.commands),
                        Some(Up::Ask { request, .. }) if asks.len() >= MAX_ASKS => {
                            let refusal = Refusal::new("too many questions at once", "wait for some answers first");
                            self.send(&Down::Answer { request, result: Err(refusal) }).await?;
                        }
                        Some(Up::Ask { .. }) if told.is_behind() && self.look(number).await?.is_none() => {
                            return Err(self.cut_off(asks).await?);
                        }
                        Some(Up::Ask { request, ask }) => {
                            match self.beat(told.precede(&ask, &coordinator, &brakes.commands)).await? {
                                Ok(()) => {
                                    asks.push(answer(coordinator.clone(), brakes.clone(), self.runner, request, ask));
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
                // What an old stream began with must not come after what the newest one did.
                () = told.due() => match self.look(number).await? {
                    Some(_) => self.beat(told.keep(&coordinator)).await??,
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
        let removed = self.coordinator.visit(move |core| !core.state.stands(runner)).await?;
        // It may have asked for its removal itself.
        let deadline = Instant::now() + HEARTBEAT;
        while removed && let Ok(Some(answer)) = timeout_at(deadline, asks.next()).await {
            if self.send(&answer).await.is_err() {
                break;
            }
        }
        Ok(End::refused(if removed { "the runner was removed" } else { "a newer stream of this runner took over" }))
    }

    /// Sends what leads from the view that was sent last to this one: nothing, a delta, or all of it.
    async fn send_news(&mut self, view: Arc<View>, sent: &mut Option<Arc<View>>) -> Result<(), End> {
        let news = match sent {
            Some(old) => {
                let delta = old.delta_to(&view);
                if delta.is_empty() {
                    return Ok(());
                }
                Down::Delta(delta)
            }
            None => Down::Snapshot { view: View::clone(&view) },
        };
        // Should the sending fail half-way, nobody knows what arrived.
        *sent = None;
        self.send(&news).await?;
        *sent = Some(view);
        Ok(())
    }

    async fn send(&mut self, message: &Down) -> Result<(), End> {
        let text = serde_json::to_string(message).map_err(|error| End::lost(error.to_string()))?;
        match timeout(SILENCE, self.down.send(Message::Text(text.into()))).await {
            Ok(sent) => sent.map_err(|error| End::lost(error.to_string())),
            Err(_) => Err(End::lost("the agent takes nothing")),
        }
    }

    /// The next message; `None` for one of the WebSocket's own. May be dropped while it waits, and asked again.
    async fn receive(&mut self) -> Result<Option<Up>, End> {
        match self.up.next().await {
            Some(Ok(Message::Text(text))) => read(&text).map(Some),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(None),
            Some(Ok(Message::Binary(_))) => Err(End::refused("a message that is no text")),
            Some(Ok(Message::Close(_))) => Err(End::lost("the agent closed it")),
            Some(Err(error)) => Err(End::lost(error.to_string())),
            None => Err(End::lost("the connection broke")),
        }
    }

    /// The view that the runner should have; `None` once this stream isn't its newest.
    async fn look(&self, number: u64) -> Result<Option<Arc<View>>, Failure> {
        let runner = self.runner;
        let look = move |core: &mut Core| core.sessions.stands(runner, number).then(|| core.look(runner)).flatten();
        self.coordinator.visit(look).await
    }

    fn note_seen(&self, seen: &AtomicU64) {
        seen.store(self.coordinator.now().0, Ordering::Relaxed);
    }
}

/// What is heard after the question was put is its answer.
fn answer_probe(probe: &watch::Receiver<u64>, answered: &watch::Sender<u64>) {
    let asked = *probe.borrow();
    answered.send_if_modified(|answer| std::mem::replace(answer, asked) != asked);
}

async fn note_takeover(coordinator: &Coordinator, runner: RunnerId, from: IpAddr) -> Result<(), Failure> {
    let what = RunnerCommand::TakenOver { from };
    match coordinator.submit(Command::Runner { by: runner, what }).await {
        // The writer has told of it, and the stream is worth more than the entry in the audit.
        Ok(_) | Err(Failure::Store(_)) => Ok(()),
        Err(failure) => Err(failure),
    }
}

fn read(text: &Utf8Bytes) -> Result<Up, End> {
    serde_json::from_str(text).map_err(|error| {
        debug!(%error, "a message could not be read");
        End::refused(format!("a message that makes no sense: {error}"))
    })
}
