//! The room for packets that wait for a lane, and the order in which TUNs get it.
//!
//! As in a turn of the engine ([`super::super::share`]), the cost of a packet is its number of segments, and TUNs with
//! packets get equally many through: the next one is the TUN that has had the fewest since it had nothing to send (Goyal,
//! Vin and Cheng, Start-time fair queueing, 1996).

use std::collections::{HashMap, VecDeque};

use mesh_engine::Port;

/// The segments that wait before there is no room: those of 32 super-packets of 64 KiB at the usual MTU, as in one turn of the
/// engine.
const SEGMENTS: usize = 32 * 51;

/// What waits for a lane, in order.
#[derive(Debug, Default)]
pub(super) struct Queue {
    packets: VecDeque<usize>,
    segments: usize,
    /// Where the next packet of each TUN begins, in segments.
    next: HashMap<Port, u64>,
    /// Where the last packet began.
    clock: u64,
    /// How many have left it.
    done: u64,
}

impl Queue {
    pub(super) const fn has_room(&self) -> bool {
        self.segments < SEGMENTS
    }

    /// Where the next packet of a TUN would begin: the least comes first.
    pub(super) fn start(&self, port: Port) -> u64 {
        self.next.get(&port).map_or(self.clock, |next| self.clock.max(*next))
    }

    pub(super) fn add(&mut self, port: Port, segments: usize) {
        self.clock = self.start(port);
        self.next.insert(port, self.clock + segments as u64);
        self.packets.push_back(segments);
        self.segments += segments;
    }

    /// The first one has left.
    pub(super) fn remove(&mut self) {
        if let Some(segments) = self.packets.pop_front() {
            self.segments -= segments;
            self.done += 1;
        }
    }

    /// A TUN is gone.
    pub(super) fn forget(&mut self, port: Port) {
        self.next.remove(&port);
    }

    /// How many packets were ever added.
    pub(super) fn given(&self) -> u64 {
        self.done + self.packets.len() as u64
    }

    /// How many have left.
    pub(super) const fn done(&self) -> u64 {
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The segments that each TUN gets through, if it always has packets of so many; and the most that wait.
    fn run(sizes: &[usize], packets: usize) -> (Vec<usize>, usize) {
        let (mut queue, mut through, mut most) = (Queue::default(), vec![0; sizes.len()], 0);
        for _ in 0..packets {
            while queue.has_room() {
                let next = (0..sizes.len()).min_by_key(|port| queue.start(Port(*port as u32))).unwrap();
                queue.add(Port(next as u32), sizes[next]);
                through[next] += sizes[next];
            }
            most = most.max(queue.segments);
            queue.remove();
        }
        (through, most)
    }

    #[test]
    fn however_small_their_segments_are_all_get_as_many_through() {
        for sizes in [&[51, 1365][..], &[51, 51, 1365, 163], &[1, 1365, 1365, 1365]] {
            let (through, _) = run(sizes, 10_000);
            let (least, most) = (through.iter().min().unwrap(), through.iter().max().unwrap());
            assert!(most - least <= 2 * 1365, "{sizes:?}: {through:?}");
        }
    }

    #[test]
    fn a_flood_makes_others_wait_no_longer_than_for_bulk_and_one_of_its_packets() {
        for flood in [&[1365][..], &[1365; 12], &[163; 12], &[51; 40]] {
            let (_, most) = run(flood, 1000);
            assert!(most < SEGMENTS + flood[0], "{flood:?}: {most}");
        }
        let mut queue = Queue::default();
        (0..12).for_each(|port| queue.add(Port(port), 1365));
        let bystander = queue.start(Port(99));
        assert!((0..12).all(|port| queue.start(Port(port)) > bystander), "a bystander is next");
    }

    #[test]
    fn what_is_done_is_counted_and_a_tun_that_goes_leaves_nothing() {
        let mut queue = Queue::default();
        queue.add(Port(1), 10);
        queue.add(Port(2), 10);
        queue.remove();
        assert_eq!((queue.given(), queue.done(), queue.segments), (2, 1, 10));
        queue.forget(Port(1));
        queue.forget(Port(2));
        assert!(queue.next.is_empty());
    }
}
