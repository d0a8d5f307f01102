//! Divides a turn among the TUNs.
//!
//! The cost of a packet is proportional to its segments and not to its bytes: a small segment is sealed and sent like a
//! large one. So a turn is divided by segments, evenly among the TUNs that have packets. A TUN that exceeds its share pays
//! in the following turns (Shreedhar and Varghese, Efficient fair queueing using deficit round robin, 1995).

use std::collections::HashMap;

use mesh_engine::Port;

/// The segments of one turn: 32 super-packets of 64 KiB at the usual MTU.
const SEGMENTS: usize = 32 * SUPER;

/// The segments of such a super-packet, which is the least share of a TUN.
const SUPER: usize = 51;

/// By how much TUNs have exceeded their shares.
#[derive(Debug, Default)]
pub(super) struct Shares(HashMap<Port, usize>);

impl Shares {
    /// The share of each TUN in a turn, in segments.
    pub(super) fn of(tuns: usize) -> usize {
        (SEGMENTS / tuns.max(1)).max(SUPER)
    }

    /// What is left of a TUN's `share` of this turn after it has paid for earlier turns.
    pub(super) fn begin(&mut self, port: Port, share: usize) -> usize {
        let Some(debt) = self.0.get_mut(&port) else { return share };
        if *debt >= share {
            *debt -= share;
            return 0;
        }
        let left = share - *debt;
        self.0.remove(&port);
        left
    }

    /// Notes that a TUN has exceeded its share by this much.
    pub(super) fn owe(&mut self, port: Port, segments: usize) {
        if segments > 0 {
            *self.0.entry(port).or_default() += segments;
        }
    }

    /// A TUN is gone.
    pub(super) fn forget(&mut self, port: Port) {
        self.0.remove(&port);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The segments that each TUN sends in this many turns, if it always has packets of so many segments; and the most
    /// segments in one turn.
    fn run(packets: &[usize], turns: usize) -> (Vec<usize>, usize) {
        let (mut shares, mut done, mut longest) = (Shares::default(), vec![0; packets.len()], 0);
        for _ in 0..turns {
            let mut turn = 0;
            for (port, packet) in packets.iter().enumerate() {
                let mut left = shares.begin(Port(port as u32), Shares::of(packets.len()));
                while left > 0 {
                    done[port] += packet;
                    turn += packet;
                    shares.owe(Port(port as u32), packet.saturating_sub(left));
                    left = left.saturating_sub(*packet);
                }
            }
            longest = longest.max(turn);
        }
        (done, longest)
    }

    #[test]
    fn however_small_their_segments_are_all_get_as_many_through() {
        for packets in [&[51, 1365][..], &[51, 51, 1365, 163], &[1, 1365, 1365, 1365]] {
            let (done, _) = run(packets, 1000);
            let (least, most) = (done.iter().min().unwrap(), done.iter().max().unwrap());
            assert!(most - least <= 2 * 1365, "{packets:?}: {done:?}");
        }
    }

    #[test]
    fn a_turn_is_no_longer_than_one_of_ordinary_bulk_and_a_packet_of_each() {
        let (_, bulk) = run(&[51], 100);
        for flood in [&[1365][..], &[1365; 12], &[163; 12], &[51; 12], &[51; 40]] {
            let (_, turn) = run(flood, 100);
            let least = 2 * SUPER * flood.len();
            assert!(turn <= bulk + flood.iter().sum::<usize>().max(least), "{flood:?}: {turn} of {bulk}");
        }
    }

    #[test]
    fn a_tun_that_goes_leaves_no_debt_to_the_next() {
        let mut shares = Shares::default();
        shares.owe(Port(1), 10_000);
        assert_eq!(shares.begin(Port(1), 100), 0);
        shares.forget(Port(1));
        assert_eq!(shares.begin(Port(1), 100), 100);
    }
}
