//! Packets from local instances.

use super::{connect::Classified, core::Core, rejection::Rejection};
use crate::{
    Port, Reason, Sink,
    cx::Cx,
    flow::{Location, Target},
    index::RunnerIx,
    packet::{Content, Flags, Packet, Tcp},
    ports::Sender,
    reject_packet::{RejectPacket, Unreachable},
    segment::{self, Unit, is_crumbled, is_divisible},
    vnet::Vnet,
};

/// Where the bytes of a packet of a local instance are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// They were just read.
    Read,
    /// They were read earlier, for this runner, and the owner has them in hand again.
    Again(RunnerIx),
    /// They were read earlier, and have waited here for a session with this runner.
    Staged(RunnerIx),
}

impl Place {
    /// The runner that a packet has waited for.
    const fn waited(self) -> Option<RunnerIx> {
        match self {
            Self::Read => None,
            Self::Again(runner) | Self::Staged(runner) => Some(runner),
        }
    }

    /// Whether the owner can hand the packet over to a lane.
    const fn is_in_hand(self) -> bool {
        !matches!(self, Self::Staged(_))
    }
}

/// Where a segment of a local instance goes next.
enum Next {
    Local(Port),
    Runner(RunnerIx),
}

impl Core {
    /// Handles what was read from a TUN. Returns the number of segments.
    ///
    /// # Errors
    /// The reason why it was dropped.
    #[inline]
    pub(super) fn take_from_tun<S: Sink>(
        &mut self,
        from: Port,
        bytes: &mut [u8],
        place: Place,
        cx: &mut Cx<'_, S>,
    ) -> Result<usize, Reason> {
        let waited = place.waited();
        let sender = self.ports.get(from).and_then(|port| port.sender).ok_or(Reason::UnknownPort)?;
        let (vnet, ip) = Vnet::parse(bytes)?;
        let packet = Packet::parse(ip)?;
        // The descriptor is the sender's identity.
        if packet.source != sender.address && packet.source != sender.service_address {
            return Err(Reason::ForgedSource);
        }
        let tcp = match packet.content {
            Content::Tcp(tcp) => tcp,
            Content::Foreign { why, answerable } => {
                if !answerable && self.refused_by_icmp(sender.instance, ip, cx) {
                    return Err(Reason::TriedAnother);
                }
                if answerable {
                    self.denials.note(self.map.route.parties(&packet), 0, why, cx.now);
                    self.send_reject(from, ip, &packet, None, Unreachable::Prohibited, cx);
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
        let target = self.local_segment_target(sender, &packet, &tcp, waited, bytes, cx);
        let next = target.and_then(|target| match target {
            Target::Instance(_) => self.port(target).map(Next::Local).ok_or(Rejection::silent(Reason::NotAttached)),
            Target::Runner(runner) => Ok(Next::Runner(runner)),
        });
        match next {
            Ok(Next::Local(to)) => {
                let segments = segment::count(bytes);
                self.deliver(to, vnet, bytes, cx.sink);
                Ok(segments)
            }
            Ok(Next::Runner(runner)) => {
                let mut unit = Unit { bytes, packet, tcp, size: vnet.size, partial: vnet.partial };
                if self.flows.is_repeated() && !tcp.flags.opens() && waited.is_none() {
                    self.peers.doubt_path(runner, unit.longest(), cx);
                }
                if self.peers.has_lanes()
                    && place.is_in_hand()
                    && !tcp.flags.has(Flags::SYN)
                    && let Some(segments) = self.hand_over(runner, from, &unit, cx)
                {
                    return Ok(segments);
                }
                let sent = self.peers.send(runner, from, &mut unit, cx);
                if sent == Err(Reason::NoHandshake) && tcp.flags.opens() {
                    // The queue for a runner that doesn't answer is full.
                    let id = self.map.route.runners[runner].id;
                    return Err(self.reject_syn(id, from, bytes, cx).err().unwrap_or(Reason::NoHandshake));
                }
                sent
            }
            Err(Rejection { reason, answer }) => {
                if tcp.flags.opens() && reason != Reason::Moved {
                    self.denials.note(self.map.route.parties(&packet), tcp.destination_port, reason, cx.now);
                }
                // If the segment has waited, its sender was notified when the connection was reset.
                if let Some(answer) = answer.filter(|_| waited.is_none()) {
                    let (_, ip) = Vnet::parse(bytes)?;
                    self.send_reject(from, ip, &packet, Some(&tcp), answer, cx);
                }
                Err(reason)
            }
        }
    }

    /// Where a segment of a local instance goes.
    #[inline]
    fn local_segment_target<S: Sink>(
        &mut self,
        sender: Sender,
        packet: &Packet,
        tcp: &Tcp,
        waited: Option<RunnerIx>,
        bytes: &[u8],
        cx: &mut Cx<'_, S>,
    ) -> Result<Target, Rejection> {
        let route = &self.map.route;
        let opens = tcp.flags.opens();
        if opens && packet.source != sender.address {
            return Err(Rejection::prohibited(Reason::OpensFromService));
        }
        let owner = |address| route.owner(address);
        let destination =
            owner(packet.destination).ok_or(const { Rejection::prohibited(Reason::UnknownDestination) })?;
        let verdict = self.map.filter.verdict(sender.service, route.service_of(destination), tcp.segment());
        let direction = verdict.map_err(|denial| Rejection::prohibited(denial.into()))?;
        let source = owner(packet.source).ok_or(const { Rejection::silent(Reason::ForgedSource) })?;
        let from = Location::Here(sender.instance);
        let segment = Classified { packet, tcp, from, source, destination };
        if opens { self.open(&segment, waited, || bytes.to_vec(), cx) } else { self.follow(&segment, direction, cx) }
    }

    /// Answers the instance behind `to`, whose packet in `ip` may not pass: by ICMP, or by RST if it is a TCP segment
    /// that doesn't open a connection.
    pub(super) fn send_reject<S: Sink>(
        &mut self,
        to: Port,
        ip: &[u8],
        packet: &Packet,
        tcp: Option<&Tcp>,
        answer: Unreachable,
        cx: &mut Cx<'_, S>,
    ) {
        let Some(entry) = self.ports.get_mut(to).filter(|_| packet.is_between_hosts()) else { return };
        let reset = match tcp {
            Some(tcp) if !tcp.flags.opens() => match RejectPacket::reset(packet, tcp) {
                Some(reset) => Some(reset),
                None => return,
            },
            _ => None,
        };
        if !entry.reject_limit.admits(0, packet, tcp, cx.now) {
            cx.drops.count(Reason::RefusalLimited);
            return;
        }
        match (reset, tcp) {
            (Some(reset), _) => cx.sink.deliver(to, reset.bytes()),
            (None, None) => cx.sink.deliver(to, RejectPacket::unreachable(ip, packet, answer).bytes()),
            (None, Some(_)) => {
                self.delayed.push(to, RejectPacket::unreachable(ip, packet, answer), cx.now, cx.sink);
            }
        }
    }
}
