//! Datagrams from other runners.

use super::{connect::Classified, core::Core, from_tun::Place, rejection::Rejection};
use crate::{
    Port, Reason, Sink, UDP_BUFFER,
    cx::Cx,
    flow::{Location, Phase, Target},
    hop::Way,
    index::{DeploymentIx, RunnerIx},
    lane_set::LaneIx,
    mss,
    packet::{Content, FLAGS, Flags, Packet, Tcp},
    reject_packet::RejectPacket,
    route::Owner,
    staged::Staged,
    tunnel,
    vnet::COMPLETE,
};

impl Core {
    /// Handles a datagram. Its sender is answered by `back`.
    ///
    /// # Errors
    /// The reason why it was dropped.
    #[inline]
    pub(super) fn take_from_udp<S: Sink>(
        &mut self,
        back: Way,
        datagram: &[u8],
        cx: &mut Cx<'_, S>,
    ) -> Result<(), Reason> {
        if datagram.len() > UDP_BUFFER {
            return Err(Reason::TooLarge);
        }
        let runner = if let Some(index) = tunnel::data_index(datagram) {
            if index.lane() != LaneIx::FIRST {
                return self.peers.redirect(index, back, datagram, cx);
            }
            let slot = self.inbox.slot();
            let opened = self.peers.open(back, datagram, slot, cx);
            let Ok((runner, len)) = opened else {
                self.inbox.discard();
                return opened.map(|_| ());
            };
            let taken = self.take_segment(runner, len, cx);
            if let Err(reason) = taken {
                self.inbox.discard();
                cx.drops.count(reason);
            }
            runner
        } else {
            self.peers.handshake(back, datagram, &self.map.route, cx)?
        };
        // What waited for the session is judged again: the map may have changed.
        if let Some(staged) = self.peers.released(runner) {
            self.take_staged(staged, runner, cx);
        }
        Ok(())
    }

    /// Handles the packets that waited for a session with `runner`.
    #[cold]
    fn take_staged<S: Sink>(&mut self, staged: impl IntoIterator<Item = Staged>, runner: RunnerIx, cx: &mut Cx<'_, S>) {
        for mut staged in staged {
            if let Err(reason) = self.take_from_tun(staged.from, &mut staged.bytes, Place::Staged(runner), cx) {
                cx.drops.count(reason);
            }
        }
    }

    /// Handles the packet of `len` bytes from `runner` that is in the inbox's slot.
    #[inline]
    fn take_segment<S: Sink>(&mut self, runner: RunnerIx, len: usize, cx: &mut Cx<'_, S>) -> Result<(), Reason> {
        if len == 0 {
            self.inbox.discard();
            return Ok(());
        }
        // A segment that continues a group has the group's addresses, ports and verdict. Only a FIN changes the flow.
        let ends = self.inbox.packet(len).get(FLAGS).is_some_and(|flags| Flags(*flags).has(Flags::FIN));
        let last = if ends { Packet::parse(self.inbox.packet(len)).ok() } else { None };
        if self.inbox.join(runner, len, cx.sink) {
            let (slot, role, end) = self.inbox.joined();
            match last {
                Some(packet @ Packet { content: Content::Tcp(tcp), .. }) => {
                    self.flows.pass(slot, role, &packet, &tcp, cx.now);
                }
                _ => self.flows.extend(slot, role, end),
            }
            return Ok(());
        }
        let packet = Packet::parse(self.inbox.packet(len))?;
        let tcp = match packet.content {
            Content::Tcp(tcp) => tcp,
            Content::Foreign { why, .. } => return Err(why),
        };
        if tcp.flags.has(Flags::SYN)
            && let Some(proven) = self.peers.proven(runner)
        {
            mss::lower(self.inbox.packet_mut(len), tcp.headers, proven);
        }
        let syn = |core: &Self| [&COMPLETE[..], core.inbox.packet(len)].concat();
        let port = self.judge(runner, &packet, &tcp, syn, cx)?;
        self.inbox.deliver(runner, port, self.flows.latest(), &packet, &tcp, cx.sink);
        Ok(())
    }

