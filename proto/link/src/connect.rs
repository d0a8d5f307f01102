//! Connections to a coordinator.

use std::io;

use mesh_proto::token::Fingerprint;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::{
    Url,
    dial::{AttemptError, Dialed, Failures, Route, behind, dial, words},
    pin,
    proxy::{Proxies, Proxy, ProxyError},
    race::{Failed, Why},
};

/// A connection to the coordinator.
pub type Stream = TlsStream<TcpStream>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The coordinator doesn't answer.
    #[error("cannot reach the coordinator at {url}: {error}{remark}")]
    Unreachable {
        /// The URLs that were tried.
        url: String,
        /// The system's error; if there are several addresses, one for each.
        error: io::Error,
        /// Another possible reason; empty if none is known.
        remark: String,
    },
    /// The proxy that applies doesn't lead there.
    #[error("cannot reach the coordinator at {url}: {error}")]
    Proxy {
        /// The URLs that were tried.
        url: String,
        /// The error; if there are several addresses, one for each. It names the proxy.
        error: io::Error,
        /// The first failure, with its hint.
        cause: ProxyError,
    },
    /// There is no address to connect to.
    #[error("cannot reach the coordinator: {error}")]
    NoUrl {
        /// Why there is none.
        error: io::Error,
    },
    /// Another server answers than the coordinator of the token or identity.
    #[error("the server at {url} is not the coordinator that is meant: its key has another fingerprint{}", opened(.proxy.as_ref()))]
    OtherCoordinator {
        /// Its URL.
        url: Url,
        /// The proxy before it.
        proxy: Option<Proxy>,
    },
    /// A server answers that doesn't speak TLS as we do.
    #[error("no TLS connection with {url}: {error}")]
    Tls {
        /// Its URL.
        url: Url,
        /// The error.
        error: io::Error,
    },
}

/// A proxy that opens TLS shows its own key.
fn opened(proxy: Option<&Proxy>) -> String {
    let says = |proxy| format!("{}; if that proxy opens TLS, it has to pass this host through", behind(Some(proxy)));
    proxy.map(says).unwrap_or_default()
}

/// Connects to the coordinator with this fingerprint at `url`, and to no other server.
///
/// # Errors
/// If it doesn't answer, or another server does.
pub async fn connect(url: &Url, fingerprint: Fingerprint, proxies: &Proxies) -> Result<Stream, LinkError> {
    connect_any(std::slice::from_ref(url), fingerprint, proxies).await.map(|(stream, _)| stream)
}

/// The same with several URLs, earlier ones preferred. Also returns the URL that worked.
///
/// # Errors
/// If it answers at none of them.
pub async fn connect_any(
    urls: &[Url],
    fingerprint: Fingerprint,
    proxies: &Proxies,
) -> Result<(Stream, Url), LinkError> {
    let none = || io::Error::new(io::ErrorKind::InvalidInput, "no URL is known");
    let Some(first) = urls.first() else { return Err(LinkError::NoUrl { error: none() }) };
    let tls = pin::connector(fingerprint, None).map_err(|error| LinkError::Tls { url: first.clone(), error })?;
    let routes: Vec<Route> = urls.iter().map(|url| Route::to(url.place(), proxies)).collect();
    match dial(&routes, Some(&tls)).await {
        Ok((Dialed::Tls(stream), url)) => Ok((*stream, urls.get(url).unwrap_or(first).clone())),
        Ok((Dialed::Tcp(_), _)) => Err(LinkError::Tls { url: first.clone(), error: io::ErrorKind::Unsupported.into() }),
        Err(failures) => Err(error(urls, first, failures, proxies)),
    }
}

/// What to tell of the failures. A server's answer is the most informative, then a proxy's.
fn error(urls: &[Url], first: &Url, mut failures: Failures, proxies: &Proxies) -> LinkError {
    let at = |failed: &Failed<AttemptError>| urls.get(failed.place).unwrap_or(first).clone();
    let url = urls.iter().map(Url::to_string).collect::<Vec<_>>().join(", ");
    // What ended a handshake tells an answer that is lost from a server that is none of ours.
    let tls = failures.iter().find_map(|failed| match &failed.why {
        Why::Attempt(AttemptError::Tls { error, .. }) => Some((at(failed), error.kind())),
        _ => None,
    });
    let kind = tls.as_ref().map_or(io::ErrorKind::Other, |(_, kind)| *kind);
    let all = io::Error::new(kind, words(&failures));
    let other = failures.iter().find_map(|failed| match &failed.why {
        Why::Attempt(AttemptError::Other { proxy }) => Some((at(failed), proxy.clone())),
        _ => None,
    });
    let proxy = failures.drain(..).find_map(|failed| match failed.why {
        Why::Attempt(AttemptError::Proxy(error)) => Some(error),
        _ => None,
    });
    match (other, proxy, tls) {
        (Some((url, proxy)), ..) => LinkError::OtherCoordinator { url, proxy },
        (None, Some(cause), _) => LinkError::Proxy { url, error: all, cause },
        (None, None, Some((url, _))) => LinkError::Tls { url, error: all },
        (None, None, None) => LinkError::Unreachable { url, error: all, remark: proxies.remark(first.place()) },
    }
}

#[cfg(test)]
mod tests;
