//! Opens a stream: pinned TLS, then a WebSocket (RFC 6455) to the coordinator.

use std::time::Duration;

use mesh_link::Url;
use mesh_proto::message::Refusal;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, handshake::client::generate_key, protocol::WebSocketConfig},
};

use super::{Target, Trouble};

/// The largest message in bytes: a snapshot.
const MAX_MESSAGE: usize = 64 << 20;
/// How long the coordinator may take to accept.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Opens a stream to one of these URLs, earlier ones preferred; returns the URL with it.
///
/// # Errors
/// If the coordinator is unreachable, is another one, or refuses. With the URL, if only that one has failed.
pub(super) async fn open(
    target: &Target,
    urls: &[Url],
) -> Result<(WebSocketStream<mesh_link::Stream>, Url), (Trouble, Option<Url>)> {
    let connected = mesh_link::connect_any(urls, target.fingerprint, &target.proxies).await;
    let (stream, url) = connected.map_err(|error| (error.into(), None))?;
    let opened = upgrade(target, stream, &url).await;
    opened.map(|stream| (stream, url.clone())).map_err(|trouble| (trouble, Some(url)))
}

async fn upgrade(
    target: &Target,
    stream: mesh_link::Stream,
    url: &Url,
) -> Result<WebSocketStream<mesh_link::Stream>, Trouble> {
    let request = mesh_link::upgrade(url, "/v1/stream", &target.credential, generate_key());
    let request = request.map_err(|error| Trouble::Request { url: url.clone(), error })?;
    let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    match tokio::time::timeout(TIMEOUT, client_async_with_config(request, stream, Some(config))).await {
        Ok(Ok((stream, _))) => Ok(stream),
        Ok(Err(tungstenite::Error::Http(response))) => Err(refused(&response)),
        Ok(Err(error)) => Err(Trouble::Handshake { url: url.clone(), error: Box::new(error) }),
        Err(_) => Err(Trouble::Mute { url: url.clone() }),
    }
}

fn refused(response: &hyper::Response<Option<Vec<u8>>>) -> Trouble {
    let status = response.status();
    let said = response.body().as_deref().and_then(|body| serde_json::from_slice::<Refusal>(body).ok());
    match said {
        said if status == hyper::StatusCode::UNAUTHORIZED => Trouble::Unknown(said),
        Some(said) => Trouble::Refused(said),
        None => Trouble::Status(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hint::Hint as _;

    fn response(status: u16, body: &str) -> hyper::Response<Option<Vec<u8>>> {
        hyper::Response::builder().status(status).body(Some(body.as_bytes().to_vec())).unwrap()
    }

    #[test]
    fn a_removed_runner_learns_how_to_leave() {
        let trouble = refused(&response(401, r#"{"error":"no such runner"}"#));
        assert!(matches!(trouble, Trouble::Unknown(_)));
        assert!(trouble.to_string().contains("no such runner") && trouble.hint().unwrap().contains("mesh-node leave"));
    }

    #[test]
    fn other_refusals_are_passed_on_and_are_not_final() {
        let trouble = refused(&response(503, r#"{"error":"starting","hint":"wait"}"#));
        assert_eq!(trouble.refusal(), Refusal::new("starting", "wait"));
        let trouble = refused(&response(502, "<html>"));
        assert!(matches!(trouble, Trouble::Status(status) if status == 502), "{trouble}");
    }
}
