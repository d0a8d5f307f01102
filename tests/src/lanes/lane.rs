//! The thread of a lane.

use mesh_engine::Datagrams;

use super::{
    Bug, connection,
    network::Batch,
    runner::{Tale, Told},
    world::World,
};
use crate::{Failure, pair::endpoint, stream::Read};

/// How much a lane has to tell before it receives no more.
const TALES: usize = 128;

/// How many packets a lane sends in a turn.
const PACKETS: u64 = 8;

impl World {
    /// One turn: it receives, does some of its jobs, and tells the engine.
    pub(super) fn lane_turn(&mut self, r: usize, lane: usize) -> Result<(), Failure> {
        let (now, mut told) = (self.instant(), Told::default());
        self.runners[r].lanes[lane].turn = None;
        for _ in 0..2 {
            let station = &mut self.runners[r].lanes[lane];
            if station.tales.len() >= TALES {
                break;
            }
            let Some(Batch { from, bytes, stride, .. }) = station.inbox.pop_front() else { break };
            let received = Datagrams { from: endpoint(from).into(), local: None, bytes: &bytes, stride, skip: 0 };
            station.lane.handle_udp(&received, now, &mut told);
        }
        let mut done = 0;
        for _ in 0..1 + self.rng.below(PACKETS) {
            let Some((order, mut packet)) = self.runners[r].lanes[lane].jobs.pop_front() else { break };
            if !packet.is_empty() {
                self.check_right(r, &packet)?;
                self.tally.by_lane[lane + 1] += 1;
                done += 1;
            }
            self.runners[r].lanes[lane].lane.handle_order(order, &mut packet, now, &mut told);
        }
        let station = &mut self.runners[r].lanes[lane];
        station.lane.handle_timeout(now, &mut told);
        station.lane.flush(&mut told);
        let start = self.start;
        station.due = station.lane.next_timeout().map(|at| at.saturating_duration_since(start));
        let (more, telling) =
            (!station.jobs.is_empty() || !station.inbox.is_empty(), done > 0 || !told.tales.is_empty());
        for (to, bytes, stride) in told.sent {
            self.send(r, lane + 1, to, bytes, stride);
        }
        for tale in told.tales {
            let shuffled = self.bug == Some(Bug::NewsShuffled) && self.rng.chance(10);
            let tales = &mut self.runners[r].lanes[lane].tales;
            let at = if shuffled { tales.len().saturating_sub(1) } else { tales.len() };
            tales.insert(at, tale);
        }
        self.runners[r].lanes[lane].tales.extend((0..done).map(|_| Tale::Done));
        if more {
            self.wake_lane(r, lane);
        }
        if telling {
            self.wake_engine(r);
        }
        Ok(())
    }

    /// A revocation that is said to be applied holds for what lanes send.
    fn check_right(&mut self, r: usize, packet: &[u8]) -> Result<(), Failure> {
        let Some((number, _)) = Read::parse(packet).as_ref().and_then(connection::of) else { return Ok(()) };
        let (one, runner) = (&self.connections[number], &self.runners[r]);
        if one.is_barred(runner.applied) && one.is_barred(runner.revision) {
            let what = format!("connection {number}: a lane of {r} sends after the revocation was applied");
            return Err(self.failure(&what));
        }
        Ok(())
    }
}
