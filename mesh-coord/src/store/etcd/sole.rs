//! The right to use the records alone, by the key `active`: `mesh-coord migrate` has it, and so had each coordinator of
//! the versions before several could serve at once. Coordinators that serve together keep the key too, without a lease
//! and under a name of their own, so that none of those begins.

use std::{sync::Arc, time::Duration};

use mesh_several::right::Right;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracing::{debug, info};

use super::{
    Shared,
    client::Trouble,
    layout::{Span, put},
    lease::{BEAT, grant, keep, revoke},
    right::{is_deserted, is_held, is_open},
    wire::{Compare, KeyValue, RANGE, RangeRequest, RangeResponse, TXN, TxnRequest, TxnResponse},
};
use crate::store::StoreError;

/// How long the right of a holder that has just broken down is waited for.
const WAIT: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(250);

/// Who uses the records, as others are told.
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

/// Reads the key.
async fn read(shared: &Shared) -> Result<Option<KeyValue>, Trouble> {
    first(shared, (shared.layout.active(), vec![])).await
}

/// Reads the first key of a span.
async fn first(shared: &Shared, (key, range_end): Span) -> Result<Option<KeyValue>, Trouble> {
    let request = RangeRequest { key, range_end, limit: 1, revision: 0 };
    let answer: RangeResponse = shared.endpoints.read(RANGE, request).await?;
    Ok(answer.kvs.into_iter().next())
}

/// Takes the right. Those who broke down are waited for.
///
/// # Errors
/// [`StoreError::Held`] if another one keeps it, [`StoreError::InUse`] if coordinators serve.
pub(super) async fn take(shared: &Shared, holder: &Holder) -> Result<Right, StoreError> {
    let value = serde_json::to_vec(holder).map_err(|error| StoreError::Failed(error.to_string()))?;
    let lease = grant(shared).await.map_err(Trouble::of_read)?;
    let (right, key, began) = (Right::Alone { lease }, shared.layout.active(), Instant::now());
    loop {
        let active = read(shared).await.map_err(Trouble::of_read)?;
        let member = first(shared, shared.layout.members()).await.map_err(Trouble::of_read)?;
        if is_held(right, active.as_ref()) {
            return Ok(right);
        }
        if let Some(is_open) = is_open(&shared.layout, active.as_ref()).filter(|_| member.is_none()) {
            let compare = vec![is_open, is_deserted(&shared.layout)];
            let request =
                TxnRequest { compare, success: vec![put(key.clone(), value.clone(), lease)], failure: vec![] };
            match shared.endpoints.write::<_, TxnResponse>(TXN, request).await {
                Ok(answer) if answer.succeeded => return Ok(right),
                // Without an answer it may be ours, which the next look tells.
                Ok(_) | Err(Trouble::Unanswered(_)) => {}
                Err(trouble) => return Err(trouble.of_read()),
            }
        } else if began.elapsed() >= WAIT {
            revoke(shared, lease).await;
            return Err(match member {
                Some(member) => StoreError::InUse(described(&member)),
                None => StoreError::Held(active.as_ref().map(described).unwrap_or_default()),
            });
        }
        keep(shared, lease).await.ok();
        sleep(LOOK).await;
    }
}

/// Waits until no one has the records alone. Returns the condition for that.
///
/// # Errors
/// [`StoreError::Held`] if someone keeps them.
pub(super) async fn wait_until_open(shared: &Shared) -> Result<(Compare, Option<KeyValue>), StoreError> {
    let began = Instant::now();
    let mut is_told = false;
    loop {
        let active = read(shared).await.map_err(Trouble::of_read)?;
        if let Some(is_open) = is_open(&shared.layout, active.as_ref()) {
            return Ok((is_open, active));
        }
        let holder = active.as_ref().map(described).unwrap_or_default();
        if began.elapsed() >= WAIT {
            return Err(StoreError::Held(holder));
        }
        if !std::mem::replace(&mut is_told, true) {
            info!(holder, "the records are used by one that serves alone, or were a moment ago: waiting");
        }
        sleep(LOOK).await;
    }
}

fn described(kv: &KeyValue) -> String {
    let Ok(Holder { host, urls, .. }) = serde_json::from_slice(&kv.value) else {
        return "another coordinator".to_owned();
    };
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
        let kept = keep(&shared, right.lease()).await;
        debug!(?kept, "a sign of life");
        // etcd may say so of a lease that has ended, and the key may be gone before its lease: the key counts.
        if let Ok(active) = read(&shared).await
            && !is_held(right, active.as_ref())
        {
            shared.fail(StoreError::Replaced);
            return;
        }
    }
}

/// Lets others have it at once.
pub(super) async fn release(shared: &Shared, right: Right) {
    revoke(shared, right.lease()).await;
}