    /// The TUN that a segment, or a super-packet, from `runner` is for. One that may not pass is answered if it should be.
    /// `syn` copies it in the format of a TUN's read.
    ///
    /// # Errors
    /// The reason why it may not pass.
    #[inline]
    pub(super) fn judge<S: Sink>(
        &mut self,
        runner: RunnerIx,
        packet: &Packet,
        tcp: &Tcp,
        syn: impl FnOnce(&Self) -> Vec<u8>,
        cx: &mut Cx<'_, S>,
    ) -> Result<Port, Reason> {
        let target = self.remote_segment_target(runner, packet, tcp, syn, cx);
        let port = target.and_then(|target| self.port(target).ok_or(Rejection::silent(Reason::NotAttached)));
        port.map_err(|Rejection { reason, answer }| {
            if tcp.flags.opens() {
                self.denials.note(self.map.route.parties(packet), tcp.destination_port, reason, cx.now);
            }
            if answer.is_some() {
                self.reset_sender(runner, packet, tcp, cx);
            }
            reason
        })
    }

    /// Where a segment from `runner` goes.
    #[inline]
    fn remote_segment_target<S: Sink>(
        &mut self,
        runner: RunnerIx,
        packet: &Packet,
        tcp: &Tcp,
        syn: impl FnOnce(&Self) -> Vec<u8>,
        cx: &mut Cx<'_, S>,
    ) -> Result<Target, Rejection> {
        let route = &self.map.route;
        let opens = tcp.flags.opens();
        // Either map may be about to change, so these are not answered: the answer could be wrong a moment later.
        let source = route.owner(packet.source).ok_or_else(|| {
            let has_left = self.peers.departed.addresses.holds(&packet.source, cx.now);
            Rejection::silent(if has_left { Reason::Departed } else { Reason::UnknownSource })
        })?;
        if !route.is_on(source, runner) {
            return Err(Rejection::silent(Reason::ForeignSource));
        }
        if opens && matches!(source, Owner::Service(_)) {
            return Err(Rejection::silent(Reason::OpensFromService));
        }
        let from = Location::There(route.runners[runner].id);
        let is_local = |to: &Owner| route.standing_at(*to).any(|instance| self.ports.is_local(instance));
        let Some(destination) = route.owner(packet.destination).filter(is_local) else {
            return Err(self.not_local(packet, tcp, from));
        };
        let verdict = self.map.filter.verdict(route.service_of(source), route.service_of(destination), tcp.segment());
        let direction = verdict.map_err(|denial| Rejection::prohibited(denial.into()))?;
        let segment = Classified { packet, tcp, from, source, destination };
        if opens {
            let syn = syn(self);
            self.open(&segment, None, || syn, cx)
        } else {
            self.follow(&segment, direction, cx)
        }
    }

    /// The rejection of a segment whose destination isn't local. It has no answer unless the sender goes on with a
    /// connection that was reset here: then the RST was lost, or was ignored because an ACK was in flight.
    fn not_local(&self, packet: &Packet, tcp: &Tcp, from: Location) -> Rejection {
        let found = self.flows.find(packet, tcp).filter(|_| !tcp.flags.opens());
        let flow = found.and_then(|(slot, role)| Some((self.flows.get(slot)?, role)));
        match flow {
            Some((flow, role)) if flow.phase() == Phase::Reset && flow.location(role) == from => {
                Rejection::prohibited(Reason::NoConnection)
            }
            _ => Rejection::silent(Reason::NotLocal),
        }
    }

    /// Answers the sender of a segment from `runner` that may not pass, by RST.
    fn reset_sender<S: Sink>(&mut self, runner: RunnerIx, packet: &Packet, tcp: &Tcp, cx: &mut Cx<'_, S>) {
        let Some(mut reset) = RejectPacket::reset(packet, tcp) else { return };
        let service = self.map.route.owner(packet.source).map(|owner| self.map.route.service_of(owner));
        let tenant = service.map_or(DeploymentIx::UNKNOWN, |service| self.map.filter.deployment(service));
        let admitted = self.peers.get_mut(runner).active().reject_limit.admits(tenant.0, packet, Some(tcp), cx.now);
        let sent =
            if admitted { self.peers.answer(runner, reset.packet_mut(), cx) } else { Err(Reason::RefusalLimited) };
        if let Err(reason) = sent {
            cx.drops.count(reason);
        }
    }
}
