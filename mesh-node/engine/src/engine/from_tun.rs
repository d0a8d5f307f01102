//! What instances send.

use std::time::Instant;

use super::{Engine, connect::Seen, refused::No};
use crate::{
    Port, Reason, Sink,
    flow::{Seat, Way},
    homes::Local,
    packet::{Content, Packet, Tcp},
    peers::Turn,
    refuse::{Refusal, Unreachable},
    segment::{Unit, is_crumbled, is_divisible, split},
    vnet::Vnet,
};

impl Engine {
    /// Takes in what was read from a TUN, or what was read before and has waited for a session with the runner `waited`.
    ///
    /// # Errors
    /// The reason why it died here.
    #[inline]
    pub(super) fn take_from_tun(
        &mut self,
        from: Port,
        octets: &mut [u8],
        waited: Option<u32>,
        now: Instant,
        sink: &mut impl Sink,
    ) -> Result<(), Reason> {
        let local = self.homes.behind(from).and_then(|attached| attached.local).ok_or(Reason::UnknownPort)?;
        let (vnet, ip) = Vnet::parse(octets)?;
        let packet = Packet::parse(ip)?;
        // A descriptor is an identity.
        if packet.source != local.address && packet.source != local.service_address {
            return Err(Reason::ForgedSource);
        }
        let tcp = match packet.content {
            Content::Tcp(tcp) => tcp,
            Content::Foreign { why, answerable } => {
                if !answerable && self.refused_by_icmp(local.instance, ip, now, sink) {
                    return Err(Reason::TriedAnother);
                }
                if answerable {
                    self.denials.note(self.map.route.parties(&packet), 0, why, now);
                    self.refuse(from, ip, &packet, None, Unreachable::Prohibited, now, sink);
                }
                return Err(why);
            }
        };
        if vnet.size.is_some_and(|size| !is_divisible(size, tcp.flags)) {
            return Err(Reason::Malformed);
        }
        if vnet.size.is_some_and(|size| is_crumbled(&packet, &tcp, size)) {
            return Err(Reason::TinySegments);
        }
        let way = self.way(local, &packet, &tcp, waited, octets, now, sink);
        let way = way.and_then(|way| match way {
            Way::Instance(_) => self.port(way).map(Ok).ok_or(No::silent(Reason::NotAttached)),
            Way::Runner(runner) => Ok(Err(runner)),
        });
        match way {
            Ok(Ok(to)) => {
                if vnet.size.is_some() && !self.switches.tun_gso {
                    split(octets, |segment| sink.deliver(to, segment));
                } else {
                    sink.deliver(to, octets);
                }
                Ok(())
            }
            Ok(Err(runner)) => {
                let mut unit = Unit { octets, packet, tcp, size: vnet.size, partial: vnet.partial };
                let sent = self.peers.send(runner, from, &mut unit, &mut Turn { now, sink, drops: &mut self.drops });
                if sent == Err(Reason::NoHandshake) && tcp.flags.opens() {
                    // Nothing more can wait for a runner that doesn't answer.
                    let id = self.map.route.runners[runner as usize].id;
                    return Err(self.refuse_syn(id, from, octets, now, sink).err().unwrap_or(Reason::NoHandshake));
                }
                sent
            }
            Err(No { reason, told }) => {
                if tcp.flags.opens() && reason != Reason::Moved {
                    self.denials.note(self.map.route.parties(&packet), tcp.destination_port, reason, now);
                }
                // The caller of one that has waited was told when its connection was reset.
                if let Some(told) = told.filter(|_| waited.is_none()) {
                    let (_, ip) = Vnet::parse(octets)?;
                    self.refuse(from, ip, &packet, Some(&tcp), told, now, sink);
                }
                Err(reason)
            }
        }
    }

    /// Where a segment of a local instance goes.
    #[inline]
    #[expect(clippy::too_many_arguments, reason = "each is something else, and a struct would be made for one call")]
    fn way(
        &mut self,
        local: Local,
        packet: &Packet,
        tcp: &Tcp,
        waited: Option<u32>,
        octets: &[u8],
        now: Instant,
        sink: &mut impl Sink,
    ) -> Result<Way, No> {
        let route = &self.map.route;
        let opens = tcp.flags.opens();
        if opens && packet.source != local.address {
            return Err(No::prohibited(Reason::OpensFromService));
        }
        let owner = |address| route.owner(address);
        let destination = owner(packet.destination).ok_or(const { No::prohibited(Reason::UnknownDestination) })?;
        let verdict = self.map.filter.verdict(local.service, route.service_of(destination), tcp.segment());
        let direction = verdict.map_err(|denial| No::prohibited(denial.into()))?;
        let source = owner(packet.source).ok_or(const { No::silent(Reason::ForgedSource) })?;
        let seen = Seen { packet, tcp, from: Seat::Here(local.instance), source, destination };
        if opens {
            self.open(&seen, waited, || octets.to_vec(), now, sink)
        } else {
            self.follow(&seen, direction, now, sink)
        }
    }

    /// Tells the instance behind `to` that its packet, which stands in `ip`, may not pass: by ICMP, but by RST if it is a
    /// TCP segment that doesn't open a connection.
    #[expect(clippy::too_many_arguments, reason = "each is something else, and a struct would be made for one call")]
    pub(super) fn refuse(
        &mut self,
        to: Port,
        ip: &[u8],
        packet: &Packet,
        tcp: Option<&Tcp>,
        told: Unreachable,
        now: Instant,
        sink: &mut impl Sink,
    ) {
        let Some(attached) = self.homes.behind_mut(to).filter(|_| packet.is_between_hosts()) else { return };
        let reset = match tcp {
            Some(tcp) if !tcp.flags.opens() => match Refusal::reset(packet, tcp) {
                Some(reset) => Some(reset),
                None => return,
            },
            _ => None,
        };
        if !attached.limit.admits(0, packet, tcp, now) {
            self.drops.count(Reason::RefusalLimited);
            return;
        }
        match (reset, tcp) {
            (Some(reset), _) => sink.deliver(to, reset.octets()),
            (None, None) => sink.deliver(to, Refusal::unreachable(ip, packet, told).octets()),
            (None, Some(_)) => self.waiting.push(to, Refusal::unreachable(ip, packet, told), now, sink),
        }
    }
}
