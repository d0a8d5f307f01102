//! What carries the messages between the trial and a server.

use std::{
    fmt, io,
    net::{Ipv6Addr, SocketAddr},
};

use mesh_link::{CarrierError, Duplex, Via};
use mesh_proto::relay::Place;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UdpSocket,
};

/// The largest message that is taken, in bytes.
const LARGEST: usize = 2048;
/// The header of a STUN message (RFC 8489 §5): its length, without the header, is the second of its 16-bit numbers.
const HEADER: usize = 20;

/// Where a server is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum At {
    Udp(SocketAddr),
    Tcp(Place),
    Tls(Place),
}

impl At {
    /// The protocol, in words.
    pub(super) const fn protocol(&self) -> &'static str {
        match self {
            Self::Udp(_) => "UDP",
            Self::Tcp(_) => "TCP",
            Self::Tls(_) => "TLS",
        }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(at) => at.fmt(f),
            Self::Tcp(place) | Self::Tls(place) => write!(f, "{place} ({})", self.protocol()),
        }
    }
}

/// Messages to one server, and from it.
pub(super) enum Wire {
    Datagrams(UdpSocket),
    Stream { stream: Box<dyn Duplex>, arrived: Vec<u8> },
}

impl Wire {
    pub(super) async fn datagrams(at: SocketAddr) -> io::Result<Self> {
        let any: SocketAddr = match at {
            SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(at).await?;
        Ok(Self::Datagrams(socket))
    }

    pub(super) async fn stream(place: &Place, via: Via) -> Result<Self, CarrierError> {
        Ok(Self::Stream { stream: mesh_link::stream(place, via).await?, arrived: vec![] })
    }

    /// Whether a message may be lost, so that it is sent again.
    pub(super) const fn loses(&self) -> bool {
        matches!(self, Self::Datagrams(_))
    }

    pub(super) async fn send(&mut self, message: &[u8]) -> io::Result<()> {
        match self {
            Self::Datagrams(socket) => socket.send(message).await.map(drop),
            Self::Stream { stream, .. } => {
                stream.write_all(message).await?;
                stream.flush().await
            }
        }
    }

    /// The next message. Nothing is lost if the wait for it ends.
    pub(super) async fn receive(&mut self) -> io::Result<Vec<u8>> {
        match self {
            Self::Datagrams(socket) => {
                let mut bytes = vec![0; LARGEST];
                let length = socket.recv(&mut bytes).await?;
                bytes.truncate(length);
                Ok(bytes)
            }
            Self::Stream { stream, arrived } => loop {
                if let Some(length) = whole(arrived)? {
                    return Ok(arrived.drain(..length).collect());
                }
                if stream.read_buf(arrived).await? == 0 {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it has closed the connection"));
                }
            },
        }
    }
}

/// How long the first message is, once it is there whole. Nothing but STUN messages is expected: no channel is bound.
fn whole(arrived: &[u8]) -> io::Result<Option<usize>> {
    let [_, _, high, low, ..] = *arrived else { return Ok(None) };
    let length = HEADER + usize::from(u16::from_be_bytes([high, low]));
    if length > LARGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "what it sends is no STUN message"));
    }
    Ok((arrived.len() >= length).then_some(length))
}
