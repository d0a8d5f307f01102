//! The lanes of the connections to other runners.
//!
//! A connection begins on the first lane. Its first super-packet decides for good, once a runner can be reached by more
//! lanes than one: each end of a connection is on the lane that has the fewest then. It may leave the first lane only
//! while nothing of it is under way there, so that its order holds.

use super::{end::Role, table::Flows};
use crate::{
    index::Slot,
    lane::{LANES, LaneIx, LaneSet},
    packet::Tcp,
};

/// The fewest bytes of payload in one read of a TUN that decide: what is less isn't worth another thread.
const HEAVY: usize = 8192;

/// The lane of what one end of a connection sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Assigned {
    /// Not decided yet: the first one.
    Undecided,
    To(LaneIx),
}

/// How many connections each lane has, by what local instances send.
#[derive(Debug, Default)]
pub(super) struct Loads([u32; LANES]);

/// What becomes of the segment that has just passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    On(LaneIx),
    /// It should be the first one that goes by this lane, while others are under way on the first lane.
    Moves(LaneIx),
}

impl Loads {
    const fn add(&mut self, assigned: Assigned) {
        if let Assigned::To(lane) = assigned {
            self.0[lane.0 as usize] += 1;
        }
    }

    pub(super) const fn remove(&mut self, assigned: Assigned) {
        if let Assigned::To(lane) = assigned {
            self.0[lane.0 as usize] -= 1;
        }
    }

    /// The lane that is the least busy with one more. The engine's own thread also judges what the others send, which
    /// takes it about an eighth as long as sealing does: so it gets fewer, the more lanes there are.
    fn least(&self, lanes: LaneSet) -> LaneIx {
        let cost = |lane: &LaneIx| {
            let weight = if *lane == LaneIx::FIRST { 9 } else { 9 - lanes.len() };
            (self.0[lane.0 as usize] + 1) * weight
        };
        lanes.iter().min_by_key(cost).unwrap_or(LaneIx::FIRST)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_own_lane_has_fewer_connections_the_more_lanes_there_are() {
        let spread = |lanes: usize| {
            let (mut loads, set) = (Loads::default(), LaneIx::further(lanes).fold(LaneSet::FIRST, LaneSet::with));
            (0..90).for_each(|_| {
                let lane = loads.least(set);
                loads.add(Assigned::To(lane));
            });
            loads.0[..lanes].to_vec()
        };
        assert_eq!(spread(1), [90]);
        assert_eq!(spread(2), [39, 51]);
        assert_eq!(spread(4), [14, 26, 25, 25]);
        assert_eq!(spread(8)[0], 1);
    }
}
