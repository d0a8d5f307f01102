//! How a console asks its coordinator, and for whom.

use std::{fmt, sync::Arc};

use anyhow::{Context as _, Result};
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{
        Request,
        header::{AUTHORIZATION, CONTENT_TYPE},
        request::Parts,
    },
};
use mesh_link::{Method, RequestError};
use mesh_model::{AdminCommand, Outcome};
use mesh_proto::message::Refusal;
use serde::{Serialize, de::DeserializeOwned};
use tower::ServiceExt as _;
use zeroize::Zeroizing;

use crate::{
    api::{Done, NewToken, Previewed, WhyQuery},
    cli::client::{Aim, Reach, shown},
    http::server::Origin,
    places::Place,
};

/// The largest answer, in bytes.
const MOST: usize = 64 << 20;

/// A way to the coordinator.
#[derive(Clone)]
pub(super) enum Way {
    /// As the other commands go, with the rights of the console's own process.
    Reach(Reach),
    /// Within the coordinator's process, with the rights of a token.
    Inside(Inside),
}

/// The text of an admin token, in a session.
#[derive(Clone)]
pub(super) struct Token(Arc<Zeroizing<String>>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    pub(super) fn new(text: Zeroizing<String>) -> Self {
        Self(Arc::new(text))
    }

    /// The way on for this request; `None`: a request from nowhere.
    pub(super) fn inside(&self, api: &Router, parts: &Parts) -> Option<Inside> {
        let origin = parts.extensions.get::<Origin>().copied()?;
        let place = parts.extensions.get::<Place>().cloned();
        Some(Inside { router: api.clone(), token: self.clone(), origin, place })
    }
}

/// A request that has come to the coordinator's console, and with which token it goes on.
#[derive(Clone)]
pub(super) struct Inside {
    /// The coordinator's own routes: they know the rights, the limits, and the brake for wrong tokens.
    router: Router,
    token: Token,
    origin: Origin,
    place: Option<Place>,
}

impl Way {
    /// Reads.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        match self {
            Self::Reach(reach) => reach.get(path).await,
            Self::Inside(inside) => {
                let answer = inside.ask(Method::GET, path, None::<&()>).await;
                answer.map_err(|error| shown(error, Aim::Read))
            }
        }
    }

    /// What a command would do.
    pub(super) async fn try_out(&self, command: &AdminCommand) -> Result<Previewed> {
        match self {
            Self::Reach(reach) => reach.try_out("preview", command).await,
            Self::Inside(inside) => {
                let answer = inside.ask(Method::POST, "preview", Some(command)).await;
                answer.map_err(|error| shown(error, Aim::Read))
            }
        }
    }

    /// Carries out a command.
    pub(super) async fn order(&self, command: &AdminCommand) -> Result<Outcome> {
        match self {
            Self::Reach(reach) => reach.order(command, Some).await,
            Self::Inside(inside) => {
                let done = inside.ask::<Done>(Method::POST, "command", Some(command)).await;
                done.map(|done| done.outcome).map_err(|error| shown(error, Aim::Change))
            }
        }
    }

    /// Has a runner try a connection.
    pub(super) async fn probe(&self, what: &WhyQuery) -> Result<mesh_console::model::Why> {
        match self {
            Self::Reach(reach) => reach.request(Method::POST, "probe", Some(what)).await,
            Self::Inside(inside) => {
                let tried = inside.ask(Method::POST, "probe", Some(what)).await;
                tried.map_err(|error| shown(error, Aim::Read))
            }
        }
    }

    /// Makes a token.
    pub(super) async fn make(&self, wish: &mesh_model::NewToken) -> Result<NewToken> {
        match self {
            Self::Reach(reach) => reach.request(Method::POST, "tokens", Some(wish)).await,
            Self::Inside(inside) => {
                let made = inside.ask(Method::POST, "tokens", Some(wish)).await;
                made.map_err(|error| shown(error, Aim::Change))
            }
        }
    }

    /// The URL at which the coordinator was reached, if it was by one.
    pub(super) fn url(&self) -> Option<String> {
        match self {
            Self::Reach(reach) => reach.url(),
            Self::Inside(_) => None,
        }
    }
}

impl Inside {
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<T, RequestError> {
        let lost = |error: anyhow::Error| RequestError::Lost(format!("{error:#}"));
        let request = self.request(method, path, body).map_err(lost)?;
        let Ok(response) = self.router.clone().oneshot(request).await;
        let status = response.status();
        let bytes = to_bytes(response.into_body(), MOST).await.context("it is too large").map_err(lost)?;
        if status.is_success() {
            return serde_json::from_slice(&bytes).context("it can't be read").map_err(lost);
        }
        let refusal = serde_json::from_slice(&bytes).unwrap_or_else(|_| Refusal::bare(format!("HTTP {status}")));
        Err(RequestError::Refused { status: status.as_u16(), refusal })
    }

    fn request(&self, method: Method, path: &str, body: Option<&impl Serialize>) -> Result<Request<Body>> {
        let bearer = Zeroizing::new(format!("Bearer {}", self.token.0.as_str()));
        let request = Request::builder().method(method).uri(format!("/v1/admin/{path}"));
        let request = request.header(AUTHORIZATION, bearer.as_str()).header(CONTENT_TYPE, "application/json");
        let body = body.map(serde_json::to_vec).transpose()?.map_or_else(Body::empty, Body::from);
        let mut request = request.body(body).context("the token has characters that no token has")?;
        request.extensions_mut().insert(self.origin);
        if let Some(place) = &self.place {
            request.extensions_mut().insert(place.clone());
        }
        Ok(request)
    }
}
