//! How much memory clients can make a relay hold.
#![allow(clippy::unwrap_used, reason = "a test fails by panics")]

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use mesh_proto::{
    RelayId, RunnerId,
    relay::{RelayCredential, RelaySecret},
};
use mesh_relay::{Asked, Limits, Now, Relay, Settings, Way};
use stun_types::{
    attribute::{Nonce, Realm, Username},
    message::{
        IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageClass, MessageType, MessageWriteVec, Method,
    },
    prelude::{AttributeWrite, MessageWrite as _, MessageWriteExt as _},
};
use turn_types::{
    attribute::{ChannelNumber, RequestedTransport, XorPeerAddress, XorRelayedAddress},
    message::{ALLOCATE, CHANNEL_BIND},
};

mod heap;

static TICKS: AtomicU64 = AtomicU64::new(1000);
const NOW: Now = Now { since: Duration::from_secs(1), unix: 1_780_000_000 };
/// What an allocation may take, and a channel.
const BOUNDS: (usize, usize) = (2048, 64);

/// A signed request of a client at its own address.
fn request(relay: &mut Relay, client: u64, method: Method, with: &[&dyn AttributeWrite]) -> Vec<u8> {
    let secret: RelaySecret = "secret".parse().unwrap();
    let RelayCredential { username, password, .. } = secret.credential(RunnerId(client), RelayId(1), NOW.unix + 60);
    let remote = SocketAddr::from(([10, (client >> 8) as u8, client as u8, 1], 1000));
    let way = Way::Udp { remote, local: None };
    let make = |nonce: Option<&str>| {
        let kind = MessageType::from_class_method(MessageClass::Request, method);
        let mut message = Message::builder(kind, 7.into(), MessageWriteVec::new());
        with.iter().for_each(|attribute| message.add_attribute(*attribute).unwrap());
        message.add_attribute(&Username::new(&username).unwrap()).unwrap();
        message.add_attribute(&Realm::new("mesh").unwrap()).unwrap();
        message.add_attribute(&Nonce::new(nonce.unwrap_or("none")).unwrap()).unwrap();
        let key = LongTermKeyCredentials::new(username.clone(), password.expose().to_owned(), "mesh".to_owned());
        message
            .add_message_integrity_with_key(&key.make_key(IntegrityAlgorithm::Sha1), IntegrityAlgorithm::Sha1)
            .unwrap();
        message.finish()
    };
    // The clock goes on, since an address asks for so much a second.
    let now = Now { since: Duration::from_millis(TICKS.fetch_add(10, Ordering::Relaxed)), ..NOW };
    let Asked::Answer(stale) = relay.ask(&way, &make(None), now) else { panic!("no nonce") };
    let stale = Message::from_bytes(&stale).unwrap();
    let nonce = stale.attribute::<Nonce>().unwrap();
    let Asked::Change(change) = relay.ask(&way, &make(Some(nonce.nonce())), now) else { panic!("refused") };
    relay.change(change, now).answer
}

fn allocate(relay: &mut Relay, client: u64) -> SocketAddr {
    let answer = request(relay, client, ALLOCATE, &[&RequestedTransport::new(RequestedTransport::UDP)]);
    Message::from_bytes(&answer).unwrap().attribute::<XorRelayedAddress>().unwrap().addr(7.into())
}

#[test]
fn an_allocation_and_a_channel_are_small() {
    let secret = "secret".parse().unwrap();
    let limits = Limits::default();
    let settings = Settings { secret, public: vec!["203.0.113.9".parse().unwrap()], limits, nonce_key: [1; 32] };
    let mut relay = Relay::new(settings);
    let empty = heap::bytes();
    let peers: Vec<SocketAddr> = (0..3000).map(|client| allocate(&mut relay, client)).collect();
    let allocation = (heap::bytes() - empty - peers.capacity() * size_of::<SocketAddr>()) / peers.len();
    let before = heap::bytes();
    let (holders, each) = (20, 1000);
    for client in 0..holders {
        for (peer, number) in peers.iter().skip(100).take(each).zip(0x4000..) {
            let peer = XorPeerAddress::new(*peer, 7.into());
            request(&mut relay, client, CHANNEL_BIND, &[&ChannelNumber::new(number), &peer]);
        }
    }
    assert_eq!(relay.size(), (3000, 20_000));
    let channel = (heap::bytes() - before) / 20_000;
    println!("an allocation takes {allocation} bytes, a channel {channel}");
    assert!(allocation <= BOUNDS.0 && channel <= BOUNDS.1, "{allocation} bytes an allocation, {channel} a channel");
}
