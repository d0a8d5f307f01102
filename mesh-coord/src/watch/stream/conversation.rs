//! A stream after its hello.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, atomic::Ordering},
};

use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use mesh_model::{Command, RunnerCommand, Sliced, record::Outside};
use mesh_proto::{
    Abilities, Ability, Epoch, Revision,
    message::{Ask, Down, Refusal, Tried, Up},
    telemetry::Telemetry,
};
use mesh_sessions::{News, Opened, Peer, Report, Sent, StreamId};
use tokio::{
    sync::oneshot,
    time::{Instant, MissedTickBehavior, interval_at, timeout_at},
};
use tracing::debug;

use super::{End, HEARTBEAT, Never, SILENCE, Stream, relays::Told, snapshot};
use crate::{
    coordinator::{Core, Failure, Line, Trial},
    metrics::{Closed, ViewKind},
    rate::RunnerLimits,
    telemetry::{Checked, Wish},
    watch::{asks::answer, report},
};

/// How many questions of one agent are answered at once.
const MAX_ASKS: usize = 64;

/// An open stream with all that it needs.
pub(super) struct Conversation<'a> {
    pub(super) io: &'a mut Stream,
    pub(super) id: StreamId,
    /// The epoch of its views.
    pub(super) epoch: Epoch,
    pub(super) line: Line,
    pub(super) report: Report,
    pub(super) limits: RunnerLimits,
    pub(super) can: Abilities,
    pub(super) relays: Told,
    /// The coordinators of which the agent was told last.
    pub(super) coordinators: Arc<[String]>,
    /// How often the agent was asked to report what passes.
    pub(super) asked: Wish,
    /// The last view that was sent, which outlives the conversation.
    pub(super) sent: &'a mut Sent,
    pub(super) asks: FuturesUnordered<BoxFuture<'static, Down>>,
    /// Where what comes of tried connections goes, by their numbers.
    pub(super) trials: Trials,
    /// When the agent was last heard.
    pub(super) heard: Instant,
}

/// Connections that the agent tries.
#[derive(Debug, Default)]
pub(super) struct Trials {
    asked: u64,
    waiting: HashMap<u64, oneshot::Sender<Result<Tried, Refusal>>>,
}

