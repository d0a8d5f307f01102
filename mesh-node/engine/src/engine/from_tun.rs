//! What instances send.

use std::time::Instant;

use super::Engine;
use crate::{
    Port, Reason, Sink,
    homes::Local,
    packet::{Content, Packet, Tcp},
    peers::Turn,
    refuse::{Refusal, Unreachable},
    route::Place,
    segment::{Unit, is_divisible, split},
    vnet::Vnet,
};

/// Where a segment may go.
enum Way {
    Local(Port),
    Remote(u32),
}

/// Why a segment may not pass.
struct No {
    reason: Reason,
    /// What its sender is told if it opens a connection; `None`: nothing, to anything.
    told: Option<Unreachable>,
}

impl No {
    const fn prohibited(reason: Reason) -> Self {
        Self { reason, told: Some(Unreachable::Prohibited) }
    }
}

impl Engine {
    /// Takes in what was read from a TUN.
    ///
    /// # Errors
    /// The reason why it died here.
    #[inline]
    pub(super) fn take_from_tun(
        &mut self,
        from: Port,
        octets: &mut [u8],
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
                if answerable {
                    self.denials.note(&packet, 0, why, now);
                    self.refuse(from, ip, &packet, None, Unreachable::Prohibited, now, sink);
                }
                return Err(why);
            }
        };
        if vnet.size.is_some() && !is_divisible(tcp.flags) {
            return Err(Reason::Malformed);
        }
        match self.way(local, &packet, &tcp) {
            Ok(Way::Local(to)) => {
                if vnet.size.is_some() && !self.switches.tun_gso {
                    split(octets, |segment| sink.deliver(to, segment));
                } else {
                    sink.deliver(to, octets);
                }
                Ok(())
            }
            Ok(Way::Remote(runner)) => {
                let mut unit = Unit { octets, packet, tcp, size: vnet.size, partial: vnet.partial };
                self.peers.send(runner, from, &mut unit, &mut Turn { now, sink, drops: &mut self.drops })
            }
            Err(No { reason, told }) => {
                if tcp.flags.opens() {
                    self.denials.note(&packet, tcp.destination_port, reason, now);
                }
                if let Some(told) = told {
                    self.refuse(from, ip, &packet, Some(&tcp), told, now, sink);
                }
                Err(reason)
            }
        }
    }

    /// Where a segment of a local instance may go.
    #[inline]
    fn way(&self, local: Local, packet: &Packet, tcp: &Tcp) -> Result<Way, No> {
        let route = &self.map.route;
        let opens = tcp.flags.opens();
        if opens && packet.source != local.address {
            return Err(No::prohibited(Reason::OpensFromService));
        }
        let owner = route.owner(packet.destination).ok_or(const { No::prohibited(Reason::UnknownDestination) })?;
        let verdict = self.map.filter.verdict(local.service, route.service_of(owner), tcp.segment());
        verdict.map_err(|denial| No::prohibited(denial.into()))?;
        let instance = route
            .choose(owner, opens, |instance| !self.homes.is_gone(instance))
            .ok_or(No { reason: Reason::NoLiveInstance, told: Some(Unreachable::Host) })?;
        match route.instances[instance as usize].place {
            Place::There(runner) => Ok(Way::Remote(runner)),
            // While the agent starts, TUNs come back one by one: what is sent meanwhile is sent again by TCP.
            Place::Here => {
                let port = self.homes.port(instance);
                port.map(Way::Local).ok_or(No { reason: Reason::NotAttached, told: None })
            }
        }
    }

    /// Tells the instance behind `to` that its packet, which stands in `ip`, may not pass: by ICMP, but by RST if it is a
    /// TCP segment that doesn't open a connection.
    #[expect(clippy::too_many_arguments, reason = "each is something else, and a struct would be made for one call")]
    fn refuse(
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
        if !attached.limit.admits(packet, tcp, now) {
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
