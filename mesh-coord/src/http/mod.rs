//! The API: its routes, and what applies to every request.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    http::{Method, StatusCode},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use mesh_link::Url;
use mesh_proto::{PrivateKey, token::Fingerprint};
use tokio::time::timeout;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    api::NOTHING_THERE,
    coordinator::{Coordinator, Failure},
    exposition::Exposition,
    store::StoreError,
};

mod admin;
mod asked;
mod auth;
mod body;
mod codes;
mod enrol;
mod events;
mod failure;
mod guard;
mod idempotent;
mod limit;
mod lines;
mod lists;
mod members;
mod noted;
mod objects;
mod observe;
pub(crate) mod openapi;
mod peer;
mod preview;
mod probe;
mod relays;
pub(crate) mod server;
mod stream;
mod tokens;
mod traffic;

use body::Budget;
use codes::Code;
use events::Followers;
use failure::Refused;
use idempotent::Answers;
use limit::Failures;

/// The largest message of a runner's stream, in bytes.
const MAX_MESSAGE: usize = 1 << 20;
/// How long a request may take, including its body. Streams are exempt.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What the routes share.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    /// The writer.
    pub(crate) coordinator: Coordinator,
    /// The fingerprint of the coordinator's TLS key, part of every token.
    pub(crate) fingerprint: Fingerprint,
    /// The key against which machines prove their own keys.
    pub(crate) enrol_key: Arc<PrivateKey>,
    /// The coordinator's URLs, part of every new token.
    pub(crate) advertised: Arc<Advertised>,
    /// What monitoring asks for.
    exposition: Exposition,
    failures: Arc<Failures>,
    budget: Budget,
    answers: Answers,
    followers: Followers,
}

/// The coordinator's URLs as others reach it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Advertised {
    /// Those of the operator.
    pub(crate) urls: Vec<Url>,
    /// A guess without those, shown to people and never part of a token.
    pub(crate) guess: Option<Url>,
}

impl Api {
    /// The same with these URLs.
    pub(crate) fn advertising(self, advertised: Advertised) -> Self {
        Self { advertised: Arc::new(advertised), ..self }
    }

    /// The same with these pages for monitoring.
    pub(crate) fn observed_by(self, exposition: Exposition) -> Self {
        Self { exposition, ..self }
    }

    pub(crate) fn new(coordinator: Coordinator, fingerprint: Fingerprint, enrol_key: PrivateKey) -> Self {
        Self {
            exposition: Exposition::new(coordinator.clone(), None),
            coordinator,
            fingerprint,
            enrol_key: Arc::new(enrol_key),
            failures: Arc::default(),
            budget: Budget::default(),
            answers: Answers::default(),
            followers: Followers::default(),
            advertised: Arc::default(),
        }
    }

    /// All routes.
    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/v1/info", get(enrol::info))
            .route("/v1/enrol", post(enrol::enrol))
            .route("/v1/relay/enrol", post(relays::enrol))
            .merge(peer::routes())
            .layer(middleware::from_fn(in_time))
            .merge(
                Router::from(administrators()).route_layer(middleware::from_fn_with_state(self.clone(), guard::guard)),
            )
            .route("/v1/stream", get(stream::stream))
            .route("/v1/relay/stream", get(relays::stream))
            .layer(middleware::from_fn_with_state(self.clone(), refreshed))
            .merge(peer::contact_route().layer(middleware::from_fn(in_time)))
            .route("/healthz", get(observe::health))
            .route("/readyz", get(observe::readiness))
            .route("/metrics", get(observe::metrics).layer(middleware::from_fn(in_time)))
            .fallback(nothing_there)
            .method_not_allowed_fallback(another_method)
            .layer(middleware::from_fn_with_state(self.clone(), observe::count))
            .with_state(self)
    }
}

/// The routes of administrators, which the OpenAPI document describes.
fn administrators() -> OpenApiRouter<Api> {
    let quick = lists::routes()
        .merge(traffic::routes())
        .layer(middleware::from_fn(lines::lines))
        .merge(admin::routes())
        .merge(tokens::routes())
        .merge(relays::routes())
        .merge(objects::routes())
        .merge(preview::routes())
        .merge(probe::routes())
        .merge(observe::routes())
        .merge(members::routes())
        .merge(events::routes())
        .layer(middleware::from_fn(order_in_time));
    OpenApiRouter::with_openapi(openapi::frame())
        .nest("/v1/admin", quick.merge(admin::slow_routes()))
        .merge(openapi::routes())
}

/// Answers from what was confirmed before the request, by whichever coordinator.
async fn refreshed(State(api): State<Api>, request: Request, next: Next) -> Response {
    match api.coordinator.refresh_for_request().await {
        Ok(()) => next.run(request).await,
        Err(failure) => Refused::from(failure).into_response(),
    }
}

async fn in_time(request: Request, next: Next) -> Response {
    timeout(REQUEST_TIMEOUT, next.run(request)).await.unwrap_or_else(|_| {
        Refused::new(StatusCode::REQUEST_TIMEOUT, "the request took too long", "try again").into_response()
    })
}

/// The same for administrators: what such a request was to change may have changed, or may yet.
async fn order_in_time(request: Request, next: Next) -> Response {
    if request.method() == Method::GET {
        return in_time(request, next).await;
    }
    let late = |_| Refused::from(Failure::Store(StoreError::Unknown)).into_response();
    timeout(REQUEST_TIMEOUT, next.run(request)).await.unwrap_or_else(late)
}

async fn nothing_there() -> Refused {
    Refused::new(StatusCode::NOT_FOUND, NOTHING_THERE, "is its version another one?").coded(Code::NoSuchPath)
}

async fn another_method() -> Refused {
    let (error, hint) = ("this path doesn't take this method", "is the coordinator's version another one?");
    Refused::new(StatusCode::METHOD_NOT_ALLOWED, error, hint)
}

#[cfg(test)]
mod tests;
