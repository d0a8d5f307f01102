//! As much of HTTP as it takes: one request a connection, by HTTP/1.0, so that what is answered ends with the connection and
//! comes in no chunks.

use std::{io, path::Path, time::Duration};

use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    time::timeout,
};

/// The API's version: Docker since 1.12, podman since 2.0. (Without one podman has another API.)
const VERSION: &str = "v1.24";
/// The longest line and the longest answer, in octets.
const MAX: u64 = 16 << 20;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// An answer that goes on and on, a line of JSON at a time.
pub(super) struct Lines(BufReader<UnixStream>);

/// Asks for something, and gives the whole answer.
///
/// # Errors
/// If there is nobody, he refuses, or what he says makes no sense.
pub(super) async fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> io::Result<T> {
    let answer = async {
        let mut body = Vec::new();
        request(socket, path).await?.take(MAX).read_to_end(&mut body).await?;
        Ok(serde_json::from_slice(&body)?)
    };
    timeout(PATIENCE, answer).await?
}

/// Asks for something that goes on.
///
/// # Errors
/// As [`get`].
pub(super) async fn follow(socket: &Path, path: &str) -> io::Result<Lines> {
    timeout(PATIENCE, request(socket, path)).await?.map(Lines)
}

impl Lines {
    /// The next line; `None`: that was all.
    ///
    /// # Errors
    /// If the connection breaks, or what comes makes no sense.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        match line(&mut self.0).await? {
            text if text.is_empty() => Ok(None),
            text => Ok(Some(serde_json::from_str(&text)?)),
        }
    }
}

async fn request(socket: &Path, path: &str) -> io::Result<BufReader<UnixStream>> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(format!("GET /{VERSION}{path} HTTP/1.0\r\nHost: docker\r\n\r\n").as_bytes()).await?;
    let mut stream = BufReader::new(stream);
    let status = line(&mut stream).await?;
    // HTTP-version SP status-code SP reason-phrase (RFC 9112, 4).
    if status.split(' ').nth(1) != Some("200") {
        return Err(io::Error::other(format!("{path}: {}", status.trim())));
    }
    // An empty line ends the header; nothing at all ends everything.
    while !matches!(line(&mut stream).await?.trim_end(), "") {}
    Ok(stream)
}

/// A line with its end; empty: there is no more.
async fn line(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<String> {
    let mut text = String::new();
    stream.take(MAX).read_line(&mut text).await?;
    Ok(text)
}

/// For a query: everything that isn't unreserved, as octets (RFC 3986, 2.1).
pub(super) fn escape(text: &str) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-._~".contains(b);
    text.bytes().map(|b| if plain(&b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::net::UnixListener;

    use super::*;
    use crate::state::tests::Scratch;

    /// Answers each connection with the next of these texts, as they are.
    fn server(name: &str, answers: &'static [&'static str]) -> (Scratch, std::path::PathBuf) {
        let scratch = Scratch::new(name);
        let socket = scratch.0.join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut asked = BufReader::new(&mut stream);
                while !matches!(line(&mut asked).await.unwrap().trim_end(), "") {}
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (scratch, socket)
    }

    #[tokio::test]
    async fn answers_are_read_whole_or_line_by_line() {
        let answers = &["HTTP/1.0 200 OK\r\nA: b\r\n\r\n{\"a\":\n1}", "HTTP/1.0 200 OK\r\n\r\n{\"a\":1}\n{\"a\":2}\n"];
        let (_scratch, socket) = server("docker-api", answers);
        assert_eq!(get::<Value>(&socket, "/x").await.unwrap(), json!({"a": 1}));
        let mut lines = follow(&socket, "/x").await.unwrap();
        assert_eq!(lines.next::<Value>().await.unwrap(), Some(json!({"a": 1})));
        assert_eq!(lines.next::<Value>().await.unwrap(), Some(json!({"a": 2})));
        assert_eq!(lines.next::<Value>().await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_no_answer_is_an_error() {
        let answers =
            &["HTTP/1.0 404 Not Found\r\n\r\n{\"message\":\"no\"}", "", "HTTP/1.0 200 OK\r\n\r\n{", "x\r\n\r\n"];
        let (_scratch, socket) = server("docker-odd", answers);
        assert!(get::<Value>(&socket, "/x").await.unwrap_err().to_string().contains("404 Not Found"));
        for _ in 1..answers.len() {
            assert!(get::<Value>(&socket, "/x").await.is_err());
        }
        assert!(get::<Value>(Path::new("/nonexistent/socket"), "/x").await.is_err());
    }

    #[test]
    fn a_query_holds_anything() {
        assert_eq!(escape(r#"{"a":["é"]}"#), "%7B%22a%22%3A%5B%22%C3%A9%22%5D%7D");
    }
}
