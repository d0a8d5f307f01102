//! One input after the other.

use std::time::Duration;

use arbitrary::{Result, Unstructured};
use mesh_engine::{Map, Port, Switches, VNET};
use mesh_proto::{InstanceId, RunnerId};

use super::{
    Op, Origin, World,
    bytes::{a_segment, some_bytes, some_flags},
};
use crate::{
    mesh::{OURS, Shape, endpoint},
    packet::{self, Packet, Segment, read_from_tun, spoil},
};

impl World {
    pub(super) fn step(&mut self, op: Op, u: &mut Unstructured<'_>) -> Result<()> {
        match op {
            Op::Garbage | Op::Seal | Op::SealSegment | Op::SealAnswer | Op::SealProbe | Op::Again | Op::Handshake => {
                self.peer_does(op, u)
            }
            Op::Write | Op::WriteSegment | Op::WriteAnswer | Op::WriteUnreachable => self.instance_does(op, u),
            Op::Wait | Op::Map | Op::Attach | Op::Detach | Op::Deaf | Op::Other => self.other(op, u),
        }
    }

    /// The peer, or anything in the network, sends.
    fn peer_does(&mut self, op: Op, u: &mut Unstructured<'_>) -> Result<()> {
        match op {
            Op::Garbage => {
                let from = *u.choose(&[endpoint(2), endpoint(3), ([203, 0, 113, 1], 1).into()])?;
                let stride = usize::from(u.arbitrary::<u16>()?);
                let kind = *u.choose(&[0, 1, 2, 3, 4])?;
                let mut bytes = some_bytes(u)?;
                if let Some(first) = bytes.first_mut().filter(|_| kind > 0) {
                    *first = kind;
                }
                self.receive(from, &bytes, stride.max(1), 0);
            }
            Op::Seal => {
                let bytes = some_bytes(u)?;
                self.seal_and_receive(&[bytes]);
            }
            Op::SealSegment => {
                let count = u.int_in_range(1..=3)?;
                let (segment, options, payload) = a_segment(u)?;
                let mut packets = vec![];
                for index in 0..count {
                    // They may continue one another.
                    let sequence = segment.sequence.wrapping_add(index * payload.len() as u32);
                    let mut packet = Segment { sequence, ..segment }.write(&options, &payload);
                    spoil(&mut packet, u)?;
                    packets.push(packet);
                }
                self.seal_and_receive(&packets);
            }
            Op::SealAnswer if !self.heard.is_empty() => {
                let answer = u.choose(&self.heard)?.answer(some_flags(u)?);
                let payload = vec![0; *u.choose(&[0, 0, 1, 1292])?];
                self.seal_and_receive(&[answer.write(&[], &payload)]);
            }
            Op::SealProbe => {
                let probe = self.a_probe(u)?;
                self.seal_and_receive(&[probe]);
            }
            Op::Again if !self.sealed.is_empty() => {
                let mut datagram = u.choose(&self.sealed)?.clone();
                let at = u.choose_index(datagram.len())?;
                datagram[at] ^= *u.choose(&[0, 1, 0x80])?;
                self.receive(*u.choose(&[endpoint(2), endpoint(3)])?, &datagram, datagram.len(), 0);
            }
            Op::Handshake => self.handshake(),
            _ => {}
        }
        Ok(())
    }

    /// An instance sends.
    fn instance_does(&mut self, op: Op, u: &mut Unstructured<'_>) -> Result<()> {
        match op {
            Op::Write => {
                let port = self.a_port(u)?;
                let bytes = some_bytes(u)?;
                self.write(port, bytes);
            }
            Op::WriteSegment => {
                let port = self.a_port(u)?;
                let (mut segment, options, payload) = a_segment(u)?;
                // Most packets from elsewhere are rejected.
                if u.ratio(7, 8)? && OURS.contains(&u64::from(port)) {
                    segment.source.0 = crate::mesh::address(port.into());
                }
                let mut ip = segment.write(&options, &payload);
                spoil(&mut ip, u)?;
                let size = if u.arbitrary()? { u.arbitrary::<u16>()? } else { 0 };
                self.write(port, read_from_tun(&ip, size));
            }
            Op::WriteAnswer => {
                let read = self.readable();
                if !read.is_empty() {
                    let (port, bytes) = u.choose(&read)?.clone();
                    let flags = some_flags(u)?;
                    let payload = vec![0; *u.choose(&[0, 0, 1, 5000])?];
                    if let Packet::Tcp(segment) = Packet::read(&bytes[VNET..]) {
                        let size = if payload.len() > 1000 { 1292 } else { 0 };
                        self.write(port, read_from_tun(&segment.answer(flags).write(&[], &payload), size));
                    }
                }
            }
            Op::WriteUnreachable => {
                let read = self.readable();
                if !read.is_empty() {
                    let (port, bytes) = u.choose(&read)?.clone();
                    let ip = &bytes[VNET..];
                    if let Packet::Tcp(segment) = Packet::read(ip) {
                        let quoted = &ip[..ip.len().min(usize::from(u.int_in_range(0..=64u8)?))];
                        let (from, to) = (segment.destination.0, segment.source.0);
                        let mut refusal = packet::unreachable(from, to, u.arbitrary()?, quoted);
                        if u.ratio(1, 8)? {
                            let at = u.choose_index(refusal.len())?;
                            refusal[at] = u.arbitrary()?;
                        }
                        self.write(port, read_from_tun(&refusal, 0));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Time passes, or what the engine is told changes.
    fn other(&mut self, op: Op, u: &mut Unstructured<'_>) -> Result<()> {
        match op {
            Op::Wait => {
                let millis =
                    *u.choose(&[1, 2, 100, 300, 1000, 2000, 5000, 16_000, 61_000, 125_000, 200_000, 3_700_000])?;
                self.wait(Duration::from_millis(millis));
            }
            Op::Map => {
                let shape = Shape(Shape::FIRST.0 ^ (1 << u.int_in_range(0..=7u8)?) ^ (1 << u.int_in_range(0..=7u8)?));
                self.view = shape.view(self.view.revision.0 + 1);
                self.engine.handle_map(Map::compile(&self.view), self.now, &mut self.effects);
                self.settle(Origin::Neither);
            }
            Op::Attach => {
                let instance = InstanceId(*u.choose(&[10, 11, 12, 13, 20, 99])?);
                let port = u.int_in_range(8..=15)?;
                self.attach(port, instance);
            }
            Op::Detach => {
                let port = u.int_in_range(8..=15)?;
                self.engine.handle_detach(Port(port), self.now, &mut self.effects);
                self.settle(Origin::Neither);
                self.attached.remove(&port);
            }
            Op::Deaf => self.deaf = !self.deaf,
            Op::Other => {
                match u.int_in_range(0..=3u8)? {
                    0 => self.engine.handle_address_change(),
                    1 => self.engine.handle_known_endpoint(RunnerId(u.int_in_range(1..=4)?), endpoint(2)),
                    2 => {
                        let (tun_gso, udp_gso) = (u.arbitrary()?, u.arbitrary()?);
                        self.engine.handle_switches(Switches { tun_gso, udp_gso, udp_gro: true });
                    }
                    _ => self.engine.flush(&mut self.effects),
                }
                self.settle(Origin::Neither);
            }
            _ => {}
        }
        Ok(())
    }
}
