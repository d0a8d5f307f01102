//! Lets etcd forget what is older than ten minutes, or it fills up: by default it never does by itself.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tracing::debug;

use super::{
    Shared, load,
    wire::{COMPACT, CompactRequest, Nothing},
};

/// How long etcd remembers. A coordinator that was away for longer reads everything anew.
const MEMORY: Duration = Duration::from_secs(600);

/// Does so until the store is dropped.
pub(super) async fn forget(shared: Arc<Shared>) {
    let mut old = None;
    loop {
        let now = load::head(&shared.endpoints, &shared.layout).await.map(|(_, at)| at);
        if let (Some(revision), Ok(_)) = (old, &now) {
            let done = shared.endpoints.write::<_, Nothing>(COMPACT, CompactRequest { revision }).await;
            // What was not forgotten now is the next time.
            debug!(revision, ?done, "etcd's history was shortened");
        }
        old = now.ok().or(old);
        sleep(MEMORY).await;
    }
}
