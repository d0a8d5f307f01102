//! A client that says exactly what a test wants.

use std::net::{IpAddr, SocketAddr};

use mesh_proto::{RelayId, RunnerId, relay::RelaySecret};
use stun_types::{
    attribute::{ErrorCode, MessageIntegrity, Nonce, Realm, Software, Username, XorMappedAddress},
    message::{
        BINDING, IntegrityAlgorithm, IntegrityKey, LongTermKeyCredentials, Message, MessageWriteVec, Method,
        TransactionId,
    },
    prelude::{AttributeStaticType as _, AttributeWrite, MessageWrite as _, MessageWriteExt as _},
};
use turn_types::{
    attribute::{ChannelNumber, Data, Lifetime, RequestedTransport, XorPeerAddress, XorRelayedAddress},
    message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, REFRESH, SEND},
};

use super::{SECRET, Way, World, YEAR_2026, udp};

pub(super) struct Client {
    pub(super) way: Way,
    pub(super) username: String,
    pub(super) password: String,
    pub(super) nonce: String,
    pub(super) realm: &'static str,
    pub(super) relayed: Option<SocketAddr>,
}

/// What a request was answered with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answered {
    Yes,
    No(u16),
    Silence,
}
use Answered::{No, Silence, Yes};

impl Client {
    /// A runner with credentials for a week.
    pub(super) fn new(runner: u64, remote: &str) -> Self {
        Self::of(runner, udp(remote), YEAR_2026 + 7 * 86_400)
    }

    pub(super) fn of(runner: u64, way: Way, until: u64) -> Self {
        let secret: RelaySecret = SECRET.parse().unwrap();
        let credential = secret.credential(RunnerId(runner), RelayId(1), until);
        let (username, password) = (credential.username, credential.password.expose().to_owned());
        Self { way, username, password, nonce: String::new(), realm: "mesh", relayed: None }
    }

    /// One with an allocation that permits data.
    pub(super) fn ready(world: &mut World, runner: u64, remote: &str) -> Self {
        let mut client = Self::new(runner, remote);
        assert_eq!(client.allocate(world), Yes);
        assert_eq!(client.permit(world, super::PUBLIC), Yes);
        client
    }

    pub(super) fn relayed(&self) -> SocketAddr {
        self.relayed.unwrap()
    }

    fn key(&self) -> IntegrityKey {
        LongTermKeyCredentials::new(self.username.clone(), self.password.clone(), self.realm.to_owned())
            .make_key(IntegrityAlgorithm::Sha1)
    }

    /// A signed request.
    pub(super) fn request(&self, method: Method, with: &[&dyn AttributeWrite], id: TransactionId) -> Vec<u8> {
        let kind =
            stun_types::message::MessageType::from_class_method(stun_types::message::MessageClass::Request, method);
        let mut message = Message::builder(kind, id, MessageWriteVec::new());
        with.iter().for_each(|attribute| message.add_attribute(*attribute).unwrap());
        message.add_attribute(&Username::new(&self.username).unwrap()).unwrap();
        message.add_attribute(&Realm::new(self.realm).unwrap()).unwrap();
        message.add_attribute(&Nonce::new(&self.nonce).unwrap()).unwrap();
        message.add_message_integrity_with_key(&self.key(), IntegrityAlgorithm::Sha1).unwrap();
        message.finish()
    }

    /// An Allocate without credentials, padded to a length.
    pub(super) fn greeting(length: usize) -> Vec<u8> {
        let mut message = Message::builder_request(ALLOCATE, MessageWriteVec::new());
        message.add_attribute(&RequestedTransport::new(RequestedTransport::UDP)).unwrap();
        if length > 32 {
            message.add_attribute(&Software::new(&" ".repeat(length - 32)).unwrap()).unwrap();
        }
        message.finish()
    }

    pub(super) fn binding(length: usize) -> Vec<u8> {
        let mut message = Message::builder_request(BINDING, MessageWriteVec::new());
        if length > 24 {
            message.add_attribute(&Software::new(&" ".repeat(length - 24)).unwrap()).unwrap();
        }
        message.finish()
    }

