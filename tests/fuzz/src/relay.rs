//! What a relay is sent, by its clients and by strangers.

use std::{net::SocketAddr, time::Duration};

use arbitrary::Unstructured;
use mesh_proto::{
    RelayId, RunnerId,
    relay::{RelayCredential, RelaySecret},
};
use mesh_relay::{Asked, Kind, Limits, Malformed, Now, Relay, Settings, Sink, Stream, Turn, Way, run as first_run};
use stun_types::{
    attribute::{AttributeType, Nonce, RawAttribute, Realm, Username},
    message::{
        IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageClass, MessageType, MessageWriteVec, Method,
    },
    prelude::{MessageWrite as _, MessageWriteExt as _},
};

const YEAR_2026: u64 = 1_780_000_000;

struct World {
    relay: Relay,
    now: Now,
    turn: Turn,
    nonces: [String; 2],
}

/// The two clients, and who is none.
const CLIENTS: [&str; 4] = ["192.0.2.1:1000", "198.51.100.2:2000", "203.0.113.66:6", "[2001:db8::6]:6"];

/// Data for the two clients goes out, and for no one else.
struct Out;

impl Sink for Out {
    fn send(&mut self, to: &Way, batch: &[u8], stride: usize) {
        assert!((0..2).any(|client| *to == way(client)), "sent to {to:?}");
        assert!(stride > 0 && !batch.is_empty());
    }
}

/// Whatever comes: nothing goes to others than the two clients, whose allocations stand at the end unless they have
/// ended them; what a stranger is answered is no longer than what it sent; a stream hands out what came and no more.
pub fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let mut world = World::new();
    while !u.is_empty() && world.step(&mut u).is_ok() {}
    assert!(world.relay.size().0 <= 2);
}

impl World {
    fn new() -> Self {
        let secret = "secret".parse().unwrap();
        let public = vec!["203.0.113.9".parse().unwrap()];
        let settings = Settings { secret, public, limits: Limits::default(), nonce_key: [3; 32] };
        let now = Now { since: Duration::from_secs(1000), unix: YEAR_2026 };
        let nonces = [String::new(), String::new()];
        let mut this = Self { relay: Relay::new(settings), now, turn: Turn::new(), nonces };
        for client in 0..2 {
            this.signed(client, 3, &[(0x0019, &[17, 0, 0, 0])]);
            this.signed(client, 3, &[(0x0019, &[17, 0, 0, 0])]);
        }
        assert_eq!(this.relay.size().0, 2);
        this
    }

    /// A signed request of a client.
    fn signed(&mut self, client: usize, method: u16, attributes: &[(u16, &[u8])]) {
        let secret: RelaySecret = "secret".parse().unwrap();
        let credential = secret.credential(RunnerId(client as u64), RelayId(1), YEAR_2026 + 60);
        let RelayCredential { username, password, .. } = credential;
        let kind = MessageType::from_class_method(MessageClass::Request, Method::new(method & 0xfff));
        let mut message = Message::builder(kind, 7.into(), MessageWriteVec::new());
        for (kind, value) in attributes {
            // Those that end a message are added by others.
            if ![0x0008, 0x001c, 0x8028].contains(kind) {
                message.add_attribute(&RawAttribute::new(AttributeType::new(*kind), value)).unwrap();
            }
        }
        message.add_attribute(&Username::new(&username).unwrap()).unwrap();
        message.add_attribute(&Realm::new("mesh").unwrap()).unwrap();
        message.add_attribute(&Nonce::new(&self.nonces[client]).unwrap()).unwrap();
        let key = LongTermKeyCredentials::new(username, password.expose().to_owned(), "mesh".to_owned());
        let key = key.make_key(IntegrityAlgorithm::Sha1);
        message.add_message_integrity_with_key(&key, IntegrityAlgorithm::Sha1).unwrap();
        let answer = self.take(client, &mut message.finish());
        if let Some(nonce) = answer.and_then(|answer| nonce(&answer)) {
            self.nonces[client] = nonce;
        }
    }

    /// A datagram: the answer.
    fn take(&mut self, client: usize, datagram: &mut [u8]) -> Option<Vec<u8>> {
        let from = way(client);
        let known = self.relay.knows(from.client());
        let answer = match Kind::of(datagram) {
            Kind::Request => match self.relay.ask(&from, datagram, self.now) {
                Asked::Nothing => None,
                Asked::Answer(answer) => Some(answer),
                Asked::Change(change) => Some(self.relay.change(change, self.now).answer),
            },
            Kind::Indication => {
                self.relay.indicate(from.client(), datagram, self.now, &mut self.turn, &mut Out);
                None
            }
            Kind::Channel | Kind::Other => None,
        };
        let is_stranger = !known && client >= 2;
        assert!(!is_stranger || answer.as_ref().is_none_or(|answer| answer.len() <= datagram.len()));
        answer
    }

    fn step(&mut self, u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let client = u.int_in_range(0..=3)?;
        match u.int_in_range(0..=4)? {
            0 => {
                let method = u.arbitrary()?;
                let kinds: [u16; 2] = u.arbitrary()?;
                let values: [Vec<u8>; 2] = u.arbitrary()?;
                let values: Vec<&[u8]> = values.iter().map(|value| &value[..value.len().min(700)]).collect();
                self.signed(client % 2, method, &[(kinds[0], values[0]), (kinds[1], values[1])]);
            }
            1 => {
                let mut datagram: Vec<u8> = u.arbitrary()?;
                self.take(client, &mut datagram);
            }
            2 => self.batch(client, u)?,
            3 => {
                let mut bytes: Vec<u8> = u.arbitrary()?;
                if let Some(head) = bytes.get_mut(..8) {
                    head[0] &= 0x41;
                    head[4..].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
                }
                stream(&bytes, usize::from(u.arbitrary::<u8>()?));
                self.take(client, &mut bytes);
            }
            _ => {
                let seconds = u64::from(u.arbitrary::<u16>()? % 700);
                self.now.since += Duration::from_secs(seconds);
                self.now.unix += seconds;
                self.relay.sweep(self.now);
            }
        }
        Ok(())
    }

    fn batch(&mut self, client: usize, u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let stride = usize::from(u.arbitrary::<u8>()?);
        let mut bytes: Vec<u8> = u.arbitrary()?;
        let mut rest = &mut bytes[..];
        while !rest.is_empty() {
            let (kind, length) = first_run(rest, stride);
            assert!(length > 0);
            let (part, tail) = rest.split_at_mut(length);
            if kind == Kind::Channel {
                self.relay.carry(way(client).client(), part, stride, self.now, &mut self.turn, &mut Out);
            } else {
                self.take(client, part);
            }
            rest = tail;
        }
        Ok(())
    }
}

/// Bytes of a connection, in pieces.
fn stream(bytes: &[u8], piece: usize) {
    let (mut stream, mut taken) = (Stream::default(), 0);
    for piece in bytes.chunks(piece.max(1)) {
        stream.push(piece);
        loop {
            match stream.next(true) {
                Ok(Some((batch, stride))) => {
                    assert!(stride >= 4 && batch.len() % stride == 0);
                    taken += batch.len();
                }
                Ok(None) => break,
                Err(Malformed) => return,
            }
        }
    }
    assert!(taken <= bytes.len());
}

fn way(client: usize) -> Way {
    let remote: SocketAddr = CLIENTS[client].parse().unwrap();
    Way::Udp { remote, local: None }
}

fn nonce(answer: &[u8]) -> Option<String> {
    Some(Message::from_bytes(answer).ok()?.attribute::<Nonce>().ok()?.nonce().to_owned())
}
