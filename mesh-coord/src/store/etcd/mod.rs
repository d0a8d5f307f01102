//! The store in an etcd, for any number of coordinators. A commit swaps the key `head`, if it is still what it was; so
//! any of them may commit, without a leader. [`layout`] has the keys.

mod client;
mod compact;
mod endpoints;
mod lease;
mod load;
mod place;
mod seat;
mod sole;
mod watch;
mod wire;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use mesh_model::{Change, record::MemberId};
use mesh_proto::Revision;
use mesh_several::{
    etcd::{commit, events, layout, position, right},
    right::Right,
};
use tokio::{
    sync::{Notify, watch as cell},
    task::JoinHandle,
    time::{Duration, Instant, sleep, timeout},
};

pub(crate) use self::{
    endpoints::Access,
    lease::BEAT,
    place::Place,
    seat::{Seat, Seated},
    sole::Holder,
};

use self::{
    client::Trouble,
    commit::{Outcome, folds, outcome, plan},
    endpoints::Endpoints,
    layout::Layout,
    position::{Advance, Base, Known, Position, base, revision},
    right::PREPARATION,
    wire::{TXN, TxnRequest, TxnResponse},
};
use super::{Commit, Draft, Loaded, Nonce, Store, StoreError, Watch, feed::Feed};
use crate::random;

/// How long a commit waits for its coordinator to have a place again: two signs of life.
const RETURN: Duration = Duration::from_secs(3);

/// The records of a mesh in an etcd.
#[derive(Debug)]
pub(crate) struct EtcdStore {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
    /// How many have asked for a [`Store::sync`].
    asked: AtomicU64,
    synced: tokio::sync::Mutex<Synced>,
    /// Which coordinator this is, of several.
    member: Option<MemberId>,
}

/// The last read of the head, which is good for all who asked before it began.
#[derive(Debug)]
struct Synced {
    asked: u64,
    revision: Result<Revision, StoreError>,
}

/// What the store and its watch share.
#[derive(Debug)]
struct Shared {
    layout: Layout,
    endpoints: Endpoints,
    feed: Feed,
    position: Mutex<Position>,
    /// By what right commits are made: a place among others, or the use of the records alone.
    right: cell::Sender<Option<Right>>,
    /// etcd has refused a commit because the place among others is lost.
    ended: Notify,
    /// The watch is behind what was read.
    behind: Notify,
}

impl EtcdStore {
    /// Looks at the head, and follows the commits from there on.
    ///
    /// # Errors
    /// If etcd can't be reached or doesn't let us in, or the records are of a later version of this program.
    pub(crate) async fn open(place: &Place, access: Access) -> Result<Self, StoreError> {
        let layout = Layout::new(&place.prefix);
        let first = random::number().map_err(|error| StoreError::Failed(error.to_string()))?;
        let first = usize::try_from(first % place.members.len() as u64).unwrap_or(0);
        let endpoints = Endpoints::new(place, access, first)?;
        let (known, at) = load::head(&endpoints, &layout).await.map_err(Trouble::of_read)?;
        let revision = revision(known.as_ref());
        let (feed, position) = (Feed::new(revision), Mutex::new(Position::new(known)));
        let (right, ended, behind) = (cell::Sender::new(None), Notify::new(), Notify::new());
        let shared = Arc::new(Shared { layout, endpoints, feed, position, right, ended, behind });
        let tasks = vec![tokio::spawn(watch::follow(Arc::clone(&shared), at))];
        let synced = tokio::sync::Mutex::new(Synced { asked: 0, revision: Ok(revision) });
        Ok(Self { shared, tasks, asked: AtomicU64::new(0), synced, member: None })
    }

    /// The same for one of several coordinators, with its place among them, and who is there.
    ///
    /// # Errors
    /// [`StoreError::Held`] if someone has the records alone.
    pub(crate) async fn join(mut self, id: MemberId, text: Vec<u8>) -> Result<(Self, Seat, Vec<Seated>), StoreError> {
        let (seat, seated) = Seat::take(Arc::clone(&self.shared), id, text).await?;
        self.member = Some(id);
        Ok((self, seat, seated))
    }

