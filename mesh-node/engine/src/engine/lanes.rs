//! What goes to other lanes, and what comes from them.

use super::core::Core;
use crate::{
    Port, Reason, Sink,
    cx::Cx,
    flow::Lane,
    index::RunnerIx,
    lane_set::LaneIx,
    mss,
    order::Said,
    packet::{Content, Flags, Packet},
    segment::{self, Unit},
    vnet::Vnet,
};

impl Core {
    /// Hands a packet that may pass over to another lane, if its connection is on one. Returns the number of segments.
    pub(super) fn hand_over<S: Sink>(
        &mut self,
        runner: RunnerIx,
        from: Port,
        unit: &Unit<'_>,
        cx: &mut Cx<'_, S>,
    ) -> Option<usize> {
        let payload = unit.packet.len - unit.tcp.headers;
        if unit.size.is_some() {
            self.peers.note_load(runner, payload, cx);
        }
        let (lanes, settled) = self.peers.lanes(runner, cx.now);
        let (lane, waits) = match self.flows.lane(lanes, settled, &unit.tcp, payload) {
            Lane::On(LaneIx::FIRST) => return None,
            Lane::On(lane) => (lane, false),
            Lane::Moves(lane) => {
                let (slot, role) = self.flows.latest();
                let generation = self.flows.get(slot)?.generation();
                if !self.peers.begin_move(runner, from, (slot, generation, role), cx) {
                    return None;
                }
                self.flows.move_to(lane, slot, role);
                (lane, true)
            }
        };
        self.peers.hand_over(runner, lane, unit, waits, cx)
    }

    /// Ends the moves that have waited in vain: the connections stay on the first lane for now.
    pub(super) fn end_moves<S: Sink>(&mut self, cx: &mut Cx<'_, S>) {
        for overdue in self.peers.overdue_moves(cx.now) {
            let (slot, generation, role) = overdue.flow;
            self.flows.move_back(slot, generation, role);
            cx.sink.moved(overdue.port, false);
        }
    }

    /// Handles what a lane says.
    ///
    /// # Errors
    /// The reason why a packet was dropped.
    pub(super) fn take_from_lane<S: Sink>(
        &mut self,
        said: &Said,
        bytes: &mut [u8],
        cx: &mut Cx<'_, S>,
    ) -> Result<(), Reason> {
        let (tunnel, back) = match *said {
            Said::Packet(tunnel, back) => (tunnel, back),
            Said::Up(tunnel) => {
                self.peers.note_up(tunnel);
                return Ok(());
            }
            Said::Down(tunnel) => {
                self.peers.note_down(tunnel);
                return Ok(());
            }
            Said::Dropped(reason, count) => {
                cx.drops.add(reason, count);
                return Ok(());
            }
        };
        let segments = segment::count(bytes);
        let (vnet, ip) = Vnet::parse(bytes)?;
        let packet = Packet::parse(ip)?;
        let tcp = match packet.content {
            Content::Tcp(tcp) => tcp,
            Content::Foreign { why, .. } => return Err(why),
        };
        let all = packet.len + (segments - 1) * tcp.headers;
        let runner = self.peers.hear_by_lane(tunnel, back, all, cx)?;
        // Those that came earlier by the first lane are delivered earlier.
        self.inbox.flush(cx.sink);
        if tcp.flags.has(Flags::SYN)
            && let Some(proven) = self.peers.proven(runner)
        {
            mss::lower(&mut bytes[crate::VNET..], tcp.headers, proven);
        }
        let port = self.judge(runner, &packet, &tcp, |_| bytes.to_vec(), cx)?;
        self.deliver(port, vnet, bytes, cx.sink);
        Ok(())
    }
}
