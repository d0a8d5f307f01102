//! A TURN client (RFC 8656) of a few requests over UDP, one at a time.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use mesh_proto::relay::RelayCredential;
use stun_types::{
    attribute::{ErrorCode, Nonce, Realm, Software, Username},
    message::{
        IntegrityAlgorithm, IntegrityKey, LongTermKeyCredentials, Message, MessageClass, MessageType, MessageWriteVec,
        Method, TransactionId,
    },
    prelude::{AttributeWrite, MessageWrite, MessageWriteExt},
};
use tokio::{net::UdpSocket, time::timeout};
use turn_types::{
    AddressFamily,
    attribute::{Data, Lifetime, RequestedAddressFamily, RequestedTransport, XorPeerAddress, XorRelayedAddress},
    message::{ALLOCATE, CREATE_PERMISSION, DATA, REFRESH, SEND},
};

/// How long each copy of a request is waited for (RFC 8489 §6.2.1, with fewer).
const WAITS: [Duration; 4] =
    [Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];
/// A server that is no amplifier answers a stranger with no more bytes than it was asked with: a request without
/// credentials is at least as long as its answer.
const FILL: &str = "mesh-coord relay add                ";
const LARGEST: usize = 2048;

/// Why a request fails.
pub(super) enum Error {
    Silent,
    NotTurn(String),
    /// By this error code.
    Refused(u16),
}

/// One client of a server.
pub(super) struct Turn {
    socket: UdpSocket,
    at: SocketAddr,
    login: RelayCredential,
    /// The realm, the nonce, and the key that follows.
    challenge: Option<(String, String, IntegrityKey)>,
}

impl Turn {
    pub(super) async fn open(at: SocketAddr, login: RelayCredential) -> Result<Self, Error> {
        let any: SocketAddr = match at {
            SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let failed = |error: std::io::Error| Error::NotTurn(error.to_string());
        let socket = UdpSocket::bind(any).await.map_err(failed)?;
        socket.connect(at).await.map_err(failed)?;
        Ok(Self { socket, at, login, challenge: None })
    }

    /// Asks for an address to relay from: of IPv4 if the server has one.
    pub(super) async fn allocate(&mut self) -> Result<SocketAddr, Error> {
        let transport = RequestedTransport::new(RequestedTransport::UDP);
        let family = RequestedAddressFamily::new(AddressFamily::IPV6);
        let answer = match self.ask(ALLOCATE, |_| vec![Box::new(transport.clone())]).await {
            Err(Error::Refused(440)) => {
                self.ask(ALLOCATE, |_| vec![Box::new(transport.clone()), Box::new(family.clone())]).await?
            }
            answer => answer?,
        };
        let answer = Message::from_bytes(&answer).map_err(not_turn)?;
        let relayed = answer.attribute::<XorRelayedAddress>().map_err(not_turn)?.addr(answer.transaction_id());
        Ok(SocketAddr::new(relayed.ip().to_canonical(), relayed.port()))
    }

    /// Asks that datagrams pass between the allocation and a peer.
    pub(super) async fn permit(&mut self, peer: IpAddr) -> Result<(), Error> {
        let peer = SocketAddr::new(peer, 0);
        self.ask(CREATE_PERMISSION, |id| vec![Box::new(XorPeerAddress::new(peer, id))]).await.map(drop)
    }

    /// Ends the allocation. Without an answer it ends by itself.
    pub(super) async fn release(&mut self) {
        let _ = self.ask(REFRESH, |_| vec![Box::new(Lifetime::new(0))]).await;
    }

    /// Sends a datagram to a peer. It may be lost.
    pub(super) async fn send(&self, peer: SocketAddr, data: &[u8]) {
        let id = TransactionId::generate();
        let kind = MessageType::from_class_method(MessageClass::Indication, SEND);
        let mut message = Message::builder(kind, id, MessageWriteVec::new());
        let written = message.add_attribute(&XorPeerAddress::new(peer, id));
        if written.and_then(|()| message.add_attribute(&Data::new(data))).is_ok() {
            let _ = self.socket.send(&message.finish()).await;
        }
    }

    /// Whether this datagram of a peer's arrives.
    pub(super) async fn receives(&self, data: &[u8], wait: Duration) -> bool {
        let arrival = async {
            loop {
                let Ok(bytes) = self.receive().await else { continue };
                let Ok(message) = Message::from_bytes(&bytes) else { continue };
                let is_data = message.has_class(MessageClass::Indication) && message.has_method(DATA);
                if is_data && message.attribute::<Data<'_>>().is_ok_and(|arrived| arrived.data() == data) {
                    return;
                }
            }
        };
        timeout(wait, arrival).await.is_ok()
    }

