//! The listeners: TCP with TLS for both address families, and the admin socket. Each connection holds one of a
//! limited number of places, also as a runner's stream, and has little time to send its request.

use std::{
    convert::Infallible,
    fs, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use axum::{Router, extract::Request};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::{
    sys::{
        resource::{Resource, getrlimit, setrlimit},
        socket::{setsockopt, sockopt},
    },
    unistd::{Uid, geteuid},
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, TcpStream, UnixListener},
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;
use tracing::{debug, warn};

use crate::places::{Place, Room, Seats, Stage};

/// How long the TLS handshake may take, and how long a connection may wait for a request's headers.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that may wait in the kernel.
const BACKLOG: u32 = 1024;
/// The most connections at once, if the system allows as many descriptors.
const MAX_CONNECTIONS: u64 = 16_384;
/// Connections at the admin socket at once.
const SOCKET_CONNECTIONS: usize = 64;
/// Descriptors for everything but TLS connections: the admin socket's connections, connections that are about to end,
/// files.
const SPARE_DESCRIPTORS: u64 = 192;
/// Connections that are about to end.
const LEAVING: usize = 64;
/// The limit of a request's headers, in bytes and in number.
const HEADERS: (usize, usize) = (16 << 10, 64);
/// The least number of places.
const LEAST_PLACES: u64 = 64;
/// The pause after an error of `accept`, because a descriptor may be free again soon.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The origin of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The admin socket, by the coordinator's own user or root.
    Socket {
        /// The user.
        uid: u32,
    },
    /// TLS, from this address.
    Network(SocketAddr),
}

/// Listens on `address`, which `flag` has given. `[::]` includes IPv4, and is `0.0.0.0` on a machine without IPv6.
///
/// # Errors
/// If the address is in use, isn't this machine's, or has a privileged port.
pub(crate) fn listen(address: SocketAddr, flag: &str) -> Result<TcpListener> {
    let bind = |address: SocketAddr| {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if address.is_ipv6() {
            setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
        }
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    let lacks_ipv6 =
        |error: &io::Error| matches!(error.raw_os_error(), Some(nix::libc::EAFNOSUPPORT | nix::libc::EADDRNOTAVAIL));
    match bind(address) {
        Err(error) if lacks_ipv6(&error) && address.ip() == Ipv6Addr::UNSPECIFIED => {
            bind((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        other => other,
    }
    .map_err(|error| anyhow!("cannot listen on {address}: {error}; choose another {flag}"))
}

/// Listens on the admin socket at `path`, in a directory that the caller holds.
///
/// # Errors
/// If the socket can't be created.
pub(crate) fn listen_unix(path: &Path) -> Result<UnixListener> {
    let shown = path.display();
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("the old socket {shown} cannot be removed"));
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).with_context(|| format!("the socket {shown} cannot be made"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .with_context(|| format!("the socket {shown} cannot be closed to others"))?;
    Ok(listener)
}

/// Serves the API over TLS until this is dropped, with the current certificate of `tls` for each new connection.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    router: Router,
    places: usize,
) -> Infallible {
    let seats = Seats::new(Room::of(places));
    let descriptors = Arc::new(Semaphore::new(places + LEAVING));
    loop {
        let Ok(descriptor) = Arc::clone(&descriptors).acquire_owned().await else {
            return std::future::pending().await;
        };
        let (tcp, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let peer = unmapped(peer);
        let place = seats.enter(peer.ip());
        let (acceptor, router) = (TlsAcceptor::from(Arc::clone(&tls.borrow())), router.clone());
        tokio::spawn(async move {
            let held = place.clone();
            tokio::select! {
                () = greet(tcp, peer, acceptor, place, router) => {}
                () = held.lost() => debug!(%peer, "a connection gave way to others"),
            }
            drop(descriptor);
        });
    }
}

/// Serves one connection from its first byte on.
async fn greet(tcp: TcpStream, peer: SocketAddr, acceptor: TlsAcceptor, place: Place, router: Router) {
    // Messages are small, and their senders wait for answers.
    let _ = tcp.set_nodelay(true);
    let handshake = async {
        // Readiness alone can be a false alarm.
        tcp.peek(&mut [0]).await?;
        place.reach(Stage::Handshake);
        acceptor.accept(tcp).await
    };
    match timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(tls)) => {
            place.reach(Stage::Idle);
            converse(tls, Origin::Network(peer), Some(place), router).await;
        }
        Ok(Err(error)) => debug!(%peer, %error, "no TLS handshake"),
        Err(_) => debug!(%peer, "the TLS handshake took too long"),
    }
}

/// Serves the API over the admin socket until this is dropped: to root and to the coordinator's own user.
pub(crate) async fn serve_unix(listener: UnixListener, router: Router) -> Infallible {
    let places = Arc::new(Semaphore::new(SOCKET_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return std::future::pending().await };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "a connection to the admin socket could not be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        match stream.peer_cred().map(|peer| Uid::from_raw(peer.uid())) {
            Ok(uid) if uid.is_root() || uid == geteuid() => {
                let served = converse(stream, Origin::Socket { uid: uid.as_raw() }, None, router.clone());
                tokio::spawn(async move {
                    served.await;
                    drop(place);
                });
            }
            Ok(uid) => warn!(%uid, "connection of another user to the admin socket refused"),
            Err(error) => warn!(%error, "the user at the admin socket is unknown: connection refused"),
        }
    }
}

/// The address without IPv4-in-IPv6 mapping (RFC 4291 §2.5.5.2).
fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

async fn converse(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    origin: Origin,
    place: Option<Place>,
    router: Router,
) {
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(origin);
        if let Some(place) = &place {
            place.reach(Stage::Busy);
            request.extensions_mut().insert(place.clone());
        }
        let (answer, place) = (router.clone().oneshot(request.map(axum::body::Body::new) as Request), place.clone());
        async move {
            let answer = answer.await;
            if let Some(place) = place {
                place.reach(Stage::Idle);
            }
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE_TIMEOUT)
        .max_buf_size(HEADERS.0)
        .max_headers(HEADERS.1)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        debug!(?origin, %error, "a connection ended early");
    }
}

/// Raises this process's limit of descriptors as far as allowed and useful. Returns how many connections that allows.
pub(crate) fn raise_descriptors() -> usize {
    let wanted = MAX_CONNECTIONS + SPARE_DESCRIPTORS;
    let allowed = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if soft < wanted => {
            let raised = wanted.min(hard);
            setrlimit(Resource::RLIMIT_NOFILE, raised, hard).map_or(soft, |()| raised)
        }
        Ok(_) => wanted,
        Err(_) => 1024,
    };
    usize::try_from(allowed.saturating_sub(SPARE_DESCRIPTORS).max(LEAST_PLACES)).unwrap_or(1024)
}
