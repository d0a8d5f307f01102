//! Requests and answers as bytes. Both sides limit what they read, in size and in time.

use std::{
    io::{self, Read as _, Write as _},
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::{Duration, Instant},
};

use mesh_proto::message::Refusal;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{ClientError, Request, RequestError, request::MAX_REQUEST};
use crate::sys::fd;

/// The longest answer, in bytes.
const MAX_ANSWER: usize = 64 << 20;
/// How long a request may take to arrive, and an answer to be accepted.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Sends a request.
///
/// # Errors
/// If the socket fails.
pub(super) fn send_request(stream: &UnixStream, request: &Request, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    fd::send_with_fds(stream, &line, fds)
}

/// Receives a request and the descriptors that came with it.
///
/// # Errors
/// If none comes in time, or it has another form.
pub(super) fn receive_request(stream: &UnixStream) -> Result<(Request, Vec<OwnedFd>), RequestError> {
    let lost = RequestError::Lost;
    let deadline = Instant::now() + PATIENCE;
    let (mut line, mut fds) = (Vec::new(), Vec::new());
    let mut buffer = [0; 4096];
    while !line.ends_with(b"\n") {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(lost(io::ErrorKind::TimedOut.into()));
        }
        stream.set_read_timeout(Some(left)).map_err(lost)?;
        let (n, more) = fd::recv_with_fds(stream, &mut buffer).map_err(lost)?;
        fds.extend(more);
        match buffer.get(..n) {
            None | Some([]) => break,
            Some(bytes) => line.extend_from_slice(bytes),
        }
        if line.len() > MAX_REQUEST {
            return Err(RequestError::TooLong);
        }
    }
    decode_request(&line).map(|request| (request, fds))
}

fn decode_request(line: &[u8]) -> Result<Request, RequestError> {
    serde_json::from_slice(line).map_err(RequestError::Unintelligible)
}

/// Sends an answer.
///
/// # Errors
/// If the socket fails.
pub(super) fn send_answer(mut stream: &UnixStream, answer: &Result<Value, Refusal>) -> io::Result<()> {
    let mut line = match answer {
        Ok(value) => serde_json::to_vec(value)?,
        Err(refusal) => serde_json::to_vec(refusal)?,
    };
    line.push(b'\n');
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&line)
}

/// Reads an answer.
///
/// # Errors
/// If the answer is a refusal, has another form, or doesn't come.
pub(super) fn receive_answer<T: DeserializeOwned>(stream: impl io::Read) -> Result<T, ClientError> {
    let mut line = Vec::new();
    stream.take(MAX_ANSWER as u64).read_to_end(&mut line).map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => ClientError::Mute,
        _ => ClientError::Lost(e),
    })?;
    if line.is_empty() {
        return Err(ClientError::Ended);
    }
    let value: Value = serde_json::from_slice(&line)?;
    if value.get("error").is_some() {
        return Err(ClientError::Refused(serde_json::from_value(value)?));
    }
    Ok(serde_json::from_value(value)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{hosts::Place, local::NamespacePlace};

    #[test]
    fn requests_are_frozen() {
        let attach = Request::Attach {
            service: "shop/db".parse().unwrap(),
            client: true,
            release: None,
            namespace: NamespacePlace::Path("/run/netns/x".into()),
            hosts: Some(Place::Process(7)),
            resolv: None,
            process: false,
        };
        let line = r#"{"op":"attach","service":"shop/db","client":true,"namespace":{"path":"/run/netns/x"},"hosts":{"process":7},"process":false}"#;
        assert_eq!(serde_json::to_string(&attach).unwrap(), line);
        assert_eq!(decode_request(line.as_bytes()).unwrap(), attach);
        let line = r#"{"op":"attach-container","id":"f00","service":"shop/db","client":false,"release":"v2","hosts":{"path":"/h"},"resolv":{"path":"/r"},"namespace":null}"#;
        let (id, hosts) = ("f00".parse().unwrap(), Some(Place::Path("/h".into())));
        let attach = Request::AttachContainer {
            id,
            service: "shop/db".parse().unwrap(),
            client: false,
            release: "v2".parse().ok(),
            hosts,
            resolv: Some(Place::Path("/r".into())),
            namespace: None,
        };
        assert_eq!(serde_json::to_string(&attach).unwrap(), line);
        assert_eq!(decode_request(line.as_bytes()).unwrap(), attach);
        assert!(decode_request(br#"{"op":"detach-container","id":"../etc"}"#).is_err());
        let least = r#"{"op":"attach","service":"shop/db","namespace":{"process":7}}"#;
        assert!(matches!(decode_request(least.as_bytes()), Ok(Request::Attach { client: false, hosts: None, .. })));
        assert_eq!(decode_request(b"{\"op\":\"status\"}\n").unwrap(), Request::Status);
        assert!(decode_request(br#"{"op":"attach","service":"shop/db","namespace":{"process":7},"hots":1}"#).is_err());
    }

    #[test]
    fn an_answer_is_a_value_or_a_refusal() {
        assert_eq!(receive_answer::<Vec<u8>>(&b"[1,2]\n"[..]).unwrap(), [1, 2]);
        let refusal = receive_answer::<Vec<u8>>(&br#"{"error":"no","hint":"later"}"#[..]);
        assert!(matches!(refusal, Err(ClientError::Refused(said)) if said == Refusal::new("no", "later")));
        assert!(matches!(receive_answer::<Vec<u8>>(&b""[..]), Err(ClientError::Ended)));
        for garbage in ["[1,", "\"x\"", r#"{"error":7}"#] {
            assert!(
                receive_answer::<Vec<u8>>(garbage.as_bytes()).unwrap_err().to_string().contains("was lost"),
                "{garbage}"
            );
        }
    }

    proptest! {
        #[test]
        fn garbage_is_refused_and_nothing_worse(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode_request(&bytes).is_err());
            let _ = receive_answer::<super::super::Status>(&bytes[..]);
        }

        #[test]
        fn requests_with_anything_in_their_fields_are_read_or_refused(name in ".*", text in ".*", number in any::<i64>()) {
            for field in [serde_json::json!(text), serde_json::json!(number)] {
                let line = serde_json::json!({"op": "why", "caller": name, "callee": text, "port": field}).to_string();
                let _ = decode_request(line.as_bytes());
                let line = serde_json::json!({"op": text, "instance": field, "service": name}).to_string();
                let _ = decode_request(line.as_bytes());
            }
        }
    }
}
