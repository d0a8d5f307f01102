//! Leases: keys under one go with it, when no sign of life comes for a while.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::time::timeout;
use tracing::debug;

use super::{
    Shared,
    client::Trouble,
    wire::{LEASE_GRANT, LEASE_KEEP_ALIVE, LEASE_REVOKE, Lease, LeaseGrantRequest, LeaseId, Nothing},
};

/// How long a lease outlasts its last sign of life, in seconds.
const TTL: i64 = 6;
/// The pause between signs of life.
pub(crate) const BEAT: Duration = Duration::from_millis(1500);
/// How long a sign of life may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// A new lease.
pub(super) async fn grant(shared: &Shared) -> Result<i64, Trouble> {
    let granted: Lease = shared.endpoints.write(LEASE_GRANT, LeaseGrantRequest { ttl: TTL }).await?;
    Ok(granted.id)
}

/// Sends a sign of life. Returns whether the lease goes on.
pub(super) async fn keep(shared: &Shared, id: i64) -> Result<bool, Trouble> {
    let connection = shared.endpoints.connect().await?;
    let requests = stream::iter([LeaseId { id }]).chain(stream::pending());
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

/// Ends a lease, and its keys with it.
pub(super) async fn revoke(shared: &Shared, id: i64) {
    let revoked = timeout(PATIENCE, shared.endpoints.write::<_, Nothing>(LEASE_REVOKE, LeaseId { id })).await;
    debug!(?revoked, "a lease was put down");
}
