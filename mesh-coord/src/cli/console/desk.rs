//! How sessions begin and are found: by a link that works once, or by signing in with an admin token.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use axum::{
    Form, Router,
    body::{Body, Bytes},
    extract::{FromRequest as _, Request},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{Html, IntoResponse as _, Response},
};
use mesh_console::{SIGN_IN_PATH, model::Me};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::{
    asker::{Shelf, go_to},
    checks::Shown,
    sessions::{Id, Random, Sessions},
    way::Token,
};
use crate::{cli::client::Reach, random};

/// The way in.
pub(super) struct Desk {
    pub(super) sessions: Mutex<Sessions<Held>>,
    pub(super) entry: Entry,
    /// Cookies ignore ports: each console has a name of its own.
    pub(super) cookie: String,
    /// Which mesh it is, in words.
    pub(super) mesh: Arc<str>,
    /// Whether a `Host` is this console's.
    pub(super) is_own: Box<dyn Fn(&str) -> bool + Send + Sync>,
}

/// How a session begins.
pub(super) enum Entry {
    /// By a link that works once; without TLS, on loopback.
    Link {
        /// The link's key, until it is used.
        key: Mutex<Option<Random>>,
        reach: Reach,
        who: Arc<Me>,
    },
    /// By an admin token; with TLS.
    Token {
        /// The coordinator's own routes.
        api: Router,
    },
}

/// What a session holds.
#[derive(Clone, Default)]
pub(super) struct Held {
    /// The token that has begun it.
    pub(super) token: Option<Token>,
    pub(super) shelf: Shelf,
}

/// A session that was found.
pub(super) struct Found {
    pub(super) id: Id,
    pub(super) proof: Random,
    pub(super) held: Held,
}

impl Desk {
    pub(super) fn lock(&self) -> MutexGuard<'_, Sessions<Held>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of its URLs.
    pub(super) const fn scheme(&self) -> &'static str {
        match self.entry {
            Entry::Link { .. } => "http",
            Entry::Token { .. } => "https",
        }
    }

    /// Begins a session with a new cookie, whatever the browser has shown, and ends the one that it had.
    pub(super) fn begin(&self, shown: Shown<'_>, (owner, held): (u64, Held), now: Instant) -> Result<Response> {
        let (cookie, proof) = (String::from(random::secret()?.hash()), random::secret()?.hash());
        let mut sessions = self.lock();
        if let Some(id) = sessions.find(shown.values(&self.cookie), now.into_std()).map(|(id, _)| id) {
            sessions.close(id);
        }
        sessions.open(&cookie, proof, (owner, held), now.into_std());
        drop(sessions);
        let mut response = go_to("/");
        let cookie = HeaderValue::from_str(&self.set_cookie(&cookie))?;
        response.headers_mut().insert(header::SET_COOKIE, cookie);
        Ok(response)
    }

    fn set_cookie(&self, value: &str) -> String {
        let secure = if matches!(self.entry, Entry::Token { .. }) { "; Secure" } else { "" };
        format!("{}={value}{secure}; HttpOnly; SameSite=Strict; Path=/", self.cookie)
    }

    /// The session of a request.
    pub(super) fn found(&self, shown: Shown<'_>) -> Option<Found> {
        let mut sessions = self.lock();
        let (id, session) = sessions.find(shown.values(&self.cookie), Instant::now().into_std())?;
        Some(Found { id, proof: session.proof.clone(), held: session.held.clone() })
    }

    /// The answer to a request without a session.
    pub(super) fn stranger(&self, shown: Shown<'_>) -> Response {
        match self.entry {
            Entry::Link { .. } => refused(
                StatusCode::UNAUTHORIZED,
                "open the link that `mesh-coord console` has printed; it works once, so start it again for another browser",
            ),
            Entry::Token { .. } if shown.is_visit() => go_to(SIGN_IN_PATH),
            Entry::Token { .. } => refused(StatusCode::UNAUTHORIZED, "sign in"),
        }
    }
}

/// Reads a form.
pub(super) async fn form<T: DeserializeOwned>(headers: &HeaderMap, body: &Bytes) -> Option<T> {
    let mut request = Request::new(Body::from(body.clone()));
    *request.method_mut() = Method::POST;
    if let Some(kind) = headers.get(header::CONTENT_TYPE) {
        request.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
    }
    Form::<T>::from_request(request, &()).await.ok().map(|Form(form)| form)
}

pub(super) fn refused(status: StatusCode, text: &str) -> Response {
    (status, Html(mesh_console::closed(text).into_string())).into_response()
}

pub(super) fn broken(error: &anyhow::Error) -> Response {
    refused(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error:#}"))
}
