//! One JSON request over an open stream.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request,
    body::Bytes,
    client::conn::http1,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
    },
};
use hyper_util::rt::TokioIo;
use mesh_proto::message::Refusal;
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use crate::Url;

pub use hyper::Method;

/// The largest answer, in bytes.
const MAX_ANSWER: usize = 64 << 20;
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The coordinator refuses.
    #[error("{refusal}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The refusal, with its hint.
        refusal: Refusal,
    },
    /// The connection broke, or the answer is invalid. Whether the request was carried out isn't known.
    #[error("the coordinator's answer was lost: {0}")]
    Lost(String),
}

/// The request that begins a WebSocket at the coordinator (RFC 6455 §4.1), with `key` as its `Sec-WebSocket-Key`.
///
/// # Errors
/// If the credential or another part can't stand in a request.
pub fn upgrade(url: &Url, path: &str, credential: &str, key: String) -> Result<Request<()>, hyper::http::Error> {
    let authority = url.authority();
    let bearer = Zeroizing::new(format!("Bearer {credential}"));
    let mut bearer = HeaderValue::from_str(&bearer)?;
    bearer.set_sensitive(true);
    Request::get(format!("wss://{authority}{path}"))
        .header(HOST, authority)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, key)
        .header(AUTHORIZATION, bearer)
        .body(())
}

/// Sends a request with a JSON body (`null`: none) over `io`, and reads the JSON answer. `host` is HTTP's `Host`.
///
/// # Errors
/// If it is refused, or the answer is lost.
pub async fn request<T: DeserializeOwned>(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    host: &str,
    method: Method,
    path: &str,
    bearer: Option<&str>,
    body: Option<&(impl Serialize + Sync)>,
) -> Result<T, RequestError> {
    let exchange = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(lost)?;
        let connection = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header(HOST, host);
        if let Some(bearer) = bearer {
            request = request.header(AUTHORIZATION, format!("Bearer {bearer}"));
        }
        let bytes = match body {
            Some(body) => {
                request = request.header(CONTENT_TYPE, "application/json");
                serde_json::to_vec(body).map_err(lost)?
            }
            None => Vec::new(),
        };
        let request = request.body(Full::new(Bytes::from(bytes))).map_err(lost)?;
        let response = sender.send_request(request).await.map_err(lost)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(lost)?.to_bytes();
        connection.abort();
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(lost);
        }
        let refusal = serde_json::from_slice(&body).unwrap_or_else(|_| {
            Refusal::new(
                format!("the answer was HTTP {status}, without a reason"),
                "is this the address of a mesh coordinator, and not of something in front of it?",
            )
        });
        Err(RequestError::Refused { status: status.as_u16(), refusal })
    };
    match tokio::time::timeout(TIMEOUT, exchange).await {
        Ok(answer) => answer,
        Err(_) => Err(RequestError::Lost(format!("nothing came within {} s", TIMEOUT.as_secs()))),
    }
}

fn lost(error: impl std::fmt::Display) -> RequestError {
    RequestError::Lost(error.to_string())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    /// Answers one request with `response`, and returns the request.
    async fn ask(response: &'static str) -> (Result<u32, RequestError>, String) {
        let (ours, mut theirs): (DuplexStream, DuplexStream) = tokio::io::duplex(1 << 16);
        let server = tokio::spawn(async move {
            let mut asked = Vec::new();
            while !asked.ends_with(b"[7]") {
                let mut byte = [0];
                theirs.read_exact(&mut byte).await.unwrap();
                asked.push(byte[0]);
            }
            theirs.write_all(response.as_bytes()).await.unwrap();
            String::from_utf8(asked).unwrap()
        });
        let answer = request(ours, "coord", Method::POST, "/v1/x", Some("me"), Some(&[7])).await;
        (answer, server.await.unwrap())
    }

    #[tokio::test]
    async fn a_request_is_one_exchange_of_json() {
        let (answer, asked) = ask("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n42").await;
        assert_eq!(answer.unwrap(), 42);
        assert!(asked.starts_with("POST /v1/x HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("authorization: Bearer me\r\n") && asked.contains("host: coord\r\n"), "{asked}");
    }

    #[tokio::test]
    async fn a_refusal_keeps_its_reason_and_hint() {
        let (answer, _) =
            ask("HTTP/1.1 403 Forbidden\r\ncontent-length: 29\r\n\r\n{\"error\":\"no\",\"hint\":\"later\"}").await;
        let Err(RequestError::Refused { status, refusal }) = answer else { panic!("{answer:?}") };
        assert_eq!((status, refusal), (403, Refusal::new("no", "later")));
        let (answer, _) = ask("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 6\r\n\r\n<html>").await;
        let Err(RequestError::Refused { refusal, .. }) = answer else { panic!("{answer:?}") };
        assert!(refusal.error.contains("502"), "{refusal:?}");
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_lost() {
        for response in
            ["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n42", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]", "huh"]
        {
            assert!(matches!(ask(response).await.0, Err(RequestError::Lost(_))), "{response}");
        }
    }
}
