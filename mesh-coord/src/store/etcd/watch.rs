//! Follows the commits of all coordinators.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use tokio::time::sleep;
use tonic::Streaming;
use tracing::{debug, info};

use super::{
    Shared,
    client::{Trouble, end_of},
    endpoints::Connection,
    events::{Told, What, commits},
    load,
    wire::{WATCH, WatchCreate, WatchRequest, WatchResponse},
};
use crate::store::StoreError;

/// The pause before etcd is tried again.
const RETRY: Duration = Duration::from_millis(250);
/// How long the begin of a watch may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a watch has ended.
enum End {
    /// It can go on, maybe at another member.
    Broken(Trouble),
    /// Another member is used now.
    Moved,
    /// Commits may be missing up to now.
    Gap,
    /// The store is of no more use.
    Lost(StoreError),
}

impl From<Trouble> for End {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Compacted => Self::Gap,
            other => Self::Broken(other),
        }
    }
}

impl From<StoreError> for End {
    fn from(error: StoreError) -> Self {
        Self::Lost(error)
    }
}

/// Passes all commits on after etcd's revision `from`, until the store is dropped.
pub(super) async fn follow(shared: Arc<Shared>, mut from: i64) {
    let mut was_broken = false;
    loop {
        let Err(end) = follow_once(&shared, &mut from, &mut was_broken).await;
        match end {
            End::Moved => {}
            End::Broken(trouble) => {
                if !was_broken {
                    info!(?trouble, "etcd's watch has ended; it is begun again");
                }
                was_broken = true;
                sleep(RETRY).await;
            }
            End::Gap => match load::head(&shared.endpoints, &shared.layout).await {
                Ok((head, at)) => {
                    info!("etcd has told less than there is: all of it is read");
                    if let Some(error) = head.and_then(|head| shared.advance(&head, None).err()) {
                        shared.fail(error);
                        return;
                    }
                    from = at;
                }
                Err(_) => sleep(RETRY).await,
            },
            End::Lost(error) => {
                shared.fail(error);
                return;
            }
        }
    }
}

enum Never {}

async fn follow_once(shared: &Shared, from: &mut i64, was_broken: &mut bool) -> Result<Never, End> {
    let connection = shared.endpoints.connect().await?;
    let mut turns = shared.endpoints.turns();
    let mut watch = match begin(shared, &connection, *from).await {
        Ok(watch) => watch,
        Err(trouble) => {
            shared.endpoints.failed(&connection).await;
            return Err(trouble.into());
        }
    };
    loop {
        let message = tokio::select! {
            message = watch.next() => message,
            changed = turns.changed() => {
                debug!(?changed, "another of etcd's members is used");
                return Err(End::Moved);
            }
            () = shared.behind.notified() => {
                shared.endpoints.failed(&connection).await;
                return Err(End::Gap);
            }
        };
        match message {
            Some(Ok(message)) => {
                if std::mem::take(was_broken) {
                    info!("etcd's watch goes on");
                }
                take(shared, &message, from).await?;
            }
            Some(Err(status)) => {
                shared.endpoints.failed(&connection).await;
                return Err(end_of(&status).into());
            }
            None => return Err(End::Broken(Trouble::Unanswered("the stream has ended".to_owned()))),
        }
    }
}

async fn begin(shared: &Shared, connection: &Connection, from: i64) -> Result<Streaming<WatchResponse>, Trouble> {
    let (key, range_end) = shared.layout.everything();
    let create = WatchCreate { key, range_end, start_revision: from + 1 };
    // The end of the requests would end the watch.
    let requests = stream::iter([WatchRequest { create: Some(create) }]).chain(stream::pending());
    connection.client.stream(WATCH, requests, PATIENCE).await
}

/// Passes on what a message tells.
async fn take(shared: &Shared, message: &WatchResponse, from: &mut i64) -> Result<(), End> {
    if message.compact_revision > 0 {
        return Err(End::Gap);
    }
    if message.canceled {
        let reason = message.cancel_reason.clone();
        return Err(End::Broken(Trouble::Unanswered(format!("etcd has ended the watch: {reason}"))));
    }
    for told in commits(&shared.layout, &message.events)? {
        pass_on(shared, told).await?;
    }
    let last = message.events.iter().filter_map(|event| event.kv.as_ref()).map(|kv| kv.mod_revision).max();
    *from = last.map_or(*from, |last| last.max(*from));
    Ok(())
}

async fn pass_on(shared: &Shared, Told { known, what }: Told) -> Result<(), End> {
    if !shared.is_news(&known) {
        return Ok(());
    }
    let texts = match what {
        What::Whole(texts) => texts,
        What::Lost => return Err(End::Gap),
        What::InParts => {
            let parts = load::parts(&shared.endpoints, &shared.layout, &known, known.at).await?;
            let mut texts = super::layout::Texts::default();
            texts.0.extend(parts.into_iter().flat_map(|part| part.0));
            if !known.top.is_of(&texts) {
                return Err(End::Gap);
            }
            texts
        }
    };
    let changes = texts.changes()?;
    Ok(shared.advance(&known, Some(changes.into()))?)
}
