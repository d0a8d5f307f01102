//! The race for a connection: by the proxies that apply, and TLS where it is wanted.

use std::{io, net::SocketAddr};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Duration, Instant, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    pin,
    place::Place,
    proxy::{Proxies, Proxy, ProxyError, ProxyTrouble, tunnel},
    race::{self, Failed, LIMIT, Why, race},
};

/// How much earlier than the race a stage behind a proxy gives up, so that the error names that stage.
const MARGIN: Duration = Duration::from_millis(500);

/// The way to a place.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) place: Place,
    pub(crate) proxy: Option<Proxy>,
}

impl Route {
    /// The way to a place with these proxies.
    pub(crate) fn to(place: &Place, proxies: &Proxies) -> Self {
        let proxy = proxies.leading_to(place.host(), place.port()).cloned();
        Self { place: place.clone(), proxy }
    }

    /// The first machine on it.
    fn first(&self) -> &Place {
        self.proxy.as_ref().map_or(&self.place, Proxy::place)
    }
}

/// Why an address failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttemptError {
    #[error(transparent)]
    Tcp(io::Error),
    #[error(transparent)]
    Proxy(ProxyError),
    #[error("{error}{}", behind(.proxy.as_ref()))]
    Tls { error: io::Error, proxy: Option<Proxy> },
    #[error("another server answers{}", behind(.proxy.as_ref()))]
    Other { proxy: Option<Proxy> },
}

/// ` (behind the proxy …)`, if there is one.
pub(crate) fn behind(proxy: Option<&Proxy>) -> String {
    proxy.map(|proxy| format!(" (behind the proxy {proxy})")).unwrap_or_default()
}

/// A TCP connection, and TLS on it if that was wanted.
#[derive(Debug)]
pub(crate) enum Dialed {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Why there is no connection: the failures of all addresses.
pub(crate) type Failures = Vec<Failed<AttemptError>>;

/// Connects by the first route that works; returns its index as well.
pub(crate) async fn dial(routes: &[Route], tls: Option<&TlsConnector>) -> Result<(Dialed, usize), Failures> {
    let firsts: Vec<Place> = routes.iter().map(|route| route.first().clone()).collect();
    let attempt = |index: usize, address| {
        let (route, tls) = (routes.get(index).cloned(), tls.cloned());
        async move {
            match route {
                Some(route) => attempt(route, address, tls).await,
                None => Err(AttemptError::Tcp(io::ErrorKind::InvalidInput.into())),
            }
        }
    };
    race(&firsts, attempt).await.map_err(|failures| {
        let blame = |failed: Failed<AttemptError>| {
            let proxy = routes.get(failed.place).and_then(|route| route.proxy.as_ref());
            let why = match (failed.why, proxy) {
                (Why::System(error) | Why::Attempt(AttemptError::Tcp(error)), Some(proxy)) => {
                    Why::Attempt(AttemptError::Proxy(ProxyError::new(proxy, ProxyTrouble::Unreachable(error))))
                }
                (why, _) => why,
            };
            Failed { why, ..failed }
        };
        failures.into_iter().map(blame).collect()
    })
}

async fn attempt(route: Route, address: SocketAddr, tls: Option<TlsConnector>) -> Result<Dialed, AttemptError> {
    let deadline = Instant::now() + LIMIT - MARGIN;
    let Route { place, proxy } = route;
    let invalid = |e| AttemptError::Tcp(io::Error::new(io::ErrorKind::InvalidInput, e));
    let name = tls.as_ref().map(|_| ServerName::try_from(place.host().to_owned())).transpose().map_err(invalid)?;
    let mut tcp = TcpStream::connect(address).await.map_err(AttemptError::Tcp)?;
    // Messages are small, and their senders wait for answers.
    tcp.set_nodelay(true).map_err(AttemptError::Tcp)?;
    if let Some(proxy) = &proxy {
        tunnel(&mut tcp, &place, proxy, deadline).await.map_err(AttemptError::Proxy)?;
    }
    let (Some(connector), Some(name)) = (tls, name) else { return Ok(Dialed::Tcp(tcp)) };
    shake(connector, name, tcp, deadline + MARGIN / 2).await.map(|tls| Dialed::Tls(Box::new(tls))).map_err(|error| {
        match pin::is_other_key(&error) {
            true => AttemptError::Other { proxy },
            false => AttemptError::Tls { error, proxy },
        }
    })
}

/// The TLS handshake.
async fn shake<S: AsyncRead + AsyncWrite + Unpin>(
    connector: TlsConnector,
    name: ServerName<'static>,
    tcp: S,
    deadline: Instant,
) -> io::Result<TlsStream<S>> {
    match timeout_at(deadline, connector.connect(name, tcp)).await {
        Ok(shaken) => shaken,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer to the TLS handshake")),
    }
}

/// The failures in words.
pub(crate) fn words(failures: &Failures) -> String {
    race::words(failures)
}
