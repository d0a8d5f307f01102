//! Who looks at a page: by which way its answers come, and what the session keeps.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Error, Result};
use axum::{
    http::{StatusCode, header},
    response::{Html, IntoResponse as _, Response},
};
use mesh_console::{
    Frame, Markup, Notice,
    model::{Me, Series},
};
use mesh_proto::message::Refusal;
use serde::de::DeserializeOwned;

use super::way::Way;
use crate::{
    api,
    cli::{
        client::escaped,
        output::{Refused, hint},
        token::Line,
    },
};

/// What the next page that is visited tells once.
pub(super) enum News {
    /// What was done.
    Done(Notice),
    /// The token that was made, with the line to type.
    Made(Box<(api::NewToken, Option<Line>)>),
}

/// The place for news in a session.
pub(super) type Shelf = Arc<Mutex<Option<News>>>;

/// The one who looks, as the gate has found.
#[derive(Clone)]
pub(super) struct Asker {
    pub(super) way: Way,
    /// Which mesh it is, in words.
    pub(super) mesh: Arc<str>,
    pub(super) who: Arc<Me>,
    /// What forms have to hold.
    pub(super) proof: Arc<str>,
    pub(super) signed_in: bool,
    pub(super) shelf: Shelf,
    /// Whether a person has asked for the page, and not the script.
    pub(super) is_visit: bool,
}

/// What isn't there.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct Missing(Refused);

impl Missing {
    pub(super) fn new(what: &str, name: &str) -> Self {
        let hint = "it may be gone, or another team's: the lists have all that you see";
        Self(Refused(Refusal::new(format!("there is no {what} `{name}`"), hint)))
    }
}

impl Asker {
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.way.get(path).await
    }

    /// What runners report; `None` if they don't report to this coordinator.
    pub(super) async fn reported<T: DeserializeOwned>(&self, path: &str) -> Option<T> {
        self.get(path).await.ok()
    }

    /// What has passed between a service and others by the hour; `None` from an earlier coordinator.
    pub(super) async fn series(&self, service: &str) -> Option<Series> {
        let end = async |end: &str| self.reported::<Series>(&format!("edges/series?{end}={}", escaped(service))).await;
        let mut all = end("from").await?;
        all.series.extend(end("to").await?.series);
        Some(all)
    }

    /// Keeps news for the next page.
    pub(super) fn tell(&self, news: News) {
        *self.shelf.lock().unwrap_or_else(PoisonError::into_inner) = Some(news);
    }

    /// Takes news of one kind; others stay.
    pub(super) fn take<T>(&self, read: impl FnOnce(News) -> Result<T, News>) -> Option<T> {
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        match read(shelf.take()?) {
            Ok(taken) => Some(taken),
            Err(other) => {
                *shelf = Some(other);
                None
            }
        }
    }

    /// A page, or why there is none.
    pub(super) fn page(&self, path: &str, page: impl FnOnce(&Frame<'_>) -> Result<Markup>) -> Response {
        let notice = if self.is_visit { self.notice() } else { None };
        let frame = Frame {
            path,
            mesh: &self.mesh,
            who: &self.who,
            proof: &self.proof,
            signed_in: self.signed_in,
            notice: notice.as_ref(),
        };
        let (status, page) = match page(&frame) {
            Ok(page) => (StatusCode::OK, page),
            Err(error) => {
                let status = match () {
                    () if error.is::<Missing>() => StatusCode::NOT_FOUND,
                    () if error.is::<Refused>() => StatusCode::FORBIDDEN,
                    () => StatusCode::BAD_GATEWAY,
                };
                let (error, hint) = told(&error);
                (status, mesh_console::failure(&frame, &error, hint.as_deref()))
            }
        };
        (status, Html(page.into_string())).into_response()
    }

    fn notice(&self) -> Option<Notice> {
        self.take(|news| match news {
            News::Done(notice) => Ok(notice),
            other @ News::Made(_) => Err(other),
        })
    }
}

/// An error and what to try next.
pub(super) fn told(error: &Error) -> (String, Option<String>) {
    let missing = error.downcast_ref::<Missing>().and_then(|missing| missing.0.0.hint.as_deref());
    (format!("{error:#}"), missing.or_else(|| hint(error)).map(ToOwned::to_owned))
}

/// Where to go after a form (RFC 9110 §15.4.4).
pub(super) fn go_to(path: &str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, path)]).into_response()
}