    /// Asks without credentials first, for a nonce.
    pub(super) fn allocate(&mut self, world: &mut World) -> Answered {
        if let Some(answer) = world.take(self.way, &Self::greeting(64)) {
            self.challenged(&answer);
        }
        self.allocate_again(world, TransactionId::generate())
    }

    pub(super) fn challenged(&mut self, answer: &[u8]) -> u16 {
        let answer = Message::from_bytes(answer).unwrap();
        answer.attribute::<Nonce>().unwrap().nonce().clone_into(&mut self.nonce);
        assert_eq!(answer.attribute::<Realm>().unwrap().realm(), "mesh");
        answer.attribute::<ErrorCode>().unwrap().code()
    }

    pub(super) fn allocate_again(&mut self, world: &mut World, id: TransactionId) -> Answered {
        let request = self.request(ALLOCATE, &[&RequestedTransport::new(RequestedTransport::UDP)], id);
        let Some(answer) = world.take(self.way, &request) else { return Silence };
        let answer = Message::from_bytes(&answer).unwrap();
        if let Ok(relayed) = answer.attribute::<XorRelayedAddress>() {
            self.relayed = Some(relayed.addr(id));
            assert_eq!(answer.attribute::<XorMappedAddress>().unwrap().addr(id), self.way.remote());
            assert_eq!(answer.attribute::<Lifetime>().unwrap().seconds(), 600);
        }
        self.read(&answer)
    }

    /// What an answer says. One that grants something has to be signed.
    pub(super) fn read(&self, answer: &Message<'_>) -> Answered {
        match answer.attribute::<ErrorCode>() {
            Ok(error) => {
                let signed = answer.has_attribute(MessageIntegrity::TYPE);
                assert!(!signed || answer.validate_integrity_with_key(&self.key()).is_ok());
                No(error.code())
            }
            Err(_) => {
                answer.validate_integrity_with_key(&self.key()).unwrap();
                Yes
            }
        }
    }

    pub(super) fn ask(&self, world: &mut World, method: Method, with: &[&dyn AttributeWrite], id: u128) -> Answered {
        let request = self.request(method, with, id.into());
        match world.take(self.way, &request) {
            Some(answer) => self.read(&Message::from_bytes(&answer).unwrap()),
            None => Silence,
        }
    }

    pub(super) fn refresh(&self, world: &mut World, seconds: u32) -> Answered {
        self.ask(world, REFRESH, &[&Lifetime::new(seconds)], 11)
    }

    pub(super) fn permit(&self, world: &mut World, peer: &str) -> Answered {
        let peer: IpAddr = peer.parse().unwrap();
        self.ask(world, CREATE_PERMISSION, &[&XorPeerAddress::new((peer, 0).into(), 12.into())], 12)
    }

    pub(super) fn bind(&self, world: &mut World, number: u16, peer: SocketAddr) -> Answered {
        let peer = XorPeerAddress::new(peer, 13.into());
        self.ask(world, CHANNEL_BIND, &[&ChannelNumber::new(number), &peer], 13)
    }

    /// Sends by an indication.
    pub(super) fn send(&self, world: &mut World, peer: SocketAddr, data: &[u8]) {
        let mut message = Message::builder_indication(SEND, MessageWriteVec::new());
        let peer = XorPeerAddress::new(peer, message.transaction_id());
        message.add_attribute(&peer).unwrap();
        message.add_attribute(&Data::new(data)).unwrap();
        assert_eq!(world.take(self.way, &message.finish()), None);
    }

    /// Sends by a channel.
    pub(super) fn say(&self, world: &mut World, number: u16, data: &[u8]) {
        assert_eq!(world.take(self.way, &channel(number, data)), None);
    }
}

pub(super) fn channel(number: u16, data: &[u8]) -> Vec<u8> {
    [&number.to_be_bytes()[..], &(data.len() as u16).to_be_bytes(), data].concat()
}

/// The sender and the data of a Data indication.
pub(super) fn heard(message: &[u8]) -> (SocketAddr, Vec<u8>) {
    let message = Message::from_bytes(message).unwrap();
    assert!(message.has_method(turn_types::message::DATA));
    let peer = message.attribute::<XorPeerAddress>().unwrap().addr(message.transaction_id());
    (peer, message.attribute::<Data<'_>>().unwrap().data().to_vec())
}