    /// The same for one that has the records alone.
    ///
    /// # Errors
    /// [`StoreError::Held`] if another one has them, [`StoreError::InUse`] if coordinators serve.
    pub(crate) async fn into_sole(mut self, holder: &Holder) -> Result<(Self, Release), StoreError> {
        let right = sole::take(&self.shared, holder).await?;
        self.shared.right.send_replace(Some(right));
        self.tasks.push(tokio::spawn(sole::hold(Arc::clone(&self.shared), right)));
        let release = Release { shared: Arc::clone(&self.shared), right };
        Ok((self, release))
    }

    /// Takes the head away from the records, which were moved elsewhere: no coordinator will use them here.
    ///
    /// # Errors
    /// If another commit was made, or etcd fails.
    pub(crate) async fn retire(&self) -> Result<(), StoreError> {
        let (known, right) = (self.shared.position().known(), self.right());
        let retire = commit::retire(&self.shared.layout, known.as_ref(), right)?;
        let answer: TxnResponse = self.shared.endpoints.write(TXN, retire).await.map_err(Trouble::of_write)?;
        if answer.succeeded { Ok(()) } else { Err(StoreError::Failed("the records have changed meanwhile".to_owned())) }
    }

    /// The same, that lets etcd forget old revisions of all its keys.
    pub(crate) fn forgetting(mut self) -> Self {
        self.tasks.push(tokio::spawn(compact::forget(Arc::clone(&self.shared))));
        self
    }
}

/// Puts the right to use the records alone down.
#[derive(Debug)]
pub(crate) struct Release {
    shared: Arc<Shared>,
    right: Right,
}

impl Release {
    /// Lets others begin at once. The store of this one is of no more use.
    pub(crate) async fn now(self) {
        self.shared.fail(StoreError::Replaced);
        sole::release(&self.shared, self.right).await;
    }
}

impl Store for EtcdStore {
    async fn load(&self) -> Result<Loaded, StoreError> {
        self.shared.check()?;
        let (loaded, known) = load::load(&self.shared.endpoints, &self.shared.layout).await?;
        if let Some(known) = known {
            self.shared.advance(&known, None)?;
        }
        Ok(loaded)
    }

    async fn commit(&self, expected: Revision, draft: Draft) -> Result<Revision, StoreError> {
        self.shared.check()?;
        let pause = self.shared.pause();
        if !pause.is_zero() {
            sleep(pause).await;
        }
        self.shared.position().begin(draft.nonce);
        let began = Instant::now();
        let known = self.shared.known_at(expected).await?;
        if let Some(known) = known.as_ref().filter(|known| known.top.parts > 0) {
            self.shared.fold(known).await?;
        }
        // What is decided by no right in particular is committed by the one that there is.
        let draft = Draft { right: draft.right.or_else(|| self.right()), ..draft };
        let plan = plan(&self.shared.layout, known.as_ref(), &draft)?;
        for part in plan.parts {
            let written: Result<TxnResponse, _> = self.shared.endpoints.write(TXN, part).await;
            // Without the head, the parts mean nothing.
            written.map_err(Trouble::of_read)?;
        }
        if began.elapsed() > PREPARATION {
            return Err(StoreError::Ended);
        }
        let answer = self.shared.endpoints.write(TXN, plan.swap).await.map_err(Trouble::of_write)?;
        match outcome(&self.shared.layout, &plan.top, draft.right, &answer)? {
            Outcome::Done(at) => {
                self.shared.advance(&Known { top: plan.top, at }, Some(draft.changes.into()))?;
                self.shared.position().made(began.elapsed());
                Ok(plan.top.revision)
            }
            Outcome::Moved(moved) => {
                self.shared.position().overtaken(now());
                Err(self.shared.moved(expected, moved.as_ref()))
            }
            Outcome::Ended => {
                self.shared.renewed(draft.right).await?;
                // It is decided on anew, by the new right.
                Err(StoreError::Stale { expected, actual: expected })
            }
        }
    }

    async fn watch(&self, from: Revision) -> Result<Watch, StoreError> {
        self.shared.feed.watch(from)
    }

