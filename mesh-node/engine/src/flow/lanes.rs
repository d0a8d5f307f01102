//! The lanes of the connections to other runners.
//!
//! A connection begins on the first lane. Its first super-packet decides for good, once a runner can be reached by more
//! lanes than one: each end of a connection is on the lane that has the fewest then. It may leave the first lane only
//! while nothing of it is under way there, so that its order holds.

use super::{end::Role, loads::Assigned, table::Flows};
use crate::{
    index::Slot,
    lane_set::{LaneIx, LaneSet},
    packet::Tcp,
};

/// The fewest bytes of payload in one read of a TUN that decide: what is less isn't worth another thread.
const HEAVY: usize = 8192;

/// What becomes of the segment that has just passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    On(LaneIx),
    /// It should be the first one that goes by this lane, while others are under way on the first lane.
    Moves(LaneIx),
}

impl Flows {
    /// The lane for the segment that has just passed, with so many bytes of payload. `lanes` are those of its runner;
    /// `settled`: connections may be assigned to them now.
    #[inline]
    pub(crate) fn lane(&mut self, lanes: LaneSet, settled: bool, tcp: &Tcp, payload: usize) -> Lane {
        let (slot, role) = self.latest;
        let Some(Some(flow)) = self.slots.get_mut(slot) else { return Lane::On(LaneIx::FIRST) };
        match flow.lanes[role as usize] {
            Assigned::To(lane) if lanes.has(lane) => Lane::On(lane),
            Assigned::Undecided if lanes == LaneSet::FIRST || payload < HEAVY || !settled => Lane::On(LaneIx::FIRST),
            Assigned::To(_) => {
                self.assign(slot, role, Assigned::Undecided);
                Lane::On(LaneIx::FIRST)
            }
            Assigned::Undecided => {
                let lane = self.loads.least(lanes);
                let acknowledged = flow.ack(role.other()) == Some(tcp.sequence) && !self.repeated;
                if acknowledged || lane == LaneIx::FIRST {
                    self.assign(slot, role, Assigned::To(lane));
                    Lane::On(lane)
                } else {
                    Lane::Moves(lane)
                }
            }
        }
    }

    /// What one end of a flow sends goes by this lane from now on.
    pub(crate) fn move_to(&mut self, lane: LaneIx, slot: Slot, role: Role) {
        self.assign(slot, role, Assigned::To(lane));
    }

    /// It goes by the first lane again, until it can be moved.
    pub(crate) fn move_back(&mut self, slot: Slot, generation: u64, role: Role) {
        if self.get(slot).is_some_and(|flow| flow.generation() == generation) {
            self.assign(slot, role, Assigned::Undecided);
        }
    }

    fn assign(&mut self, slot: Slot, role: Role, assigned: Assigned) {
        if let Some(Some(flow)) = self.slots.get_mut(slot) {
            self.loads.add(assigned);
            self.loads.remove(std::mem::replace(&mut flow.lanes[role as usize], assigned));
        }
    }
}
