//! The task that owns the state and the store.

mod group;

use std::{convert::Infallible, sync::Arc, time::Duration};

use mesh_model::{RunningSeconds, State};
use mesh_proto::{Epoch, Revision};
use mesh_several::attempt::{Attempt, Next};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use tracing::{error, info, warn};

use self::group::{Group, Join, Plan};
use super::{
    Core, Done, Failure,
    keyring::Keyring,
    queue::{Queue, Request, Submission},
};
use crate::{
    clock::Clock,
    random,
    store::{Commit, Draft, Nonce, Store, StoreError, Watch},
};

/// How long a commit may take before its command and the waiting ones are refused. The commit goes on.
const COMMIT_PATIENCE: Duration = Duration::from_secs(5);
/// How often waiting commands are refused during a slow commit.
const SLOW_LOOK: Duration = Duration::from_millis(500);
/// The pause between attempts to find out whether a commit was made.
const SETTLE_PAUSE: Duration = Duration::from_millis(250);

/// The task.
pub(super) struct Writer<S> {
    pub(super) store: Arc<S>,
    pub(super) watch: Watch,
    pub(super) core: Core,
    pub(super) queue: Arc<Queue>,
    pub(super) clock: Arc<Clock>,
    pub(super) keyring: Arc<Keyring>,
    /// The revision of the state.
    pub(super) reached: watch::Sender<Revision>,
    /// Why the last commit failed, if it did.
    pub(super) trouble: Option<StoreError>,
}

impl<S: Store> Writer<S> {
    /// Carries out requests until the last handle is dropped.
    pub(super) async fn run(mut self, mut gone: mpsc::Receiver<Infallible>) {
        let queue = Arc::clone(&self.queue);
        let _closed = Closed(&queue);
        loop {
            tokio::select! {
                request = queue.next() => match request {
                    Request::Submit(submission) => self.carry_out(submission).await,
                    Request::Visit(visit) => self.core.visit(visit),
                },
                commit = self.watch.next() => match commit {
                    Ok(commit) => self.absorb(&commit),
                    Err(error) => {
                        warn!(%error, "the store's commits can't be followed: reading all of it");
                        if let Err(error) = self.reload().await {
                            error!(%error, hint = error.hint(), "the store can't be read: the coordinator ends");
                            return;
                        }
                    }
                },
                () = self.core.timer() => self.core.time_out(),
                _ = gone.recv() => return,
            }
        }
    }

    /// Carries out a command, and waiting ones with it.
    async fn carry_out(&mut self, first: Submission) {
        let mut group = Group::new(first);
        match self.decide_and_commit(&mut group, Join::Waiting).await {
            Ok(revision) => group.committed(revision),
            // What doesn't fit together may fit in part.
            Err(StoreError::Full) if !group.is_one() => {
                for mut group in group.apart() {
                    match self.decide_and_commit(&mut group, Join::None).await {
                        Ok(revision) => group.committed(revision),
                        Err(error) => group.failed(&error),
                    }
                }
            }
            Err(error) => group.failed(&error),
        }
    }

