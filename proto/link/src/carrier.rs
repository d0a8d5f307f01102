//! Connections to relays (TURN over TCP and over TLS, RFC 8656 §3.1), for the thread that uses them.

use std::fmt;

use mesh_proto::{relay, token::Fingerprint};
use rustls::ClientConnection;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    dial::{AttemptError, Dialed, Route, dial, words},
    pin,
    place::Place,
    proxy::Proxies,
    race::Why,
};

/// What a relay's TLS is called (RFC 7443 §3.1), so that a server can share its port with others.
const PROTOCOL: &[u8] = b"stun.turn";

/// How a relay is spoken with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// Plain TCP.
    Tcp,
    /// TLS to the server whose key has this fingerprint.
    Tls(Fingerprint),
}

/// A connection to a relay.
#[derive(Debug)]
pub struct Carrier {
    /// The connection: it doesn't block, and sends at once (`TCP_NODELAY`).
    pub socket: std::net::TcpStream,
    /// The TLS session on it, after its handshake.
    pub tls: Option<Box<ClientConnection>>,
    /// Where the relay was reached, `HOST:PORT`.
    pub place: String,
    /// The proxy that leads there.
    pub proxy: Option<String>,
}

/// Why there is no connection.
#[derive(Debug)]
pub struct CarrierError {
    /// Where it was tried.
    places: String,
    why: String,
    /// What an operator may try, if that is known.
    hint: Option<&'static str>,
}

impl CarrierError {
    fn new(places: &[relay::Place], why: String, hint: Option<&'static str>) -> Self {
        let places = places.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Self { places, why, hint }
    }

    /// What an operator may try, if that is known.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        self.hint
    }
}

impl fmt::Display for CarrierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot reach the relay at {}: {}", self.places, self.why)
    }
}

impl std::error::Error for CarrierError {}

/// Connects to a relay at the first of these places that works, by the proxies that apply.
///
/// # Errors
/// If none works.
pub async fn carrier(places: &[relay::Place], via: Via, proxies: &Proxies) -> Result<Carrier, CarrierError> {
    let (dialed, index) = reach(places, via, proxies).await?;
    let at = places.get(index);
    let proxy = at.and_then(|place| Route::to(&Place::of(place), proxies).proxy).map(|proxy| proxy.to_string());
    let place = at.map(ToString::to_string).unwrap_or_default();
    let (tcp, tls) = match dialed {
        Dialed::Tcp(tcp) => (tcp, None),
        Dialed::Tls(stream) => {
            let (tcp, session) = stream.into_inner();
            (tcp, Some(Box::new(session)))
        }
    };
    let socket = tcp.into_std().map_err(|e| CarrierError::new(places, e.to_string(), None))?;
    Ok(Carrier { socket, tls, place, proxy })
}

/// A stream of bytes in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Connects to a relay at one place, without a proxy, for a task that waits for its answers.
///
/// # Errors
/// If it doesn't answer there, or has another key.
pub async fn stream(place: &relay::Place, via: Via) -> Result<Box<dyn Duplex>, CarrierError> {
    Ok(match reach(std::slice::from_ref(place), via, &Proxies::none()).await?.0 {
        Dialed::Tcp(tcp) => Box::new(tcp),
        Dialed::Tls(tls) => tls,
    })
}

/// The connection, and which place it leads to.
async fn reach(places: &[relay::Place], via: Via, proxies: &Proxies) -> Result<(Dialed, usize), CarrierError> {
    if places.is_empty() {
        return Err(CarrierError::new(places, "no address is known".to_owned(), None));
    }
    let routes: Vec<Route> = places.iter().map(|place| Route::to(&Place::of(place), proxies)).collect();
    let tls = match via {
        Via::Tcp => None,
        Via::Tls(fingerprint) => Some(pin::connector(fingerprint, Some(PROTOCOL))),
    };
    let tls = tls.transpose().map_err(|e| CarrierError::new(places, e.to_string(), None))?;
    dial(&routes, tls.as_ref()).await.map_err(|failures| {
        let hint = failures.iter().find_map(|failed| match &failed.why {
            Why::Attempt(AttemptError::Proxy(error)) => Some(error.hint()),
            _ => None,
        });
        CarrierError::new(places, words(&failures), hint)
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use rcgen::KeyPair;
    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::lab;

    /// What the server sends, read as the data plane's thread does.
    async fn greeting(mut carrier: Carrier) -> String {
        carrier.socket.set_nonblocking(false).unwrap();
        tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            match carrier.tls.as_deref_mut() {
                Some(session) => rustls::Stream::new(session, &mut carrier.socket).read_to_string(&mut text).unwrap(),
                None => carrier.socket.read_to_string(&mut text).unwrap(),
            };
            text
        })
        .await
        .unwrap()
    }

    #[tokio::test]
    async fn a_relay_is_reached_by_tls_with_its_name_and_its_protocol() {
        let (place, fingerprint, seen) = lab::server(&["x"], &KeyPair::generate().unwrap()).await;
        let (proxy, asked) = lab::proxy("HTTP/1.1 200 OK\r\n\r\n", place.clone()).await;
        let named = ["relay.invalid:443".parse().unwrap()];
        let by = Proxies::at(&proxy, "");
        let carrier_ = carrier(&named, Via::Tls(fingerprint), &by).await.unwrap();
        assert_eq!(
            (carrier_.place.as_str(), carrier_.proxy.clone()),
            ("relay.invalid:443", Some(format!("http://{proxy}")))
        );
        assert_eq!(greeting(carrier_).await, "hello");
        assert!(asked.lock().unwrap()[0].starts_with("CONNECT relay.invalid:443 "));
        let direct = carrier(&[place.parse().unwrap()], Via::Tls(fingerprint), &by).await.unwrap();
        assert_eq!(direct.proxy, None);
        assert_eq!(greeting(direct).await, "hello");
        let protocol = Some(b"stun.turn".to_vec());
        assert_eq!(*seen.lock().unwrap(), [(Some("relay.invalid".to_owned()), protocol.clone()), (None, protocol)]);
    }

    #[tokio::test]
    async fn a_relay_with_another_key_is_refused_and_one_that_is_gone_is_named() {
        let (place, ..) = lab::server(&["x"], &KeyPair::generate().unwrap()).await;
        let (gone, _socket) = lab::closed();
        let none = Proxies::none();
        let error = carrier(&[place.parse().unwrap()], Via::Tls(Fingerprint([0; 32])), &none).await.unwrap_err();
        assert!(error.to_string().contains("another server answers"), "{error}");
        let error = carrier(&[gone.parse().unwrap()], Via::Tcp, &none).await.unwrap_err();
        assert!(error.to_string().contains(&gone) && error.to_string().contains("refused"), "{error}");
        assert!(carrier(&[], Via::Tcp, &none).await.is_err());
    }

    #[tokio::test]
    async fn of_several_addresses_the_one_that_works_is_used() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut tcp, _) = listener.accept().await.unwrap();
            tcp.write_all(b"plain").await.unwrap();
        });
        let (gone, _socket) = lab::closed();
        let carrier =
            carrier(&[gone.parse().unwrap(), place.parse().unwrap()], Via::Tcp, &Proxies::none()).await.unwrap();
        assert_eq!(carrier.place, place);
        assert!(carrier.socket.nodelay().unwrap() && carrier.tls.is_none());
        assert_eq!(greeting(carrier).await, "plain");
    }
}
