//! Opens a stream: pinned TLS, then a WebSocket (RFC 6455) in the coordinator's name.

use std::time::Duration;

use hyper::{
    Request,
    header::{AUTHORIZATION, CONNECTION, HOST, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE},
};
use mesh_link::{LinkError, Url};
use mesh_proto::message::Refusal;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, handshake::client::generate_key, protocol::WebSocketConfig},
};
use zeroize::Zeroizing;

use super::Target;

/// The largest message, in octets: a snapshot.
const MAX_MESSAGE: usize = 64 << 20;
/// How long the coordinator may take to accept.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no stream.
#[derive(Debug)]
pub(super) enum OpenError {
    /// It may be there the next time.
    Away(Refusal),
    /// The coordinator doesn't know us (any more), and most likely never will.
    Unknown(Refusal),
}

/// Opens a stream; also where to.
///
/// # Errors
/// If the coordinator isn't there, isn't the right one, or doesn't want us.
pub(super) async fn open(target: &Target) -> Result<(WebSocketStream<mesh_link::Stream>, Url), OpenError> {
    let (stream, url) = mesh_link::connect_any(&target.urls, target.fingerprint).await.map_err(|error| {
        let hint = match error {
            LinkError::Unreachable { .. } | LinkError::NoUrl { .. } => {
                "is the coordinator running, and reachable from here?"
            }
            LinkError::OtherCoordinator { .. } => {
                "was its data directory lost or exchanged? Runners then have to join anew, with a new state directory"
            }
            LinkError::Tls { .. } => "is something else listening at that address?",
        };
        OpenError::Away(Refusal::new(error.to_string(), hint))
    })?;
    let request = request(target, &url).map_err(|e| OpenError::Away(Refusal::bare(e)))?;
    let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    match tokio::time::timeout(TIMEOUT, client_async_with_config(request, stream, Some(config))).await {
        Ok(Ok((stream, _))) => Ok((stream, url)),
        Ok(Err(tungstenite::Error::Http(response))) => Err(refused(&response)),
        Ok(Err(error)) => Err(OpenError::Away(Refusal::bare(format!("{url} does not answer as it should: {error}")))),
        Err(_) => Err(OpenError::Away(Refusal::bare(format!("{url} does not answer")))),
    }
}

fn request(target: &Target, url: &Url) -> Result<Request<()>, String> {
    let authority = url.authority();
    let bearer = Zeroizing::new(format!("Bearer {}", *target.credential));
    let mut bearer = HeaderValue::from_str(&bearer).map_err(|e| e.to_string())?;
    bearer.set_sensitive(true);
    Request::get(format!("wss://{authority}/v1/stream"))
        .header(HOST, authority)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, generate_key())
        .header(AUTHORIZATION, bearer)
        .body(())
        .map_err(|e| e.to_string())
}

fn refused(response: &hyper::Response<Option<Vec<u8>>>) -> OpenError {
    let status = response.status();
    let said = response.body().as_deref().and_then(|body| serde_json::from_slice::<Refusal>(body).ok());
    if status == hyper::StatusCode::UNAUTHORIZED {
        let why = said.map(|said| format!(": {said}")).unwrap_or_default();
        return OpenError::Unknown(Refusal::new(
            format!("the coordinator does not know this runner (any more){why}"),
            "if it was removed on purpose, `mesh-node leave` ends the agent and deletes its identity; to join again, do that \
             first and then `mesh-node join TOKEN` with a new token",
        ));
    }
    OpenError::Away(said.unwrap_or_else(|| Refusal::bare(format!("the coordinator answers with HTTP {status}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, body: &str) -> hyper::Response<Option<Vec<u8>>> {
        hyper::Response::builder().status(status).body(Some(body.as_bytes().to_vec())).unwrap()
    }

    #[test]
    fn a_runner_that_was_removed_is_told_what_to_do() {
        let OpenError::Unknown(refusal) = refused(&response(401, r#"{"error":"no such runner"}"#)) else { panic!() };
        assert!(refusal.error.contains("no such runner") && refusal.hint.unwrap().contains("mesh-node leave"));
    }

    #[test]
    fn other_refusals_are_passed_on_and_are_not_final() {
        let OpenError::Away(refusal) = refused(&response(503, r#"{"error":"starting","hint":"wait"}"#)) else {
            panic!()
        };
        assert_eq!(refusal, Refusal::new("starting", "wait"));
        let OpenError::Away(refusal) = refused(&response(502, "<html>")) else { panic!() };
        assert!(refusal.error.contains("502"), "{refusal}");
    }
}