    /// Returns the revision of the commit, or the last one if there is nothing to commit.
    async fn decide_and_commit(&mut self, group: &mut Group, join: Join) -> Result<Revision, StoreError> {
        let mut attempt = Attempt::default();
        loop {
            let join = if attempt.decided() == 0 { join } else { Join::None };
            // Before the time is read: what stands still from here on may come too late to be committed.
            let right = self.store.right();
            let Plan { changes, epoch, now } = self.decide(group, join);
            if changes.is_empty() {
                return Ok(self.core.state.revision());
            }
            let nonce = nonce()?;
            let draft = Draft { changes, epoch, running: now.running, nonce, right };
            attempt.sent(self.core.state.revision(), nonce);
            let mut next = attempt.answered(self.commit(draft, group).await);
            loop {
                next = match next {
                    Next::Decide => break,
                    Next::Settle { pause } => attempt.answered(self.settle(epoch, pause, group).await),
                    Next::CatchUp(revision) => match self.catch_up(revision).await {
                        Ok(nonces) => attempt.caught_up(nonces.as_deref()),
                        Err(error) => Next::Failed(error),
                    },
                    Next::Made(revision) => {
                        if self.trouble.take().is_some() {
                            info!("the store takes commits again");
                        }
                        return Ok(revision);
                    }
                    Next::Failed(error) => {
                        note(&mut self.trouble, &error);
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Commits nothing, which gets the store past the current revision.
    async fn settle(&mut self, epoch: Epoch, pause: bool, group: &mut Group) -> Result<Revision, StoreError> {
        if pause {
            meanwhile(&mut self.core, &self.queue, sleep(SETTLE_PAUSE)).await;
        }
        let right = self.store.right();
        let running = self.clock.now().running;
        self.commit(Draft { changes: Vec::new(), epoch, running, nonce: nonce()?, right }, group).await
    }

    /// Commits a draft. Visits get their turn meanwhile, and waiting commands are refused if it takes too long.
    async fn commit(&mut self, draft: Draft, group: &mut Group) -> Result<Revision, StoreError> {
        let Self { store, core, queue, trouble, .. } = self;
        let mut commit = std::pin::pin!(store.commit(core.state.revision(), draft));
        let mut patience = std::pin::pin!(sleep(COMMIT_PATIENCE));
        loop {
            tokio::select! {
                committed = &mut commit => return committed,
                visit = queue.next_visit() => core.visit(visit),
                () = core.timer() => core.time_out(),
                () = &mut patience => {
                    note(trouble, &StoreError::Slow);
                    group.failed(&StoreError::Slow);
                    while let Some(waiting) = queue.submission() {
                        drop(waiting.answer.send(Err(StoreError::Slow.into())));
                    }
                    patience.set(sleep(SLOW_LOOK));
                }
            }
        }
    }

    /// Absorbs all commits up to `revision`. Own and foreign commits come the same way. Returns their nonces, unless
    /// these aren't known any more.
    async fn catch_up(&mut self, revision: Revision) -> Result<Option<Vec<Nonce>>, StoreError> {
        let mut nonces = Vec::new();
        while self.core.state.revision() < revision {
            let Self { watch, core, queue, .. } = self;
            match meanwhile(core, queue, watch.next()).await {
                Ok(commit) => {
                    self.absorb(&commit);
                    nonces.push(commit.nonce);
                }
                Err(_) => return self.reload().await.map(|()| None),
            }
        }
        Ok(Some(nonces))
    }

    fn absorb(&mut self, commit: &Commit) {
        self.core.absorb(&commit.changes, commit.revision);
        self.keyring.absorb(&self.core.state, &commit.changes);
        self.follow(Some(commit.epoch), commit.running);
    }

    /// Reads the whole store, and waits for it where the way to it is lost.
    async fn reload(&mut self) -> Result<(), StoreError> {
        loop {
            let Self { store, core, queue, .. } = self;
            match meanwhile(core, queue, store.load()).await {
                Ok(loaded) => {
                    let head = loaded.head;
                    match self.store.watch(head.revision).await {
                        Ok(watch) => self.watch = watch,
                        // Others commit.
                        Err(StoreError::Gap(_)) => continue,
                        Err(error) => return Err(error),
                    }
                    let state = State::load(head.revision, loaded.records);
                    self.core.reload(state.map_err(|error| StoreError::Damaged(error.to_string()))?);
                    self.keyring.load(&self.core.state);
                    self.follow(head.epoch, head.running);
                    return Ok(());
                }
                Err(StoreError::Away) => meanwhile(&mut self.core, &self.queue, sleep(SETTLE_PAUSE)).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// What applies to all coordinators applies to this one: its epoch and running time may be another's.
    fn follow(&mut self, epoch: Option<Epoch>, running: RunningSeconds) {
        if let Some(epoch) = epoch.filter(|epoch| *epoch != self.core.sessions.epoch()) {
            self.core.renew(epoch);
        }
        self.clock.advance(running);
        self.reached.send_replace(self.core.state.revision());
    }
}

/// Waits for `event`. Visits get their turn meanwhile.
async fn meanwhile<T>(core: &mut Core, queue: &Queue, event: impl Future<Output = T>) -> T {
    let mut event = std::pin::pin!(event);
    loop {
        tokio::select! {
            happened = &mut event => return happened,
            visit = queue.next_visit() => core.visit(visit),
            () = core.timer() => core.time_out(),
        }
    }
}

fn nonce() -> Result<Nonce, StoreError> {
    random::number().map(Nonce).map_err(|error| StoreError::Failed(error.to_string()))
}

/// Logs a failure of the store once, not for each command while the disk is full.
fn note(trouble: &mut Option<StoreError>, error: &StoreError) {
    if trouble.as_ref() != Some(error) {
        error!(%error, hint = error.hint(), "a commit failed");
        *trouble = Some(error.clone());
    }
}

/// Closes the queue when the writer ends or panics, so that no request waits forever.
struct Closed<'a>(&'a Queue);

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}
