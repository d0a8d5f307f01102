//! A TURN client (RFC 8656) of a few requests, one at a time.

use std::{
    net::{IpAddr, SocketAddr},
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
use tokio::time::timeout;
use turn_types::{
    AddressFamily,
    attribute::{Data, Lifetime, RequestedAddressFamily, RequestedTransport, XorPeerAddress, XorRelayedAddress},
    message::{ALLOCATE, CREATE_PERMISSION, DATA, REFRESH, SEND},
};

use super::wire::Wire;

/// How long each copy of a request is waited for (RFC 8489 §6.2.1, with fewer), and the only one where none is lost.
const WAITS: [Duration; 4] =
    [Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];
const WAIT: [Duration; 1] = [Duration::from_secs(4)];
/// A server that is no amplifier answers a stranger with no more bytes than it was asked with: a request without
/// credentials is at least as long as its answer.
const FILL: &str = "mesh-coord relay add                ";

/// Why a request fails.
pub(super) enum Error {
    Silent,
    NotTurn(String),
    /// By this error code.
    Refused(u16),
}

/// One client of a server.
pub(super) struct Turn {
    wire: Wire,
    login: RelayCredential,
    /// The realm, the nonce, and the key that follows.
    challenge: Option<(String, String, IntegrityKey)>,
}

impl Turn {
    pub(super) const fn new(wire: Wire, login: RelayCredential) -> Self {
        Self { wire, login, challenge: None }
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
    pub(super) async fn send(&mut self, peer: SocketAddr, data: &[u8]) {
        let id = TransactionId::generate();
        let kind = MessageType::from_class_method(MessageClass::Indication, SEND);
        let mut message = Message::builder(kind, id, MessageWriteVec::new());
        let written = message.add_attribute(&XorPeerAddress::new(peer, id));
        if written.and_then(|()| message.add_attribute(&Data::new(data))).is_ok() {
            let _ = self.wire.send(&message.finish()).await;
        }
    }

    /// Whether this datagram of a peer's arrives.
    pub(super) async fn receives(&mut self, data: &[u8], wait: Duration) -> bool {
        let arrival = async {
            loop {
                let bytes = match self.wire.receive().await {
                    Ok(bytes) => bytes,
                    // An ICMP error of an earlier datagram.
                    Err(_) if self.wire.loses() => continue,
                    Err(_) => return false,
                };
                let Ok(message) = Message::from_bytes(&bytes) else { continue };
                let is_data = message.has_class(MessageClass::Indication) && message.has_method(DATA);
                if is_data && message.attribute::<Data<'_>>().is_ok_and(|arrived| arrived.data() == data) {
                    return true;
                }
            }
        };
        timeout(wait, arrival).await.unwrap_or(false)
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

    async fn exchange(&mut self, id: TransactionId, request: &[u8]) -> Result<Vec<u8>, Error> {
        let mut refused = None;
        let waits = if self.wire.loses() { &WAITS[..] } else { &WAIT };
        for wait in waits {
            // An ICMP error of an earlier datagram, as where nothing listens, is told here.
            if let Err(error) = self.wire.send(request).await {
                refused = Some(error.to_string());
            }
            let answer = async {
                loop {
                    let bytes = self.wire.receive().await?;
                    let ours = Message::from_bytes(&bytes)
                        .is_ok_and(|message| message.is_response() && message.transaction_id() == id);
                    if ours {
                        return Ok(bytes);
                    }
                }
            };
            match timeout(*wait, answer).await {
                Ok(Ok(bytes)) => return Ok(bytes),
                Ok(Err(error)) => {
                    let error: std::io::Error = error;
                    refused = Some(error.to_string());
                }
                Err(_) => {}
            }
        }
        Err(refused.map_or(Error::Silent, Error::NotTurn))
    }
}

fn not_turn(error: impl std::fmt::Display) -> Error {
    Error::NotTurn(format!("its answer can't be read: {error}"))
}