impl Conversation<'_> {
    /// Greets the agent, and serves it until the stream ends.
    pub(super) async fn run(&mut self, opened: Opened, peer: Peer) -> Result<Never, End> {
        Box::pin(self.greet(opened, peer)).await?;
        self.serve().await
    }

    async fn greet(&mut self, opened: Opened, peer: Peer) -> Result<(), End> {
        // The same process has only lost its connection.
        if opened.replaced.is_some_and(|replaced| replaced.process.is_none() || replaced.process != peer.process) {
            self.note_takeover().await?;
        }
        self.note_heard();
        self.io.send(&Down::Welcome { seen_from: self.io.from }).await?;
        *self.sent = Sent::new(opened.continued);
        self.send_news(opened.view).await?;
        self.io.send(&Down::Switches(opened.switches)).await?;
        self.send_relays().await?;
        self.send_coordinators().await?;
        self.ask_for_telemetry().await
    }

    async fn serve(&mut self) -> Result<Never, End> {
        let place = self.io.place.clone();
        let mut heartbeat = interval_at(self.heard + HEARTBEAT, HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut cut_off = pin!(End::once_cut_off(self.io.coordinator.is_cut_off()));
        loop {
            tokio::select! {
                // What is seldom done takes memory only meanwhile.
                changed = self.line.outdated.changed() => Box::pin(self.send_changed(changed.is_ok())).await?,
                // `outdated` signals the end.
                Ok(()) = self.line.switches.changed() => {
                    let on = *self.line.switches.borrow_and_update();
                    self.io.send(&Down::Switches(on)).await?;
                }
                Ok(()) = self.line.relays.changed() => Box::pin(self.send_relays()).await?,
                Ok(()) = self.line.probe.changed() => self.io.ping().await?,
                message = self.io.receive() => {
                    // The end of the connection is no answer.
                    let message = message?;
                    self.note_heard();
                    self.answer_probe();
                    match message {
                        None | Some(Up::Pong) => {}
                        Some(message) => Box::pin(self.handle(message)).await?,
                    }
                }
                Some(trial) = self.line.trials.recv() => Box::pin(self.try_out(trial)).await?,
                Some(answer) = self.asks.next() => self.io.send(&answer).await?,
                end = &mut cut_off => return Err(end),
                () = place.lost() => return Err(End::no_place()),
                () = report::due(&self.report) => Box::pin(self.store_report()).await?,
                _ = heartbeat.tick() => {
                    if self.heard.elapsed() > SILENCE {
                        return Err(End::lost("the agent is silent").counted(Closed::Silence));
                    }
                    self.io.ping().await?;
                    Box::pin(self.tell()).await?;
                }
            }
        }
    }

    /// Tells the agent what there may be to tell without a change of its view.
    async fn tell(&mut self) -> Result<(), End> {
        self.send_coordinators().await?;
        self.ask_for_telemetry().await?;
        if self.relays.is_due(&self.io.coordinator, self.io.runner) {
            self.send_relays().await?;
        }
        Ok(())
    }

    /// Sends the view, which may have changed, or ends the stream, which isn't open any more.
    async fn send_changed(&mut self, is_open: bool) -> Result<(), End> {
        let view = if is_open { self.view().await? } else { None };
        match view {
            Some(view) => self.send_news(view).await,
            None => Err(self.cut_off().await?),
        }
    }

    /// Tells the agent where coordinators are, if others than this one may serve it and there is news.
    async fn send_coordinators(&mut self) -> Result<(), End> {
        let peers = &self.io.coordinator.peers;
        let urls = peers.urls();
        if !peers.is_shared() || !self.can.has(Ability::Coordinators) || self.coordinators == urls {
            return Ok(());
        }
        self.coordinators = Arc::clone(&urls);
        self.io.send(&Down::Coordinators { urls: urls.to_vec() }).await
    }

    /// Tells an agent that uses relays which there are now.
    async fn send_relays(&mut self) -> Result<(), End> {
        if !self.can.has(Ability::Relays) {
            return Ok(());
        }
        let message = self.relays.all(&self.io.coordinator, self.io.runner).await?;
        self.io.send(&message).await
    }

    async fn handle(&mut self, message: Up) -> Result<(), End> {
        match message {
            Up::Pong => Ok(()),
            Up::Hello { .. } => Err(End::refused("a second hello")),
            Up::Applied { revision } => self.handle_applied(revision).await,
            Up::Resync => self.handle_resync().await,
            Up::Endpoints { endpoints, reflexive, relayed, nat } => {
                let now = Instant::now();
                let turn = || self.limits.commands.take(1, now).ok().map(Instant::into_std);
                self.report.endpoints(endpoints, Outside { reflexive, relayed, nat }, now.into_std(), turn);
                Ok(())
            }
            Up::Ask { request, ask } => self.handle_ask(request, ask).await,
            Up::Telemetry(report) => self.take_telemetry(report).await,
            Up::Probed { number, result } => {
                if let Some(waiting) = self.trials.waiting.remove(&number) {
                    // Who asked may be gone.
                    let _ = waiting.send(result);
                }
                Ok(())
            }
        }
    }

    /// Asks the agent to try a connection.
    async fn try_out(&mut self, trial: Box<Trial>) -> Result<(), End> {
        let Trial { caller, callee, port, answer } = *trial;
        if !self.can.has(Ability::Probes) {
            let hint = "`mesh-node why --probe` on the runner does the same";
            let _ = answer.send(Err(Refusal::new("this runner's agent is too old to try it from here", hint)));
            return Ok(());
        }
        self.trials.asked += 1;
        let number = self.trials.asked;
        self.trials.waiting.retain(|_, waiting| !waiting.is_closed());
        self.trials.waiting.insert(number, answer);
        self.io.send(&Down::Probe { number, caller, callee, port }).await
    }

    /// Tells an agent that reports what passes how often it does, if that has changed.
    async fn ask_for_telemetry(&mut self) -> Result<(), End> {
        let now = Instant::now().into_std();
        let wish = self.io.coordinator.telemetry.wish(now);
        if !self.can.has(Ability::Telemetry) || self.asked == wish {
            return Ok(());
        }
        self.asked = wish;
        self.io.send(&wish.message()).await
    }

    /// Takes in what passes at the runner. Reports that come too often are left out.
    async fn take_telemetry(&mut self, report: Telemetry) -> Result<(), End> {
        let now = Instant::now();
        if self.asked == Wish::NONE || !self.limits.reports.take_now(now) {
            return Ok(());
        }
        let (runner, telemetry) = (self.io.runner, Arc::clone(&self.io.coordinator.telemetry));
        let tidied = Arc::clone(&telemetry);
        let check = move |core: &mut Core| {
            if let Some(mut book) = tidied.free_book() {
                book.tidy(&core.state);
            }
            Checked::new(report, runner, &core.state)
        };
        let checked = self.io.beat(self.io.coordinator.clone().visit(check)).await??;
        if let Some(mut book) = telemetry.book() {
            book.take(runner, checked, now.into_std());
        }
        Ok(())
    }

    async fn handle_applied(&mut self, revision: Revision) -> Result<(), End> {
        // A revision of another epoch would confirm more than the agent has applied.
        if !self.sent.reaches(revision) {
            debug!(runner = %self.io.runner, %revision, "the agent confirms a view that was never sent");
            return Ok(());
        }
        self.io.beat(self.limits.notes.turn(1)).await??;
        let id = self.id;
        let behind = self.io.coordinator.visit(move |core| core.sessions.confirm(id, revision)).await?;
        if let Some(since) = behind {
            self.io.coordinator.metrics.applied(Instant::now().into_std().saturating_duration_since(since));
        }
        Ok(())
    }

    async fn handle_resync(&mut self) -> Result<(), End> {
        self.io.beat(self.limits.commands.turn(1)).await??;
        let Some(view) = self.view().await? else { return Ok(()) };
        self.sent.forget();
        self.send_news(view).await
    }

    async fn handle_ask(&mut self, request: u64, ask: Ask) -> Result<(), End> {
        if self.asks.len() >= MAX_ASKS {
            let refusal = Refusal::new("too many questions at once", "wait for some answers first");
            return self.io.send(&Down::Answer { request, result: Err(refusal) }).await;
        }
        if self.report.is_behind() && self.view().await?.is_none() {
            return Err(self.cut_off().await?);
        }
        let coordinator = self.io.coordinator.clone();
        let preceded = report::precede(&mut self.report, &ask, &coordinator, &self.limits.commands);
        match self.io.beat(preceded).await? {
            Ok(()) => {
                self.asks.push(answer(coordinator, self.limits.clone(), self.io.runner, request, ask));
                Ok(())
            }
            Err(refusal) => self.io.send(&Down::Answer { request, result: Err(refusal) }).await,
        }
    }

    /// Stores what is left of the agent's report. A replaced stream must not store it after the newest stream's.
    async fn store_report(&mut self) -> Result<(), End> {
        if self.view().await?.is_none() {
            return Err(self.cut_off().await?);
        }
        let coordinator = self.io.coordinator.clone();
        Ok(self.io.beat(report::store(&mut self.report, &coordinator)).await??)
    }

    /// Why the coordinator has ended this stream.
    async fn cut_off(&mut self) -> Result<End, Failure> {
        let (runner, epoch) = (self.io.runner, self.epoch);
        let look = move |core: &mut Core| (!core.state.is_active(runner), core.sessions.epoch() == epoch);
        let (removed, same_epoch) = self.io.coordinator.visit(look).await?;
        // The agent may have asked for its removal itself.
        let deadline = Instant::now() + HEARTBEAT;
        while removed && let Ok(Some(answer)) = timeout_at(deadline, self.asks.next()).await {
            if self.io.send(&answer).await.is_err() {
                break;
            }
        }
        Ok(match (removed, same_epoch) {
            (true, _) => End::refused("the runner was removed").counted(Closed::Removed),
            (false, true) => End::refused("a newer stream of this runner took over").counted(Closed::Replaced),
            (false, false) => End::lost("the database was put back to an earlier state, so all maps begin anew"),
        })
    }

    /// Sends the update from the last sent view to this one: nothing, a delta, or the whole view.
    async fn send_news(&mut self, view: Arc<Sliced>) -> Result<(), End> {
        let (kind, text) = match self.sent.news(&view) {
            None => return Ok(()),
            Some(News::Delta(delta)) => (ViewKind::Delta, serde_json::to_string(&Down::Delta(delta))),
            Some(News::Snapshot(view)) => (ViewKind::Snapshot, snapshot::text(&view)),
        };
        let bytes = text.as_ref().map_or(0, String::len);
        // If sending fails half-way, it is unknown what has arrived.
        self.sent.forget();
        self.io.send_text(text).await?;
        self.io.coordinator.metrics.view_sent(kind, bytes);
        self.sent.sent(view);
        Ok(())
    }

    /// The view that the runner should have; `None` if a newer stream has replaced this one.
    async fn view(&mut self) -> Result<Option<Arc<Sliced>>, Failure> {
        let id = self.id;
        self.io.coordinator.visit(move |core| core.view(id)).await
    }

    fn note_heard(&mut self) {
        self.heard = Instant::now();
        self.line.heard.store(self.io.coordinator.now().0, Ordering::Relaxed);
    }

    /// Any message after a probe answers it.
    fn answer_probe(&self) {
        let asked = *self.line.probe.borrow();
        self.line.answered.send_if_modified(|answer| std::mem::replace(answer, asked) != asked);
    }

    async fn note_takeover(&mut self) -> Result<(), End> {
        let command = Command::Runner { by: self.io.runner, what: RunnerCommand::TakenOver { from: self.io.from } };
        let coordinator = self.io.coordinator.clone();
        match self.io.beat(coordinator.submit(command)).await? {
            // The writer has logged the failure. The stream is worth more than the audit entry.
            Ok(_) | Err(Failure::Store(_)) => Ok(()),
            Err(failure) => Err(failure.into()),
        }
    }
}
