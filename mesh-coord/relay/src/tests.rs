//! The relay with clients of its own and with those of turn-client-proto.

use std::{net::SocketAddr, time::Duration};

use mesh_proto::{
    RelayId, RunnerId,
    relay::{Pseudonym, RelaySecret},
};

use crate::{Asked, Kind, Limits, Now, Relay, Settings, Sink, Turn, Way};

mod client;
mod foreign;
mod hostile;
mod limits;
mod traffic;

use client::Client;

const SECRET: &str = "a-secret-of-the-tests";
const PUBLIC: &str = "203.0.113.9";
const YEAR_2026: u64 = 1_780_000_000;

/// A relay, its clock, and what it has sent to clients.
struct World {
    relay: Relay,
    now: Now,
    sent: Sent,
    turn: Turn,
    /// Bytes that came and bytes that were answered, of clients without an allocation.
    unproven: (usize, usize),
}

/// What clients have been sent: to whom, in what batch.
#[derive(Default)]
struct Sent(Vec<(Way, Vec<u8>, usize)>);

impl Sink for Sent {
    fn send(&mut self, to: &Way, batch: &[u8], stride: usize) {
        self.0.push((*to, batch.to_vec(), stride));
    }
}

impl World {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let secret = SECRET.parse().unwrap();
        let public = vec![PUBLIC.parse().unwrap()];
        Self {
            relay: Relay::new(Settings { secret, public, limits, nonce_key: [3; 32] }),
            now: Now { since: Duration::from_secs(1000), unix: YEAR_2026 },
            sent: Sent::default(),
            turn: Turn::new(),
            unproven: (0, 0),
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.now.since += Duration::from_secs(seconds);
        self.now.unix += seconds;
    }

    /// One datagram from a client, or a message on its stream: the answer.
    fn take(&mut self, from: Way, message: &[u8]) -> Option<Vec<u8>> {
        let known = self.relay.knows(from.client());
        let answer = match Kind::of(message) {
            Kind::Channel => {
                let mut batch = message.to_vec();
                let stride = batch.len();
                self.relay.carry(from.client(), &mut batch, stride, self.now, &mut self.turn, &mut self.sent);
                None
            }
            Kind::Indication => {
                self.relay.indicate(from.client(), message, self.now, &mut self.turn, &mut self.sent);
                None
            }
            Kind::Request => match self.relay.ask(&from, message, self.now) {
                Asked::Nothing => None,
                Asked::Answer(answer) => Some(answer),
                Asked::Change(change) => Some(self.relay.change(change, self.now).answer),
            },
            Kind::Other => None,
        };
        if !known {
            self.unproven.0 += message.len();
            self.unproven.1 += answer.as_ref().map_or(0, Vec::len);
        }
        answer
    }

    /// What has been sent to a client since the last look.
    fn sent_to(&mut self, client: &Client) -> Vec<Vec<u8>> {
        let taken = self.sent.0.iter().filter(|(to, ..)| *to == client.way);
        let taken = taken.flat_map(|(_, batch, stride)| batch.chunks(*stride).map(<[u8]>::to_vec)).collect();
        self.sent.0.retain(|(to, ..)| *to != client.way);
        taken
    }
}

fn udp(remote: &str) -> Way {
    Way::Udp { remote: remote.parse().unwrap(), local: None }
}

fn pseudonym(runner: u64) -> Pseudonym {
    SECRET.parse::<RelaySecret>().unwrap().pseudonym(RunnerId(runner), RelayId(1))
}

fn public(port: u16) -> SocketAddr {
    SocketAddr::new(PUBLIC.parse().unwrap(), port)
}
