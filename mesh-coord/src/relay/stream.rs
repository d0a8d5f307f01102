//! Connections by TCP and TLS, for clients whose network lets no datagrams out.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Result;
use mesh_relay::{Kind, Malformed, Stream, Turn, Way};
use mesh_udp::Udp;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use super::{
    Listen,
    output::{Batches, Output},
    shared::{Shared, Waiting},
};
use crate::{
    http::server::{listen, raise_descriptors},
    places::{Place, Room, Seats, Stage},
    tls::Identity,
};

/// How long a client may take until it has an allocation.
const GREETING: Duration = Duration::from_secs(15);
/// The bytes of a socket that are not sent yet (`TCP_NOTSENT_LOWAT`, tcp(7)): what is more waits where it can be dropped.
const UNSENT: u32 = 128 << 10;
/// What is read at once.
const CHUNK: usize = 64 << 10;
/// The pause after an error of `accept`, because a descriptor may be free again soon.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The listening sockets for connections.
#[derive(Debug)]
pub(super) struct Listeners {
    plain: TcpListener,
    tls: Option<TcpListener>,
}

/// What every connection needs.
struct Server {
    shared: Arc<Shared>,
    udp: Arc<Udp>,
    seats: Seats,
    descriptors: Arc<Semaphore>,
}

impl Listeners {
    pub(super) fn bind(addresses: &Listen) -> Result<Self> {
        let tls = addresses.tls.map(|at| listen(at, "--tls")).transpose()?;
        Ok(Self { plain: listen(addresses.plain, "--listen")?, tls })
    }

    /// Serves connections until this is dropped. What they send to clients by UDP leaves by `udp`.
    pub(super) async fn serve(self, shared: &Arc<Shared>, udp: Arc<Udp>, identity: &Identity) -> Infallible {
        let places = raise_descriptors();
        let (shared, seats) = (Arc::clone(shared), Seats::new(Room::of(places)));
        let server = Arc::new(Server { shared, udp, seats, descriptors: Arc::new(Semaphore::new(places)) });
        let tls = async {
            match self.tls {
                Some(listener) => server.accept(listener, Some(identity.certificate.subscribe())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            never = server.accept(self.plain, None) => never,
            never = tls => never,
        }
    }
}

impl Server {
    async fn accept(
        self: &Arc<Self>,
        listener: TcpListener,
        tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    ) -> Infallible {
        loop {
            let Ok(descriptor) = Arc::clone(&self.descriptors).acquire_owned().await else {
                return std::future::pending().await;
            };
            let (tcp, remote) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
            let place = self.seats.enter(remote.ip());
            let acceptor = tls.as_ref().map(|tls| TlsAcceptor::from(for_turn(&tls.borrow())));
            let server = Arc::clone(self);
            tokio::spawn(async move {
                server.greet(tcp, remote, acceptor, place).await;
                drop(descriptor);
            });
        }
    }

    async fn greet(&self, tcp: TcpStream, remote: SocketAddr, tls: Option<TlsAcceptor>, place: Place) {
        let _ = tcp.set_nodelay(true);
        let _ = mesh_udp::limit_unsent(&tcp, UNSENT);
        let Some(tls) = tls else { return self.converse(tcp, remote, place).await };
        place.reach(Stage::Handshake);
        let held = place.clone();
        let accepted = tokio::select! {
            accepted = timeout(GREETING, tls.accept(tcp)) => accepted,
            () = held.lost() => return,
        };
        match accepted {
            Ok(Ok(stream)) => self.converse(stream, remote, place).await,
            _ => debug!(%remote, "no TLS handshake"),
        }
    }

    /// Carries one connection's messages until it ends.
    async fn converse(&self, io: impl AsyncRead + AsyncWrite, remote: SocketAddr, place: Place) {
        let (id, waiting) = self.shared.streams.open();
        let way = Way::Stream { id, remote };
        let (mut from, to) = split(io);
        let held = place.clone();
        let conversation = Conversation::new(self, way, place);
        tokio::select! {
            () = write(to, waiting) => {}
            () = conversation.read(&mut from) => {}
            () = held.lost() => {}
        }
        self.shared.streams.close(id);
        self.shared.write().gone(way.client());
    }
}

/// Writes what waits for a connection, until it ends or has to.
async fn write(mut to: impl AsyncWrite + Unpin, mut waiting: Waiting) {
    while let Some(bytes) = waiting.next().await {
        let written = to.write_all(&bytes).await;
        waiting.written(bytes.len());
        // TLS keeps what it has sealed until it is flushed.
        if written.is_err() || to.flush().await.is_err() {
            return;
        }
    }
}

/// One client on its connection.
struct Conversation<'a> {
    server: &'a Server,
    way: Way,
    /// A stranger's place, until the client has an allocation.
    place: Option<Place>,
    batches: Batches,
    turn: Turn,
}

impl<'a> Conversation<'a> {
    fn new(server: &'a Server, way: Way, place: Place) -> Self {
        Self { server, way, place: Some(place), batches: Batches::default(), turn: Turn::new() }
    }

    /// Takes what comes, until the connection ends, brings what is no TURN, or has no allocation (any more).
    async fn read(mut self, from: &mut (impl AsyncRead + Unpin)) {
        let mut stream = Stream::default();
        let mut chunk = vec![0; CHUNK];
        let greeting = tokio::time::Instant::now() + GREETING;
        loop {
            let came = match &self.place {
                Some(_) => tokio::time::timeout_at(greeting, from.read(&mut chunk)).await,
                None => Ok(from.read(&mut chunk).await),
            };
            let Ok(Ok(length @ 1..)) = came else { return };
            stream.push(&chunk[..length]);
            if self.take(&mut stream).is_err() {
                return;
            }
            let known = self.server.shared.read().knows(self.way.client());
            match (known, &self.place) {
                (true, Some(_)) => self.place = None,
                (false, None) => return,
                _ => {}
            }
        }
    }

    /// Takes the whole messages that have come.
    fn take(&mut self, stream: &mut Stream) -> Result<(), Malformed> {
        let shared = &self.server.shared;
        let now = shared.now();
        self.turn.begin(now, true);
        loop {
            let known = shared.read().knows(self.way.client());
            let Some((batch, stride)) = stream.next(known)? else { return Ok(()) };
            let kind = Kind::of(batch);
            if kind == Kind::Request {
                if let Some(answer) = shared.answer(&self.way, batch, now)
                    && let Way::Stream { id, .. } = self.way
                {
                    // A client that doesn't read its answers has no use for them.
                    let _ = shared.streams.send(id, answer);
                }
                continue;
            }
            let relay = shared.read();
            let (udp, batches, streams) = (&*self.server.udp, &mut self.batches, &shared.streams);
            let mut output = Output { udp, batches, streams, counters: &relay.counters };
            match kind {
                Kind::Channel => relay.carry(self.way.client(), batch, stride, now, &mut self.turn, &mut output),
                _ => relay.indicate(self.way.client(), batch, now, &mut self.turn, &mut output),
            }
        }
    }
}

/// The same key, for clients that name TURN in the handshake (RFC 7443) and for those that name nothing.
fn for_turn(config: &ServerConfig) -> Arc<ServerConfig> {
    let mut config = config.clone();
    config.alpn_protocols = vec![b"stun.turn".to_vec()];
    Arc::new(config)
}
