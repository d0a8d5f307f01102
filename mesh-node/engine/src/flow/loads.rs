//! How many connections each lane has.

use crate::lane_set::{LANES, LaneIx, LaneSet};

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

impl Loads {
    pub(super) const fn add(&mut self, assigned: Assigned) {
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
    pub(super) fn least(&self, lanes: LaneSet) -> LaneIx {
        let cost = |lane: &LaneIx| {
            let weight = if *lane == LaneIx::FIRST { 9 } else { 9 - lanes.len() };
            (self.0[lane.0 as usize] + 1) * weight
        };
        lanes.iter().min_by_key(cost).unwrap_or(LaneIx::FIRST)
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
