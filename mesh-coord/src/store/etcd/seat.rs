//! A coordinator's place among those that serve together: the key `member/ID`, which goes with its lease.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use mesh_model::{RunningSeconds, record::MemberId};
use mesh_several::right::Right;
use tokio::sync::Mutex;
use tracing::{info, warn};

use super::{
    Shared,
    client::Trouble,
    layout::{Named, put},
    lease, right, sole,
    wire::{Compare, Op, RangeRequest, Request, TXN, TxnRequest, TxnResponse},
};
use crate::store::StoreError;

/// What stands in the key `active` while coordinators serve together. Those of earlier versions show its host.
const TOGETHER: &str = concat!(
    r#"{"host":"several machines, of a later version that serves together","urls":[],"version":""#,
    env!("CARGO_PKG_VERSION"),
    r#""}"#
);

/// A coordinator's place.
#[derive(Debug, Clone)]
pub(crate) struct Seat {
    shared: Arc<Shared>,
    pub(crate) id: MemberId,
    lease: Arc<Mutex<i64>>,
    /// The largest running time that was found.
    running: Arc<AtomicU64>,
}

/// A coordinator, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seated {
    pub(crate) id: MemberId,
    /// etcd's revision at which it has taken its place: earlier ones have the duties.
    pub(crate) since: i64,
    /// What it tells of itself.
    pub(crate) text: Vec<u8>,
}

impl Seat {
    /// Takes a place, once no one has the records alone. Also returns who is there, this one among them.
    ///
    /// # Errors
    /// [`StoreError::Held`] if someone keeps them alone.
    pub(super) async fn take(
        shared: Arc<Shared>,
        id: MemberId,
        text: Vec<u8>,
    ) -> Result<(Self, Vec<Seated>), StoreError> {
        let lease = lease::grant(&shared).await.map_err(Trouble::of_read)?;
        let seat = Self { shared, id, lease: Arc::new(Mutex::new(lease)), running: Arc::default() };
        loop {
            let (is_open, active) = sole::wait_until_open(&seat.shared).await?;
            let together = active.is_none().then(|| put(seat.shared.layout.active(), TOGETHER.into(), 0));
            match seat.write(vec![is_open], together, text.clone(), lease).await {
                Ok(Some(seated)) => return Ok((seat, seated)),
                // Without an answer it may be there, and once more does no harm.
                Ok(None) | Err(Trouble::Unanswered(_)) => {}
                Err(trouble) => return Err(trouble.of_read()),
            }
            lease::keep(&seat.shared, lease).await.ok();
        }
    }

    /// Gives a sign of life, and tells the running time. Returns who is there, this one among them.
    ///
    /// # Errors
    /// If etcd can't be reached.
    pub(crate) async fn beat(&self, text: Vec<u8>, running: RunningSeconds) -> Result<Vec<Seated>, StoreError> {
        let clock = self.shared.layout.put_clock(running.max(self.running()));
        let mut lease = self.lease.lock().await;
        if !lease::keep(&self.shared, *lease).await.map_err(Trouble::of_read)? {
            *lease = lease::grant(&self.shared).await.map_err(Trouble::of_read)?;
            info!("this coordinator's lease had ended: it has another one");
        }
        let seated = self.write(vec![right::is_shared(&self.shared.layout)], Some(clock), text, *lease).await;
        if matches!(seated, Ok(None)) {
            self.shared.fail(StoreError::Replaced);
            return Err(StoreError::Replaced);
        }
        if let Err(Trouble::Refused(error)) = &seated {
            warn!(%error, "this coordinator could not give a sign of life");
            // The lease may have ended although etcd has said otherwise.
            *lease = lease::grant(&self.shared).await.map_err(Trouble::of_read)?;
        }
        seated.map(Option::unwrap_or_default).map_err(Trouble::of_read)
    }

    /// Returns when a commit was refused because the place is lost: a sign of life takes it again.
    pub(crate) async fn ended(&self) {
        self.shared.ended.notified().await;
    }

    /// The largest running time that was found. It was told by a coordinator whose place may be gone.
    pub(crate) fn running(&self) -> RunningSeconds {
        RunningSeconds(self.running.load(Ordering::Acquire))
    }

    /// Leaves the place, so that others know at once.
    pub(crate) async fn leave(&self) {
        self.shared.fail(StoreError::Replaced);
        lease::revoke(&self.shared, *self.lease.lock().await).await;
    }

    /// Writes the key, on these conditions. `None`: they don't hold.
    async fn write(
        &self,
        compare: Vec<Compare>,
        also: Option<Op>,
        text: Vec<u8>,
        lease: i64,
    ) -> Result<Option<Vec<Seated>>, Trouble> {
        let layout = &self.shared.layout;
        let (key, range_end) = layout.members();
        let all = RangeRequest { key, range_end, ..RangeRequest::default() };
        // Before anything is written to it.
        let clock =
            Op { request: Some(Request::Range(RangeRequest { key: layout.clock(), ..RangeRequest::default() })) };
        let mut success = vec![clock, put(layout.member(self.id), text, lease)];
        success.extend(also);
        success.push(Op { request: Some(Request::Range(all)) });
        let request = TxnRequest { compare, success, failure: vec![] };
        let answer: TxnResponse = self.shared.endpoints.write(TXN, request).await?;
        let found = answer.responses.into_iter().filter_map(|response| response.range).flat_map(|range| range.kvs);
        let seated = found.filter_map(|kv| match layout.named(&kv.key) {
            _ if kv.key == layout.clock() => {
                let running = layout.clock_from(&kv).unwrap_or_default();
                self.running.fetch_max(running.0, Ordering::AcqRel);
                None
            }
            Named::Member(id) => Some(Seated { id: id.parse().ok()?, since: kv.create_revision, text: kv.value }),
            _ => None,
        });
        let seated: Vec<_> = seated.collect();
        if !answer.succeeded {
            return Ok(None);
        }
        self.shared.right.send_replace(Some(Right::Place { member: self.id, lease }));
        Ok(Some(seated))
    }
}
