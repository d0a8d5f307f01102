//! The route of runners' streams, and what it has in common with that of relays' streams.

use std::net::SocketAddr;

use axum::{
    Extension,
    extract::{
        State,
        ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::StatusCode,
    response::Response,
};

use super::{Api, MAX_MESSAGE, auth::AuthenticRunner, failure::Refused, server::Origin};
use crate::{places::Place, tenant::Tenant, watch};

/// The read buffer of an idle stream, in bytes.
const READ_BUFFER: usize = 8 << 10;

pub(super) async fn stream(
    State(api): State<Api>,
    Extension(origin): Extension<Origin>,
    place: Option<Extension<Place>>,
    AuthenticRunner { runner, tenant }: AuthenticRunner,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refused> {
    let (from, place, upgrade) = begin(origin, place, &tenant, upgrade)?;
    let coordinator = api.coordinator.on_account(Some(&tenant));
    Ok(upgrade
        .read_buffer_size(READ_BUFFER)
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        .on_upgrade(move |socket| watch::stream::serve(coordinator, runner, from, place, socket)))
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
