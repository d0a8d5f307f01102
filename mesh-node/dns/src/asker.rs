//! The resolver as one instance sees it.

use std::{fmt, time::Instant};

use mesh_proto::InstanceId;

use crate::{
    answer::{Transport, answer_for},
    bucket::Bucket,
    directory::{Directory, Seat},
    next_seed,
    packet::{Inbound, datagram},
    tcp,
};

/// The work of a question, in the segments of a connection that cost as much; and the bytes of an answer that cost as
/// much as one segment.
const QUESTION: usize = 8;
const BYTES: usize = 256;

/// The resolver as one instance sees it. It keeps no more than eight connections and their buffers.
pub struct Asker {
    instance: InstanceId,
    budget: Bucket,
    seed: u64,
    connections: Option<Box<tcp::Server>>,
}

/// What has become of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was for the resolver. The work that it has made, in segments that cost as much.
    Taken(usize),
    /// It was for the resolver and no question that has an answer.
    Ignored,
    /// It was for the resolver, and there were more than its sender may ask.
    Limited,
    /// It isn't for the resolver.
    NotOurs,
}

impl Asker {
    /// `seed` is random, and another one for each.
    #[must_use]
    pub const fn new(instance: InstanceId, seed: u64) -> Self {
        Self { instance, budget: Bucket::FULL, seed, connections: None }
    }

    /// Handles a packet that the instance has sent, and sends others to it.
    pub fn handle(
        &mut self,
        directory: &Directory,
        packet: &[u8],
        now: Instant,
        send: &mut dyn FnMut(&[u8]),
    ) -> Outcome {
        let found = directory.address().zip(directory.seat(self.instance));
        let Some((address, seat)) = found else { return Outcome::NotOurs };
        let Some(inbound) = Inbound::parse(packet, address) else { return Outcome::NotOurs };
        match inbound {
            Inbound::Udp { source, port, question } if seat.has(source) => {
                if !self.budget.is_open(now) {
                    return Outcome::Limited;
                }
                let answer = answer_for(question, seat, Transport::Udp);
                let work = self.budget.spend(answer.as_deref(), now);
                let Some(answer) = answer.filter(|_| port != 0) else { return Outcome::Ignored };
                send(&datagram(address, source, port, &answer));
                Outcome::Taken(work)
            }
            Inbound::Tcp { source, port, opens } if seat.has(source) => {
                let (seed, mtu) = (self.seed, seat.view().network.mtu);
                let make = || Box::new(tcp::Server::new(address, mtu, seed, now));
                let server = self.connections.get_or_insert_with(make);
                let (budget, mut work) = (&mut self.budget, 1);
                let mut ask = by_tcp(seat, budget, &mut work, now);
                server.handle(packet, opens.then_some((source, port)), now, &mut ask, send);
                drop(ask);
                self.put_away(now);
                Outcome::Taken(work)
            }
            _ => Outcome::NotOurs,
        }
    }

    /// When [`Self::handle_timeout`] has to be called next.
    pub fn next_timeout(&mut self, now: Instant) -> Option<Instant> {
        self.connections.as_mut().and_then(|server| server.next_timeout(now))
    }

    /// Does what is due. Connections end if the directory doesn't hold the instance any more.
    pub fn handle_timeout(&mut self, directory: &Directory, now: Instant, send: &mut dyn FnMut(&[u8])) {
        let Some(seat) = directory.seat(self.instance) else {
            self.connections = None;
            return;
        };
        if let Some(server) = &mut self.connections {
            let mut work = 0;
            server.handle_timeout(now, &mut by_tcp(seat, &mut self.budget, &mut work, now), send);
        }
        self.put_away(now);
    }

    /// Frees what only connections need.
    fn put_away(&mut self, now: Instant) {
        if self.next_timeout(now).is_none() {
            self.connections = None;
            // The next connections begin with other sequence numbers.
            self.seed = next_seed(self.seed);
        }
    }
}

impl fmt::Debug for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asker").field("instance", &self.instance).finish_non_exhaustive()
    }
}

impl Bucket {
    /// Takes what a question has cost, and returns it.
    fn spend(&mut self, answer: Option<&[u8]>, now: Instant) -> usize {
        let length = answer.map_or(0, <[u8]>::len) / BYTES;
        self.take(u32::try_from(1 + length / QUESTION).unwrap_or(u32::MAX), now);
        QUESTION + length
    }
}

/// Answers the questions of connections, as far as the budget allows.
fn by_tcp<'a>(
    seat: Seat<'a>,
    budget: &'a mut Bucket,
    work: &'a mut usize,
    now: Instant,
) -> impl FnMut(&[u8]) -> Option<Vec<u8>> {
    move |question| {
        if !budget.is_open(now) {
            return None;
        }
        let answer = answer_for(question, seat, Transport::Tcp);
        *work += budget.spend(answer.as_deref(), now);
        answer
    }
}

#[cfg(test)]
mod tests;
