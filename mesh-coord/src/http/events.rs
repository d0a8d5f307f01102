//! What changes, as it happens: server-sent events.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Extension,
    body::{Body, Bytes},
    extract::State,
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse as _, Response},
};
use futures_util::stream;
use mesh_model::{Admin, Via};
use mesh_proto::Revision;
use tokio::{sync::watch, time::sleep};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Api, auth::Administrator, failure::Refused};
use crate::{
    api::Happened,
    coordinator::{Coordinator, Core, Failure, Since},
    places::Place,
};

/// How many administrators with one token, or one user of the socket, may follow at once.
const FOLLOWERS: usize = 16;
/// How often a follower is looked after while nothing happens.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// The least time between two looks at the state for one follower.
const APART: Duration = Duration::from_millis(100);

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(events))
}

/// Follows what changes: events `change`, and `resync` where everything has to be read again
#[utoipa::path(
    get, path = "/events",
    params(("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event that has arrived")),
    responses((status = 200, content_type = "text/event-stream", body = String))
)]
async fn events(
    State(api): State<Api>,
    Administrator { by, coordinator }: Administrator,
    place: Option<Extension<Place>>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let seat = api.followers.enter(by.via)?;
    let place = place.map(|Extension(place)| place);
    if let Some(place) = &place {
        place.begin();
    }
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let latest = coordinator.visit(|core| core.events.follow()).await?;
    let follower = Follower { coordinator, by, at: last.map(Revision), latest, place, is_new: true, _seat: seat };
    let pieces = stream::unfold(follower, |mut follower| async move {
        let piece = follower.next().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), follower))
    });
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((StatusCode::OK, headers, Body::from_stream(pieces)).into_response())
}

/// An administrator who follows.
struct Follower {
    coordinator: Coordinator,
    by: Admin,
    /// What it has been told up to; `None`: nothing yet.
    at: Option<Revision>,
    latest: watch::Receiver<Revision>,
    place: Option<Place>,
    /// Whether it has not been looked after yet.
    is_new: bool,
    _seat: Seat,
}

impl Follower {
    /// The next piece of its stream; `None` at its end.
    async fn next(&mut self) -> Option<Bytes> {
        if std::mem::take(&mut self.is_new) {
            return self.look().await;
        }
        let place = self.place.clone();
        let lost = async {
            match place {
                Some(place) => place.lost().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = self.latest.changed() => changed.ok()?,
            () = sleep(HEARTBEAT) => {}
            () = lost => return None,
        }
        // What is committed meanwhile comes at once.
        sleep(APART).await;
        if *self.coordinator.is_cut_off().borrow() {
            return None;
        }
        self.look().await
    }

    /// What has happened since; a comment if nothing has. `None` if it may not follow any longer.
    async fn look(&mut self) -> Option<Bytes> {
        self.latest.borrow_and_update();
        let (by, at, now) = (self.by.clone(), self.at, self.coordinator.now());
        let look = move |core: &mut Core| {
            core.state.is_still(&by, now).then(|| {
                let since = at.map_or(Since::Gap, |at| core.events.since(at));
                (core.state.revision(), told(core, &by, since))
            })
        };
        let seen: Result<Option<(Revision, Vec<Happened>)>, Failure> = self.coordinator.visit(look).await;
        let (revision, told) = seen.ok()??;
        self.at = Some(revision);
        let text: String = told.iter().map(Happened::text).collect();
        Some(if text.is_empty() { Bytes::from_static(b":\n\n") } else { text.into() })
    }
}

/// What the reader is told.
fn told(core: &Core, by: &Admin, since: Since) -> Vec<Happened> {
    match since {
        Since::Gap => vec![Happened::Resync { revision: core.state.revision() }],
        Since::Events(events) => events.iter().filter_map(|event| Happened::of(core, by, event)).collect(),
    }
}

/// Who follows.
#[derive(Debug, Clone, Default)]
pub(super) struct Followers(Arc<Mutex<HashMap<Via, usize>>>);

/// The place of a follower, free again when it is dropped.
struct Seat {
    followers: Followers,
    via: Via,
}

impl Followers {
    fn enter(&self, via: Via) -> Result<Seat, Refused> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = all.entry(via).or_default();
        if *own >= FOLLOWERS {
            let error = format!("{FOLLOWERS} follow with this token already, as many as may");
            return Err(Refused::new(StatusCode::TOO_MANY_REQUESTS, error, "end one, or use another token"));
        }
        *own += 1;
        drop(all);
        Ok(Seat { followers: self.clone(), via })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut all = self.followers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = all.get_mut(&self.via) {
            *own -= 1;
            if *own == 0 {
                all.remove(&self.via);
            }
        }
    }
}

#[cfg(test)]
mod tests;
