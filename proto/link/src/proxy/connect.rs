//! A connection through a proxy: one CONNECT request and its answer (RFC 9110 §9.3.6).

use std::{fmt, io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::{Instant, timeout_at},
};
use zeroize::Zeroizing;

use super::Proxy;
use crate::place::Place;

/// The longest head of an answer that is read, in bytes.
const MAX_HEAD: usize = 16 << 10;

/// A proxy that does not lead to a place.
#[derive(Debug)]
pub struct ProxyError {
    /// The proxy, without credentials.
    proxy: String,
    trouble: ProxyTrouble,
}

/// What is wrong with a proxy.
#[derive(Debug)]
pub enum ProxyTrouble {
    /// There is no connection with it.
    Unreachable(io::Error),
    /// It hasn't answered in this time.
    Mute(Duration),
    /// It ended the connection.
    Broke(io::Error),
    /// What it answers isn't HTTP.
    NotHttp,
    /// It asks for credentials, and none are known (407).
    Login,
    /// It doesn't accept the credentials (407).
    LoginRefused,
    /// It doesn't let this through (403).
    Forbidden,
    /// It can't reach the place itself (502, 503, 504).
    NoWay(u16),
    /// Any other answer.
    Status(u16),
}

impl ProxyError {
    pub(crate) fn new(proxy: &Proxy, trouble: ProxyTrouble) -> Self {
        Self { proxy: proxy.to_string(), trouble }
    }

    /// What is wrong.
    #[must_use]
    pub const fn trouble(&self) -> &ProxyTrouble {
        &self.trouble
    }

    /// Whether it is the proxy's decision: to ask again changes nothing.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(self.trouble, ProxyTrouble::Login | ProxyTrouble::LoginRefused | ProxyTrouble::Forbidden)
    }

    /// What an operator may try.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self.trouble {
            ProxyTrouble::Unreachable(_) => {
                "is that the proxy's address? It comes from --proxy, agent.proxy in the configuration, or $HTTPS_PROXY; what is in \
                 $NO_PROXY is reached directly"
            }
            ProxyTrouble::Login => {
                "write http://USER:PASSWORD@HOST:PORT, in the configuration, a file (--proxy @FILE) or $HTTPS_PROXY"
            }
            ProxyTrouble::LoginRefused => {
                "are the user and the password right? Characters that have a meaning in URLs are written with %, as %40 for @"
            }
            ProxyTrouble::Forbidden => {
                "proxies often let CONNECT through to port 443 only: allow this host and port at the proxy, or listen at 443; if it is \
                 reached without the proxy, add it to $NO_PROXY"
            }
            ProxyTrouble::NoWay(_) | ProxyTrouble::Mute(_) => {
                "does the proxy reach it? If this machine reaches it without the proxy, add it to $NO_PROXY"
            }
            ProxyTrouble::NotHttp | ProxyTrouble::Status(_) | ProxyTrouble::Broke(_) => {
                "is an HTTP proxy that knows CONNECT listening at that address?"
            }
        }
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { proxy, trouble } = self;
        match trouble {
            ProxyTrouble::Unreachable(error) => write!(f, "the proxy {proxy} can't be reached: {error}"),
            ProxyTrouble::Mute(after) => write!(f, "the proxy {proxy} has not answered within {} s", after.as_secs()),
            ProxyTrouble::Broke(error) => write!(f, "the proxy {proxy} ended the connection: {error}"),
            ProxyTrouble::NotHttp => write!(f, "{proxy} does not answer as an HTTP proxy does"),
            ProxyTrouble::Login => write!(f, "the proxy {proxy} asks for a user and a password (HTTP 407)"),
            ProxyTrouble::LoginRefused => write!(f, "the proxy {proxy} refuses the user or the password (HTTP 407)"),
            ProxyTrouble::Forbidden => write!(f, "the proxy {proxy} refuses to connect there (HTTP 403)"),
            ProxyTrouble::NoWay(status) => write!(f, "the proxy {proxy} finds no way there (HTTP {status})"),
            ProxyTrouble::Status(status) => write!(f, "the proxy {proxy} answers CONNECT with HTTP {status}"),
        }
    }
}

impl std::error::Error for ProxyError {}

/// Asks the proxy at the other end of `io` for a connection to `place`. Afterwards `io` leads there.
///
/// # Errors
/// If the proxy refuses, doesn't answer by `deadline`, or isn't one.
pub(crate) async fn tunnel(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    place: &Place,
    proxy: &Proxy,
    deadline: Instant,
) -> Result<(), ProxyError> {
    let begun = Instant::now();
    let trouble = match timeout_at(deadline, exchange(io, place, proxy)).await {
        Ok(Ok(200..300)) => return Ok(()),
        Ok(Ok(407)) if proxy.has_credentials() => ProxyTrouble::LoginRefused,
        Ok(Ok(407)) => ProxyTrouble::Login,
        Ok(Ok(403)) => ProxyTrouble::Forbidden,
        Ok(Ok(status @ 502..=504)) => ProxyTrouble::NoWay(status),
        Ok(Ok(status)) => ProxyTrouble::Status(status),
        Ok(Err(trouble)) => trouble,
        Err(_) => ProxyTrouble::Mute(begun.elapsed()),
    };
    Err(ProxyError::new(proxy, trouble))
}