    async fn sync(&self) -> Result<Revision, StoreError> {
        let ticket = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut synced = self.synced.lock().await;
        if synced.asked < ticket {
            let asked = self.asked.load(Ordering::SeqCst);
            *synced = Synced { asked, revision: self.shared.look().await };
        }
        synced.revision.clone()
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn member(&self) -> Option<MemberId> {
        self.member
    }

    fn right(&self) -> Option<Right> {
        *self.shared.right.borrow()
    }
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Shared {
    fn position(&self) -> MutexGuard<'_, Position> {
        self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Errors
    /// Why the store is of no more use.
    fn check(&self) -> Result<(), StoreError> {
        self.position().check()
    }

    /// The store is of no more use: the coordinator has to start again.
    fn fail(&self, error: StoreError) {
        self.position().fail(error.clone());
        self.feed.fail(error);
        self.right.send_replace(None);
    }

    /// Waits for another right in place of this one, which has ended.
    ///
    /// # Errors
    /// If there is none soon, or the store is of no more use.
    async fn renewed(&self, ended: Option<Right>) -> Result<(), StoreError> {
        let Some(Right::Place { .. }) = ended else {
            self.fail(StoreError::Replaced);
            return Err(StoreError::Replaced);
        };
        self.ended.notify_one();
        let mut right = self.right.subscribe();
        match timeout(RETURN, right.wait_for(|right| *right != ended)).await {
            Ok(_) => self.check(),
            Err(_) => Err(StoreError::Ended),
        }
    }

    /// Whether this head is later than what is known.
    fn is_news(&self, head: &Known) -> bool {
        self.position().is_news(head)
    }

    /// Passes a commit on, if it is news. Without its changes, it is a gap for all who follow.
    fn advance(&self, head: &Known, changes: Option<Arc<[Change]>>) -> Result<(), StoreError> {
        let mut position = self.position();
        let top = &head.top;
        match (position.advance(head, changes.is_some(), now())?, changes) {
            (Advance::Old, _) => {}
            (Advance::Next, Some(changes)) => {
                let (revision, nonce) = (top.revision, Nonce(top.nonce));
                self.feed.push(Commit { revision, nonce, epoch: top.epoch, running: top.running, changes });
            }
            (Advance::Next | Advance::Gap, _) => self.feed.restart(top.revision),
        }
        Ok(())
    }

    fn pause(&self) -> Duration {
        let random = random::number().map_or(0.5, |number| (number >> 11) as f64 / (1_u64 << 53) as f64);
        self.position().pause(now(), random)
    }

    /// The head of this revision, which is `None` before the first commit.
    async fn known_at(&self, expected: Revision) -> Result<Option<Known>, StoreError> {
        let known = self.position().base(expected)?;
        match known {
            Base::Head(known) => Ok(known),
            Base::Unread => {
                let (head, _) = load::head(&self.endpoints, &self.layout).await.map_err(Trouble::of_read)?;
                base(expected, head)
            }
        }
    }

    /// What it means that the head is not the expected one.
    fn moved(&self, expected: Revision, moved: Option<&Known>) -> StoreError {
        let error = self.position().moved(expected, moved);
        if error == StoreError::PutBack {
            self.fail(error.clone());
        }
        error
    }

    /// Writes the parts of the newest commit to the records.
    async fn fold(&self, known: &Known) -> Result<(), StoreError> {
        let parts = load::parts(&self.endpoints, &self.layout, known, 0).await;
        for fold in folds(&self.layout, known, &parts.map_err(Trouble::of_read)?) {
            let answer = self.endpoints.write::<TxnRequest, TxnResponse>(TXN, fold).await;
            // A fold changes nothing that counts.
            if !answer.map_err(Trouble::of_read)?.succeeded {
                let (head, _) = load::head(&self.endpoints, &self.layout).await.map_err(Trouble::of_read)?;
                return Err(self.moved(known.top.revision, head.as_ref()));
            }
        }
        Ok(())
    }

    /// The current revision.
    async fn look(&self) -> Result<Revision, StoreError> {
        self.check()?;
        let before = self.position().known();
        let (head, at) = load::head(&self.endpoints, &self.layout).await.map_err(Trouble::of_read)?;
        let looked = self.position().looked(before.as_ref(), (head.as_ref(), at), now());
        match looked {
            Ok(looked) => {
                if looked.is_behind {
                    self.behind.notify_one();
                }
                Ok(looked.revision)
            }
            Err(error) => {
                self.fail(error.clone());
                Err(error)
            }
        }
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

#[cfg(test)]
pub(crate) mod lab;
#[cfg(test)]
mod tests;
