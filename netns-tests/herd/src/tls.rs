//! TLS to the coordinator under test, which the same program has started.

use std::{io, net::Ipv4Addr, net::SocketAddr, sync::Arc};

use mesh_netns_tests::trusting;
use rustls::{client::Resumption, pki_types::ServerName};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Full handshakes, as after an agent's start.
pub(crate) fn connector() -> TlsConnector {
    let mut config = trusting();
    config.resumption = Resumption::disabled();
    TlsConnector::from(Arc::new(config))
}

/// Connects from an address of loopback that is this runner's only, since places are shared by address.
pub(crate) async fn connect(
    connector: &TlsConnector,
    to: SocketAddr,
    runner: usize,
) -> io::Result<TlsStream<TcpStream>> {
    let [.., high, low] = u32::try_from(runner + 1).unwrap_or_default().to_be_bytes();
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 1, high, low), 0).into())?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    connector.connect(ServerName::IpAddress(to.ip().into()), stream).await
}
