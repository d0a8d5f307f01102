//! What happens, as server-sent events.

mod news;

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
use mesh_model::Via;
use mesh_proto::Revision;
use tokio::{sync::watch, time::sleep};
use utoipa_axum::{router::OpenApiRouter, routes};

use self::news::News;
use super::{
    Api,
    asked::{self, Asked},
    auth::Administrator,
    failure::Refused,
};
use crate::{
    api::EventsQuery,
    coordinator::{Coordinator, Core},
    places::Place,
};

/// How many administrators with one token, or one user of the socket, may follow at once.
const FOLLOWERS: usize = 16;
/// The least time between two looks at the state for one follower.
const APART: Duration = Duration::from_millis(100);

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(events))
}

/// Follows what happens: the kinds of events that are asked for, and `resync` where everything has to be read again
#[utoipa::path(
    get, path = "/events",
    params(
        EventsQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event that has arrived")
    ),
    responses((status = 200, content_type = "text/event-stream", body = String))
)]
async fn events(
    State(api): State<Api>,
    Administrator { by, coordinator }: Administrator,
    place: Option<Extension<Place>>,
    headers: HeaderMap,
    query: Asked<EventsQuery>,
) -> Result<Response, Refused> {
    let hint = "known are change, audit, node, instance, trust-applied and telemetry, with commas between";
    let kinds = asked::query(query, hint)?.kinds();
    let kinds = kinds.map_err(|kind| {
        Refused::new(StatusCode::BAD_REQUEST, format!("`{}` is no kind of event", kind.escape_debug()), hint)
    })?;
    let seat = api.followers.enter(by.via)?;
    let place = place.map(|Extension(place)| place);
    if let Some(place) = &place {
        place.begin();
    }
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let begin = |core: &mut Core| (core.events.follow(), core.events.moved_since(0).0);
    let (latest, moves) = coordinator.visit(begin).await?;
    let news = News::new(coordinator.clone(), by, kinds, (last.map(Revision), moves));
    let follower = Follower { coordinator, news, latest, place, is_new: true, _seat: seat };
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
    news: News,
    latest: watch::Receiver<Revision>,
    place: Option<Place>,
    /// Whether it has not been looked after yet.
    is_new: bool,
    _seat: Seat,
}

impl Follower {
    /// The next piece of its stream, a comment if nothing has happened; `None` at its end.
    async fn next(&mut self) -> Option<Bytes> {
        if !std::mem::take(&mut self.is_new) {
            self.wait().await?;
        }
        self.latest.borrow_and_update();
        let text = self.news.look().await?;
        Some(if text.is_empty() { Bytes::from_static(b":\n\n") } else { text.into() })
    }

    /// Waits until something may have happened; `None` if it may not follow any longer.
    async fn wait(&mut self) -> Option<()> {
        let place = self.place.clone();
        let lost = async {
            match place {
                Some(place) => place.lost().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = self.latest.changed() => changed.ok()?,
            () = sleep(self.news.patience()) => {}
            () = lost => return None,
        }
        // What happens meanwhile comes at once.
        sleep(APART).await;
        (!*self.coordinator.is_cut_off().borrow()).then_some(())
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
