//! Requests to a coordinator by its socket, without the command line's program: they cost next to nothing.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde_json::Value;

/// How long an answer may take: a coordinator that stands still goes on within this time.
const PATIENCE: Duration = Duration::from_secs(20);

/// What came of a request.
pub(super) enum Answer {
    /// It was not sent.
    NotSent,
    /// It was sent, and there was no answer.
    Lost,
    /// An answer, with its status and its body.
    Given(u16, String),
}

/// The answer of the coordinator with this data directory to `GET /v1/admin/WHAT`; `None` unless it is 200.
pub(super) fn get(data: &Path, what: &str) -> Option<Value> {
    match ask(data, &format!("GET /v1/admin/{what}"), "") {
        Answer::Given(200, body) => serde_json::from_str(&body).ok(),
        _ => None,
    }
}

/// `POST /v1/admin/WHAT`.
pub(super) fn post(data: &Path, what: &str, body: &Value) -> Answer {
    ask(data, &format!("POST /v1/admin/{what}"), &body.to_string())
}

fn ask(data: &Path, what: &str, body: &str) -> Answer {
    match UnixStream::connect(data.join("admin.sock")) {
        Ok(socket) => exchange(socket, what, body).unwrap_or(Answer::Lost),
        Err(_) => Answer::NotSent,
    }
}

fn exchange(mut socket: UnixStream, what: &str, body: &str) -> Option<Answer> {
    socket.set_read_timeout(Some(PATIENCE)).ok()?;
    let length = body.len();
    let request = format!(
        "{what} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    socket.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some(Answer::Given(status, body.to_owned()))
}

/// The rows of a list.
pub(super) fn rows<'a>(answer: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    answer[list].as_array().into_iter().flatten()
}

/// A text of a row.
pub(super) fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or_else(|| panic!("no {name} in {row:#}"))
}
