//! What must be so of everything that the engine sends.

use std::net::Ipv4Addr;

use boringtun::noise::TunnResult;
use mesh_engine::{Datagrams, VNET};
use mesh_proto::{RunnerId, ServiceId, rules};

use super::{Effects, Origin, World, probes};
use crate::{
    mesh::endpoint,
    packet::{Packet, RST, SYN, Segment},
};

impl World {
    /// Ends a turn: checks all effects, and lets the peer receive its datagrams.
    pub(super) fn settle(&mut self, mut origin: Origin) {
        let mut buffer = std::mem::take(&mut self.buffer);
        for _ in 0..16 {
            self.engine.flush(&mut self.effects);
            let (Effects { sent, delivered }, deaf) = (std::mem::take(&mut self.effects), self.deaf);
            for (port, bytes) in delivered {
                self.given += bytes.len();
                self.check_delivered(port, &bytes, origin);
                self.read.push((port, bytes));
            }
            let mut answers = vec![];
            for (to, batch, stride) in sent {
                self.given += batch.len();
                for datagram in batch.chunks(stride).filter(|_| to == endpoint(2) && !deaf) {
                    match self.peer.decapsulate(None, datagram, &mut buffer) {
                        TunnResult::WriteToNetwork(answer) => answers.push(answer.to_vec()),
                        TunnResult::WriteToTunnelV4(ip, _) => {
                            let ip = ip.to_vec();
                            self.check_sealed(&ip, origin);
                        }
                        TunnResult::WriteToTunnelV6(..) => panic!("only IPv4 crosses"),
                        TunnResult::Done | TunnResult::Err(_) => {}
                    }
                }
            }
            // No sender causes much for little: at most the resets of its connections.
            assert!(self.given <= 16 * self.taken + (64 << 10), "{} for {}", self.given, self.taken);
            if answers.is_empty() {
                self.buffer = buffer;
                return;
            }
            // Packets that waited for the session come from their senders.
            origin = Origin::Neither;
            for answer in answers {
                self.taken += answer.len();
                let received =
                    Datagrams { from: endpoint(2).into(), local: None, bytes: &answer, stride: answer.len(), skip: 0 };
                self.engine.handle_udp(&received, self.now, &mut self.effects);
            }
        }
        panic!("the two talk for ever");
    }

    /// Checks a packet to an instance.
    fn check_delivered(&self, port: u32, bytes: &[u8], origin: Origin) {
        let instance = self.attached.get(&port).unwrap_or_else(|| panic!("delivered to {port}, which isn't there"));
        for piece in pieces(bytes) {
            match Packet::read(&piece[VNET..]) {
                Packet::Tcp(segment) => {
                    if segment.flags & RST != 0 {
                        continue;
                    }
                    let own = self.view.instance(*instance).expect("it was delivered to");
                    let service = self.view.service(own.service).expect("it was delivered to");
                    assert!([own.address, service.address].contains(&segment.destination.0), "{segment:?} to {own:?}");
                    self.check(&segment, origin);
                }
                Packet::Unreachable { code, to, about } => {
                    assert!(matches!(code, 1 | 13) && to == about, "not a refusal of what it sent itself");
                }
                Packet::Other => panic!("neither TCP nor a refusal: {piece:?}"),
            }
        }
    }

    /// Checks a packet to the peer.
    fn check_sealed(&mut self, ip: &[u8], origin: Origin) {
        if probes::is_one(ip) {
            self.pings.push(ip.to_vec());
            return;
        }
        let Packet::Tcp(segment) = Packet::read(ip) else { panic!("only TCP crosses: {ip:?}") };
        self.heard.push(segment);
        if segment.flags & RST != 0 {
            return;
        }
        assert!(self.is_on(segment.destination.0, 2), "{segment:?} isn't for the runner that it was sent to");
        assert!(self.is_on(segment.source.0, 1), "{segment:?} isn't from here");
        self.check(&segment, origin);
    }

    /// A packet passes only by the reference verdict, and from a possible owner of its address.
    fn check(&self, segment: &Segment, origin: Origin) {
        let (source, destination) = (self.service_at(segment.source.0), self.service_at(segment.destination.0));
        let (Some(source), Some(destination)) = (source, destination) else { panic!("without an owner: {segment:?}") };
        let asked = rules::Segment {
            source_port: segment.source.1,
            destination_port: segment.destination.1,
            opens: segment.opens(),
        };
        let verdict = rules::verdict(&self.view, source, destination, asked);
        assert!(verdict.is_ok(), "{verdict:?}, but passed: {segment:?}");
        if segment.flags & SYN != 0 && self.syns.contains(&(segment.source.0, segment.destination.0, segment.sequence))
        {
            return;
        }
        match origin {
            Origin::Peer => assert!(self.is_on(segment.source.0, 2), "forged by the peer: {segment:?}"),
            Origin::Port(port) => {
                let own = self.attached.get(&port).and_then(|instance| self.view.instance(*instance));
                let own = own.unwrap_or_else(|| panic!("from {port}, which has no instance: {segment:?}"));
                let service = self.view.service(own.service).expect("it passed");
                assert!([own.address, service.address].contains(&segment.source.0), "forged by {own:?}: {segment:?}");
            }
            Origin::Neither => {}
        }
    }

    fn service_at(&self, address: Ipv4Addr) -> Option<ServiceId> {
        let instance = self.view.instances().find(|instance| instance.address == address).map(|i| i.service);
        instance.or_else(|| self.view.services().find(|service| service.address == address).map(|s| s.id))
    }

    fn is_on(&self, address: Ipv4Addr, runner: u64) -> bool {
        let service = self.view.services().find(|service| service.address == address).map(|service| service.id);
        self.view.instances().any(|instance| {
            instance.runner == RunnerId(runner) && (instance.address == address || Some(instance.service) == service)
        })
    }
}

/// The segments of a delivered packet or super-packet, whose headers are right.
pub(super) fn pieces(bytes: &[u8]) -> Vec<Vec<u8>> {
    let size = usize::from(u16::from_ne_bytes([bytes[4], bytes[5]]));
    let headers = VNET + 20 + usize::from(bytes.get(VNET + 32).map_or(0, |offset| offset >> 4)) * 4;
    if bytes[1] == 0 {
        return vec![bytes.to_vec()];
    }
    let mut pieces = vec![];
    mesh_engine::split(&mut bytes.to_vec(), |piece| {
        assert!(piece.len() <= headers + size, "a piece of {} bytes: {headers} + {size}", piece.len());
        pieces.push(piece.to_vec());
    });
    pieces
}
