//! What other runners send.

use std::time::Instant;

use super::{Engine, connect::Seen, refused::No};
use crate::{
    Reason, Sink, UDP_BUFFER,
    flow::{Phase, Seat, Way},
    outbox::Hop,
    packet::{Content, FLAGS, Flags, Packet, Tcp},
    peers::Turn,
    refuse::Refusal,
    route::Owner,
    staged::Staged,
    tunnel,
    vnet::COMPLETE,
};

impl Engine {
    /// Takes in a datagram, whose sender is answered by `back`.
    ///
    /// # Errors
    /// The reason why it died here.
    #[inline]
    pub(super) fn take_from_udp(
        &mut self,
        back: Hop,
        datagram: &[u8],
        now: Instant,
        sink: &mut impl Sink,
    ) -> Result<(), Reason> {
        if datagram.len() > UDP_BUFFER {
            return Err(Reason::TooLarge);
        }
        let runner = if tunnel::data_index(datagram).is_some() {
            let slot = self.inbox.slot();
            let opened = self.peers.open(back, datagram, slot, &mut Turn { now, sink, drops: &mut self.drops });
            let Ok((runner, len)) = opened else {
                self.inbox.discard();
                return opened.map(|_| ());
            };
            let taken = self.take_segment(runner, len, now, sink);
            if let Err(reason) = taken {
                self.inbox.discard();
                self.drops.count(reason);
            }
            runner
        } else {
            let mut turn = Turn { now, sink, drops: &mut self.drops };
            self.peers.handshake(back, datagram, &self.map.route, &mut turn)?
        };
        // What waited for the session is judged again: the map may be another one by now.
        if let Some(staged) = self.peers.released(runner) {
            self.take_staged(staged, runner, now, sink);
        }
        Ok(())
    }

    /// Takes in what has waited for a session with `runner`.
    #[cold]
    fn take_staged(
        &mut self,
        staged: impl IntoIterator<Item = Staged>,
        runner: u32,
        now: Instant,
        sink: &mut impl Sink,
    ) {
        for mut staged in staged {
            if let Err(reason) = self.take_from_tun(staged.from, &mut staged.octets, Some(runner), now, sink) {
                self.drops.count(reason);
            }
        }
    }

    /// Takes in the packet of `len` octets that `runner` sent and that is in the inbox's slot.
    #[inline]
    fn take_segment(&mut self, runner: u32, len: usize, now: Instant, sink: &mut impl Sink) -> Result<(), Reason> {
        if len == 0 {
            self.inbox.discard();
            return Ok(());
        }
        // What continues a group has its addresses and ports, and the same verdict. Only that it ends a connection is news.
        let ends = self.inbox.packet(len).get(FLAGS).is_some_and(|flags| Flags(*flags).has(Flags::FIN));
        let last = if ends { Packet::parse(self.inbox.packet(len)).ok() } else { None };
        if self.inbox.join(runner, len, sink) {
            let (slot, role, end) = self.inbox.joined();
            match last {
                Some(packet @ Packet { content: Content::Tcp(tcp), .. }) => {
                    self.flows.pass(slot, role, &packet, &tcp, now);
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
        let way = self.way_here(runner, &packet, &tcp, len, now, sink);
        match way.and_then(|way| self.port(way).ok_or(No::silent(Reason::NotAttached))) {
            Ok(port) => {
                self.inbox.deliver(runner, port, self.flows.latest(), &packet, &tcp, sink);
                Ok(())
            }
            Err(No { reason, told }) => {
                if tcp.flags.opens() {
                    self.denials.note(self.map.route.parties(&packet), tcp.destination_port, reason, now);
                }
                if told.is_some() {
                    self.reset_sender(runner, &packet, &tcp, now, sink);
                }
                Err(reason)
            }
        }
    }

    /// Where a segment of `len` octets goes that `runner` sent.
    #[inline]
    fn way_here(
        &mut self,
        runner: u32,
        packet: &Packet,
        tcp: &Tcp,
        len: usize,
        now: Instant,
        sink: &mut impl Sink,
    ) -> Result<Way, No> {
        let route = &self.map.route;
        let opens = tcp.flags.opens();
        // Its map, or ours, may be on the way: who is told something for that reason is told something wrong.
        let source = route.owner(packet.source).ok_or_else(|| {
            let has_left = self.peers.departed.addresses.holds(&packet.source, now);
            No::silent(if has_left { Reason::Departed } else { Reason::UnknownSource })
        })?;
        if !route.is_on(source, runner) {
            return Err(No::silent(Reason::ForeignSource));
        }
        if opens && matches!(source, Owner::Service(_)) {
            return Err(No::silent(Reason::OpensFromService));
        }
        let from = Seat::There(route.runners[runner as usize].id);
        let is_here = |to: &Owner| route.standing_at(*to).any(|instance| self.homes.is_here(instance));
        let Some(destination) = route.owner(packet.destination).filter(is_here) else {
            return Err(self.not_here(packet, tcp, from));
        };
        let verdict = self.map.filter.verdict(route.service_of(source), route.service_of(destination), tcp.segment());
        let direction = verdict.map_err(|denial| No::prohibited(denial.into()))?;
        let seen = Seen { packet, tcp, from, source, destination };
        if opens {
            let syn = [&COMPLETE[..], self.inbox.packet(len)].concat();
            self.open(&seen, None, || syn, now, sink)
        } else {
            self.follow(&seen, direction, now, sink)
        }
    }

    /// What is said of a segment for somebody who isn't here: nothing, but to whoever goes on with a connection that we
    /// have reset. It has not had the RST, or had to ignore it since an acknowledgment of its was on the way.
    fn not_here(&self, packet: &Packet, tcp: &Tcp, from: Seat) -> No {
        let found = self.flows.find(packet, tcp).filter(|_| !tcp.flags.opens());
        let flow = found.and_then(|(slot, role)| Some((self.flows.get(slot)?, role)));
        match flow {
            Some((flow, role)) if flow.phase() == Phase::Reset && flow.seat(role) == from => {
                No::prohibited(Reason::NoConnection)
            }
            _ => No::silent(Reason::NotLocal),
        }
    }

    /// Tells whoever sent a segment from `runner` that it may not pass.
    fn reset_sender(&mut self, runner: u32, packet: &Packet, tcp: &Tcp, now: Instant, sink: &mut impl Sink) {
        let Some(mut reset) = Refusal::reset(packet, tcp) else { return };
        let tenant = self.map.route.owner(packet.source).map(|owner| self.map.route.service_of(owner));
        let tenant = tenant.map_or(u32::MAX, |service| self.map.filter.deployment(service));
        let admitted = self.peers.get_mut(runner).dealings().limit.admits(tenant, packet, Some(tcp), now);
        let mut turn = Turn { now, sink, drops: &mut self.drops };
        let sent = if admitted {
            self.peers.answer(runner, reset.packet_mut(), &mut turn)
        } else {
            Err(Reason::RefusalLimited)
        };
        if let Err(reason) = sent {
            self.drops.count(reason);
        }
    }
}
