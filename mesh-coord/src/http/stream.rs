//! The way into a runner's stream.

use axum::{
    Extension,
    extract::{
        State,
        ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::StatusCode,
    response::Response,
};

use super::{Api, MAX_BODY, auth::AuthenticRunner, failure::Refused, server::Origin};
use crate::watch;

pub(super) async fn stream(
    State(api): State<Api>,
    Extension(origin): Extension<Origin>,
    AuthenticRunner(runner): AuthenticRunner,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refused> {
    let Origin::Network(from) = origin else {
        let hint = "connect to the coordinator's URL";
        return Err(Refused::new(StatusCode::BAD_REQUEST, "a stream is not to be had at the admin socket", hint));
    };
    let upgrade = upgrade
        .map_err(|rejection| Refused::new(rejection.status(), rejection.body_text(), "this path is a WebSocket's"))?;
    Ok(upgrade
        .max_message_size(MAX_BODY)
        .max_frame_size(MAX_BODY)
        .on_upgrade(move |socket| watch::stream::serve(api.coordinator, runner, from, socket)))
}