/// Sends the request; returns the answer's status.
async fn exchange(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    place: &Place,
    proxy: &Proxy,
) -> Result<u16, ProxyTrouble> {
    let mut request = Zeroizing::new(format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\nUser-Agent: mesh\r\n"));
    if let Some(authorization) = &proxy.authorization {
        // In one piece: a buffer that grows would leave copies.
        request.reserve_exact(authorization.len() + 64);
        request.push_str("Proxy-Authorization: ");
        request.push_str(authorization);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    io.write_all(request.as_bytes()).await.map_err(ProxyTrouble::Broke)?;
    let head = read_head(io).await?;
    status(&head).ok_or(ProxyTrouble::NotHttp)
}

/// Reads up to the empty line that ends the head, and not beyond: what follows is the other end's.
async fn read_head(io: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, ProxyTrouble> {
    let mut head = Vec::with_capacity(512);
    loop {
        // A byte at a time: the answer is short, and comes once in a connection's life.
        let byte = io.read_u8().await.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof if !head.is_empty() && !begins_as_http(&head) => ProxyTrouble::NotHttp,
            io::ErrorKind::UnexpectedEof => {
                ProxyTrouble::Broke(io::Error::new(error.kind(), "it closed it unanswered"))
            }
            _ => ProxyTrouble::Broke(error),
        })?;
        head.push(byte);
        if head.ends_with(b"\r\n\r\n") || head.ends_with(b"\n\n") {
            return Ok(head);
        }
        if head.len() >= MAX_HEAD || !begins_as_http(&head) {
            return Err(ProxyTrouble::NotHttp);
        }
    }
}

/// Whether a head, as far as it has come, may be an answer of HTTP/1.
fn begins_as_http(head: &[u8]) -> bool {
    head.iter().zip(b"HTTP/1.").all(|(is, should)| is == should)
}

/// The status of `HTTP/1.x NNN …`.
fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\n').next()?;
    let text = std::str::from_utf8(line.get(..12)?).ok()?;
    let (version, status) = text.split_once(' ')?;
    let digits = status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit());
    let ended = line.get(12).is_none_or(u8::is_ascii_whitespace);
    (version.len() == 8 && version.starts_with("HTTP/1.") && digits && ended).then(|| status.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(8);

    /// Asks a proxy that answers with these bytes and hangs up; returns the request and what is left to read as well.
    async fn ask(proxy: &str, answer: &[u8]) -> (Result<(), ProxyError>, String, String) {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 16);
        let answer = answer.to_vec();
        let server = tokio::spawn(async move {
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                asked.push(theirs.read_u8().await.unwrap());
            }
            let _ = theirs.write_all(&answer).await;
            String::from_utf8(asked).unwrap()
        });
        let place = "coord.example:7443".parse().unwrap();
        let proxy = proxy.parse().unwrap();
        let result = tunnel(&mut ours, &place, &proxy, Instant::now() + PATIENCE).await;
        let mut rest = String::new();
        if result.is_ok() {
            ours.read_to_string(&mut rest).await.unwrap();
        }
        (result, server.await.unwrap(), rest)
    }

    #[tokio::test]
    async fn the_request_names_the_place_and_what_follows_the_answer_is_the_other_ends() {
        let (result, asked, rest) =
            ask("http://me:pw@p:1", b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\nhello").await;
        result.unwrap();
        assert_eq!(rest, "hello");
        assert_eq!(
            asked,
            "CONNECT coord.example:7443 HTTP/1.1\r\nHost: coord.example:7443\r\nUser-Agent: mesh\r\nProxy-Authorization: Basic \
             bWU6cHc=\r\n\r\n"
        );
        let (result, asked, _) = ask("http://p:1", b"HTTP/1.0 200\n\n").await;
        result.unwrap();
        assert!(!asked.contains("Authorization"), "{asked}");
    }

    #[tokio::test]
    async fn every_refusal_says_what_it_is_and_what_to_try() {
        for (proxy, answer, words, hint) in [
            ("p:1", "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "asks for a user", "USER:PASSWORD@"),
            ("me:hunter2@p:1", "HTTP/1.1 407 x\r\n\r\n", "refuses the user", "password right"),
            ("p:1", "HTTP/1.1 403 Forbidden\r\n\r\n<html>", "refuses to connect there", "443"),
            ("p:1", "HTTP/1.1 503 x\r\n\r\n", "finds no way there (HTTP 503)", "NO_PROXY"),
            ("p:1", "HTTP/1.1 405 Method Not Allowed\r\n\r\n", "HTTP 405", "knows CONNECT"),
            ("p:1", "SSH-2.0-OpenSSH\r\n", "does not answer as an HTTP proxy", "knows CONNECT"),
            ("p:1", "HTTP/1.1 2000 x\r\n\r\n", "does not answer as an HTTP proxy", "knows CONNECT"),
            ("p:1", "HTTP/2.0 200 x\r\n\r\n", "does not answer as an HTTP proxy", "knows CONNECT"),
            ("p:1", "HTTP/1.1 200 x\r\nVia: cut", "ended the connection", "knows CONNECT"),
            ("p:1", "", "closed it unanswered", "knows CONNECT"),
        ] {
            let (result, ..) = ask(proxy, answer.as_bytes()).await;
            let error = result.unwrap_err();
            let said = error.to_string();
            assert!(said.contains(words) && error.hint().contains(hint), "{answer}: {said} ({})", error.hint());
            assert!(!format!("{error:?} {said}").contains("hunter2"), "{said}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_without_end_is_not_read_and_none_is_not_waited_for() {
        let endless = format!("HTTP/1.1 200 x\r\nVia: {}", "x".repeat(MAX_HEAD));
        let error = ask("p:1", endless.as_bytes()).await.0.unwrap_err();
        assert!(matches!(error.trouble(), ProxyTrouble::NotHttp), "{error}");
        let (mut ours, _theirs) = tokio::io::duplex(1 << 16);
        let (place, proxy) = ("coord.example:7443".parse().unwrap(), "p:1".parse().unwrap());
        let error = tunnel(&mut ours, &place, &proxy, Instant::now() + PATIENCE).await.unwrap_err();
        assert!(error.to_string().contains("has not answered within 8 s"), "{error}");
    }
}
