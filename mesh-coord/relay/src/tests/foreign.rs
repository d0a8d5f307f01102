//! The relay with the clients of turn-client-proto, which are others' work.

use stun_types::{
    TransportType,
    attribute::{MessageIntegrity, Software},
    message::Message,
    prelude::{AttributeStaticType as _, AttributeWrite as _},
};
use turn_client_proto::{
    api::{Transmit, TurnConfig, TurnEvent, TurnRecvRet},
    prelude::TurnClientApi as _,
    types::{Instant, TurnCredentials},
    udp::TurnClientUdp,
};

use super::{client::Client, *};

/// A client of theirs with an address of ours.
struct Foreign {
    way: Way,
    turn: TurnClientUdp,
    heard: Vec<Vec<u8>>,
    events: Vec<TurnEvent>,
}

impl Foreign {
    fn new(runner: u64, remote: &str) -> Self {
        let Client { username, password, way, .. } = Client::new(runner, remote);
        let config = TurnConfig::new(TurnCredentials::new(&username, &password));
        let turn = TurnClientUdp::allocate(way.remote(), public(3478), config);
        Self { way, turn, heard: Vec::new(), events: Vec::new() }
    }

    fn hear(&mut self, bytes: Vec<u8>, now: Instant) {
        let datagram = Transmit::new(bytes, TransportType::Udp, public(3478), self.way.remote());
        if let TurnRecvRet::PeerData(data) = self.turn.recv(datagram, now) {
            self.heard.push(data.data().to_vec());
        }
    }

    fn say(&mut self, world: &mut World, to: SocketAddr, data: &[u8]) {
        let sent = self.turn.send_to(TransportType::Udp, to, data, at(world)).unwrap();
        world.take(self.way, &sent.unwrap().build().data);
    }

    fn relayed(&self) -> SocketAddr {
        self.turn.relayed_addresses().next().unwrap().1
    }
}

fn at(world: &World) -> Instant {
    Instant::from_nanos(world.now.since.as_nanos() as i64)
}

/// Pads what has no credentials, as our own clients do.
fn padded(mut message: Vec<u8>) -> Vec<u8> {
    if !Message::from_bytes(&message).unwrap().has_attribute(MessageIntegrity::TYPE) {
        let software = Software::new("                        ").unwrap();
        message.extend(software.to_raw().to_bytes());
        let length = (message.len() - 20) as u16;
        message[2..4].copy_from_slice(&length.to_be_bytes());
    }
    message
}

/// Carries messages until there were none for a second: these clients pause between two requests.
fn settle(world: &mut World, clients: &mut [Foreign]) {
    let mut pauses = 0;
    while pauses < 10 {
        let mut idle = true;
        for client in &mut *clients {
            let now = at(world);
            let _ = client.turn.poll(now);
            while let Some(message) = client.turn.poll_transmit(now) {
                idle = false;
                if let Some(answer) = world.take(client.way, &padded(message.data.to_vec())) {
                    client.hear(answer, now);
                }
            }
            while let Some(event) = client.turn.poll_event() {
                idle = false;
                client.events.push(event);
            }
        }
        for (to, batch, stride) in std::mem::take(&mut world.sent.0) {
            let now = at(world);
            let client = clients.iter_mut().find(|client| client.way == to).unwrap();
            batch.chunks(stride).for_each(|datagram| client.hear(datagram.to_vec(), now));
        }
        pauses = if idle { pauses + 1 } else { 0 };
        world.now.since += Duration::from_millis(100);
    }
}

#[test]
fn clients_that_others_wrote_talk_through_it() {
    let mut world = World::new();
    let mut both = [Foreign::new(1, "192.0.2.1:1000"), Foreign::new(2, "198.51.100.2:2000")];
    settle(&mut world, &mut both);
    let [a, b] = [both[0].relayed(), both[1].relayed()];
    let now = at(&world);
    both[0].turn.create_permission(TransportType::Udp, b.ip(), now).unwrap();
    both[1].turn.create_permission(TransportType::Udp, a.ip(), now).unwrap();
    settle(&mut world, &mut both);
    both[0].say(&mut world, b, b"by an indication");
    settle(&mut world, &mut both);
    both[0].turn.bind_channel(TransportType::Udp, b, now).unwrap();
    both[1].turn.bind_channel(TransportType::Udp, a, now).unwrap();
    settle(&mut world, &mut both);
    assert_eq!(world.relay.size(), (2, 2));
    both[0].say(&mut world, b, b"by a channel");
    both[1].say(&mut world, a, b"and back");
    settle(&mut world, &mut both);
    assert_eq!(both[1].heard, [b"by an indication".to_vec(), b"by a channel".to_vec()]);
    assert_eq!(both[0].heard, [b"and back".to_vec()]);
}

#[test]
fn clients_that_others_wrote_stay_for_hours() {
    let mut world = World::new();
    let mut both = [Foreign::new(1, "192.0.2.1:1000"), Foreign::new(2, "198.51.100.2:2000")];
    settle(&mut world, &mut both);
    let [a, b] = [both[0].relayed(), both[1].relayed()];
    let now = at(&world);
    both[0].turn.bind_channel(TransportType::Udp, b, now).unwrap();
    both[1].turn.bind_channel(TransportType::Udp, a, now).unwrap();
    for _ in 0..3 * 360 {
        settle(&mut world, &mut both);
        world.relay.sweep(world.now);
        world.pass(10);
    }
    both[0].say(&mut world, b, b"still here");
    settle(&mut world, &mut both);
    assert_eq!(both[1].heard, [b"still here".to_vec()]);
}

#[test]
fn a_client_that_others_wrote_is_told_when_its_credentials_are_wrong() {
    let mut world = World::new();
    let mut client = Foreign::new(1, "192.0.2.1:1000");
    let config = TurnConfig::new(TurnCredentials::new("1:00000000000000000000000000000000", "guess"));
    client.turn = TurnClientUdp::allocate(client.way.remote(), public(3478), config);
    let mut alone = [client];
    settle(&mut world, &mut alone);
    assert!(alone[0].turn.relayed_addresses().next().is_none());
    assert!(alone[0].events.iter().any(|event| matches!(event, TurnEvent::AllocationCreateFailed(_))));
}
