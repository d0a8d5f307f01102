//! The route of runners' streams, and what it has in common with that of relays' streams.

use std::net::SocketAddr;

use axum::{
    Extension,
    body::Body,
    extract::{
        State,
        ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::{
        HeaderMap, StatusCode,
        header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE},
    },
    response::Response,
};
use hyper::upgrade::OnUpgrade;
use tracing::debug;

use super::{Api, MAX_MESSAGE, auth::AuthenticRunner, failure::Refused, server::Origin};
use crate::{places::Place, tenant::Tenant, watch};

pub(super) async fn stream(
    State(api): State<Api>,
    Extension(origin): Extension<Origin>,
    place: Option<Extension<Place>>,
    AuthenticRunner { runner, tenant }: AuthenticRunner,
    headers: HeaderMap,
    connection: Option<Extension<OnUpgrade>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refused> {
    // axum checks the request. Its WebSockets have no small frames, so the stream makes its own.
    let (from, place, _) = begin(origin, place, &tenant, upgrade)?;
    let (Some(Extension(connection)), Some(key)) = (connection, headers.get(SEC_WEBSOCKET_KEY)) else {
        return Err(Refused::new(StatusCode::UPGRADE_REQUIRED, "this request begins no WebSocket", "use HTTP/1.1"));
    };
    let response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_ACCEPT, watch::stream::Wire::accept(key))
        .body(Body::empty())
        .map_err(|error| Refused::new(StatusCode::BAD_REQUEST, error.to_string(), "this path is a WebSocket's"))?;
    let coordinator = api.coordinator.on_account(Some(&tenant));
    tokio::spawn(async move {
        match watch::stream::Wire::open(connection, MAX_MESSAGE).await {
            Ok(wire) => watch::stream::serve(coordinator, runner, from, place, wire).await,
            Err(error) => debug!(%runner, %from, %error, "no stream"),
        }
    });
    Ok(response)
}

/// What a stream begins with: where it comes from, and its place, which is the stream's from here on, as long as it lives.
pub(super) fn begin(
    origin: Origin,
    place: Option<Extension<Place>>,
    tenant: &Tenant,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<(SocketAddr, Place, WebSocketUpgrade), Refused> {
    let (Origin::Network(from), Some(Extension(place))) = (origin, place) else {
        let hint = "connect to the coordinator's URL";
        return Err(Refused::new(StatusCode::BAD_REQUEST, "the admin socket serves no streams", hint));
    };
    let upgrade = upgrade
        .map_err(|rejection| Refused::new(rejection.status(), rejection.body_text(), "this path is a WebSocket's"))?;
    place.prove(tenant)?;
    Ok((from, place, upgrade))
}