    /// Sends a request until it is answered, and logs in when the server asks for that.
    async fn ask(
        &mut self,
        method: Method,
        attributes: impl Fn(TransactionId) -> Vec<Box<dyn AttributeWrite>>,
    ) -> Result<Vec<u8>, Error> {
        for _ in 0..3 {
            let id = TransactionId::generate();
            let request = self.request(method, id, &attributes(id));
            let request = request.ok_or_else(|| Error::NotTurn("its realm or nonce is too long".to_owned()))?;
            let answer = self.exchange(id, &request).await?;
            let message = Message::from_bytes(&answer).map_err(not_turn)?;
            if message.has_class(MessageClass::Success) {
                return Ok(answer);
            }
            let code = message.attribute::<ErrorCode>().map_err(not_turn)?.code();
            // 401: log in (RFC 8489 §9.2.5); 438: the nonce was too old.
            let again = code == 438 || code == 401 && self.challenge.is_none();
            if !again || !self.take_challenge(&message) {
                return Err(Error::Refused(code));
            }
        }
        Err(Error::Refused(ErrorCode::STALE_NONCE))
    }

    fn take_challenge(&mut self, message: &Message<'_>) -> bool {
        let (Ok(realm), Ok(nonce)) = (message.attribute::<Realm>(), message.attribute::<Nonce>()) else { return false };
        let RelayCredential { username, password, .. } = &self.login;
        let (realm, nonce) = (realm.realm().to_owned(), nonce.nonce().to_owned());
        let credentials = LongTermKeyCredentials::new(username.clone(), password.expose().to_owned(), realm.clone());
        self.challenge = Some((realm, nonce, credentials.make_key(IntegrityAlgorithm::Sha1)));
        true
    }

    /// The request, with credentials once the server has asked for them; `None` if it has asked for such that no message
    /// can hold.
    fn request(&self, method: Method, id: TransactionId, attributes: &[Box<dyn AttributeWrite>]) -> Option<Vec<u8>> {
        let kind = MessageType::from_class_method(MessageClass::Request, method);
        let mut message = Message::builder(kind, id, MessageWriteVec::new());
        for attribute in attributes {
            message.add_attribute(&**attribute).ok()?;
        }
        match &self.challenge {
            None => message.add_attribute(&Software::new(FILL).ok()?).ok()?,
            Some((realm, nonce, key)) => {
                message.add_attribute(&Username::new(&self.login.username).ok()?).ok()?;
                message.add_attribute(&Realm::new(realm).ok()?).ok()?;
                message.add_attribute(&Nonce::new(nonce).ok()?).ok()?;
                message.add_message_integrity_with_key(key, IntegrityAlgorithm::Sha1).ok()?;
            }
        }
        Some(message.finish())
    }

    async fn exchange(&self, id: TransactionId, request: &[u8]) -> Result<Vec<u8>, Error> {
        let mut refused = None;
        for wait in WAITS {
            // An ICMP error of an earlier datagram, as where nothing listens, is told here.
            if let Err(error) = self.socket.send(request).await {
                refused = Some(error.to_string());
            }
            let answer = async {
                loop {
                    let bytes = self.receive().await?;
                    let ours = Message::from_bytes(&bytes)
                        .is_ok_and(|message| message.is_response() && message.transaction_id() == id);
                    if ours {
                        return Ok(bytes);
                    }
                }
            };
            match timeout(wait, answer).await {
                Ok(Ok(bytes)) => return Ok(bytes),
                Ok(Err(error)) => {
                    let error: std::io::Error = error;
                    refused = Some(error.to_string());
                }
                Err(_) => {}
            }
        }
        Err(refused.map_or(Error::Silent, |why| Error::NotTurn(format!("{why} (UDP, {})", self.at))))
    }

    async fn receive(&self) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; LARGEST];
        let length = self.socket.recv(&mut bytes).await?;
        bytes.truncate(length);
        Ok(bytes)
    }
}

fn not_turn(error: impl std::fmt::Display) -> Error {
    Error::NotTurn(format!("its answer can't be read: {error}"))
}
