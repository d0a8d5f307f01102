//! The right to coordinate: one coordinator at a time, by a key that goes with its lease. Each of its commits has the key
//! as a condition, so that none comes after another coordinator has begun.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tracing::{debug, info};

use super::{
    Shared,
    client::Trouble,
    layout::{Layout, put},
    wire::{
        Against, BY_LEASE, BY_VERSION, Compare, KeyValue, LEASE_GRANT, LEASE_KEEP_ALIVE, LEASE_REVOKE, Lease,
        LeaseGrantRequest, LeaseId, Nothing, Op, RANGE, RangeRequest, RangeResponse, Request, TXN, TxnRequest,
        TxnResponse,
    },
};
use crate::store::StoreError;

/// How long the right outlasts its holder, in seconds.
const TTL: i64 = 6;
/// The pause between signs of life.
const BEAT: Duration = Duration::from_millis(1500);
/// How long a sign of life may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the right of a holder that has just broken down is waited for.
const WAIT: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(250);

/// Who has the right, as others are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    /// The name of its machine.
    pub(crate) host: String,
    /// Its URLs.
    #[serde(default)]
    pub(crate) urls: Vec<String>,
    /// Its version.
    pub(crate) version: String,
}

/// A lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Right {
    lease: i64,
}

/// That no other coordinator has got the right since.
pub(super) fn fence(layout: &Layout, right: Right) -> Compare {
    Compare { result: 0, target: BY_LEASE, key: layout.active(), against: Some(Against::Lease(right.lease)) }
}

/// The step that reads who has the right.
pub(super) fn look(layout: &Layout) -> Op {
    Op { request: Some(Request::Range(RangeRequest { key: layout.active(), ..RangeRequest::default() })) }
}

/// Whether what was read is this right.
pub(super) fn is_held(right: Right, found: Option<&KeyValue>) -> bool {
    found.is_some_and(|kv| kv.lease == right.lease)
}

/// Takes the right. That of a holder which broke down is waited for.
///
/// # Errors
/// [`StoreError::Held`] if another coordinator keeps it.
pub(super) async fn take(shared: &Shared, holder: &Holder) -> Result<Right, StoreError> {
    let value = serde_json::to_vec(holder).map_err(|error| StoreError::Failed(error.to_string()))?;
    let granted = shared.endpoints.write(LEASE_GRANT, LeaseGrantRequest { ttl: TTL }).await;
    let Lease { id: lease, .. } = granted.map_err(Trouble::of_read)?;
    let (right, key) = (Right { lease }, shared.layout.active());
    let is_free = Compare { result: 0, target: BY_VERSION, key: key.clone(), against: Some(Against::Version(0)) };
    let (success, failure) = (vec![put(key, value, lease)], vec![look(&shared.layout)]);
    let request = TxnRequest { compare: vec![is_free], success, failure };
    let began = Instant::now();
    let mut is_told = false;
    loop {
        // Without an answer it may be ours.
        let answer: TxnResponse = match shared.endpoints.write(TXN, request.clone()).await {
            Err(Trouble::Unanswered(_)) if began.elapsed() < WAIT => continue,
            answer => answer.map_err(Trouble::of_read)?,
        };
        let found = answer.responses.iter().filter_map(|r| r.range.as_ref()).flat_map(|range| &range.kvs).next();
        if answer.succeeded || is_held(right, found) {
            return Ok(right);
        }
        let holder = found.and_then(|kv| serde_json::from_slice(&kv.value).ok());
        if began.elapsed() >= WAIT {
            release(shared, right).await;
            return Err(StoreError::Held(holder.map_or_else(|| "another coordinator".to_owned(), described)));
        }
        if let Some(holder) = holder.filter(|_| !std::mem::replace(&mut is_told, true)) {
            info!(holder = described(holder), "another coordinator has this mesh, or had it a moment ago: waiting");
        }
        keep(shared, right).await.ok();
        sleep(LOOK).await;
    }
}

fn described(Holder { host, urls, .. }: Holder) -> String {
    // Another coordinator has written it.
    let clean = |text: &str| text.chars().filter(|c| !c.is_control()).take(200).collect::<String>();
    match urls.first() {
        Some(url) => format!("the coordinator on {} ({})", clean(&host), clean(url)),
        None => format!("the coordinator on {}", clean(&host)),
    }
}

/// Keeps the right until the store is dropped, or the right is lost.
pub(super) async fn hold(shared: Arc<Shared>, right: Right) {
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let kept = keep(&shared, right).await;
        debug!(?kept, "a sign of life");
        // etcd may say so of a lease that has ended, and the key may be gone before its lease: the key counts.
        if is_still_held(&shared, right).await == Ok(false) {
            shared.fail(StoreError::Replaced);
            return;
        }
    }
}

/// Sends a sign of life. Returns whether the lease goes on.
async fn keep(shared: &Shared, right: Right) -> Result<bool, Trouble> {
    let connection = shared.endpoints.connect().await?;
    let requests = stream::iter([LeaseId { id: right.lease }]).chain(stream::pending());
    let answer = async {
        let mut answers = connection.client.stream::<_, Lease>(LEASE_KEEP_ALIVE, requests, PATIENCE).await?;
        match answers.next().await {
            Some(Ok(lease)) => Ok(lease.ttl > 0),
            other => Err(Trouble::Unanswered(format!("{other:?}"))),
        }
    };
    let answer = timeout(PATIENCE, answer).await.unwrap_or_else(|_| Err(Trouble::Unanswered(String::new())));
    if answer.is_err() {
        shared.endpoints.failed(&connection).await;
    }
    answer
}

async fn is_still_held(shared: &Shared, right: Right) -> Result<bool, Trouble> {
    let request = RangeRequest { key: shared.layout.active(), ..RangeRequest::default() };
    let answer: RangeResponse = shared.endpoints.read(RANGE, request).await?;
    Ok(is_held(right, answer.kvs.first()))
}

/// Lets another coordinator have it at once.
pub(super) async fn release(shared: &Shared, right: Right) {
    let revoke = shared.endpoints.write::<_, Nothing>(LEASE_REVOKE, LeaseId { id: right.lease });
    let released = timeout(PATIENCE, revoke).await;
    debug!(?released, "the right to coordinate was put down");
}
