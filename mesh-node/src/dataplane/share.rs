//! How much of a turn each TUN has.
//!
//! What a packet costs is by its segments, not by its octets: sealed, sent and delivered one by one, a small one costs as
//! much as a large one. So a turn is divided by segments, and evenly among the TUNs that have something to give; who has
//! had more than its share pays in the turns that follow (Shreedhar and Varghese, Efficient fair queueing using deficit
//! round robin, 1995).

use std::collections::HashMap;

use mesh_engine::Port;

/// The segments of one turn: 32 super-packets of 64 KiB at the usual MTU.
const SEGMENTS: usize = 32 * SUPER;

/// The segments of such a super-packet, which is what a TUN has at least, however many want a turn.
const SUPER: usize = 51;

/// What TUNs have had beyond their shares.
#[derive(Debug, Default)]
pub(super) struct Shares(HashMap<Port, usize>);

impl Shares {
    /// What each of so many TUNs has of a turn.
    pub(super) fn of(tuns: usize) -> usize {
        (SEGMENTS / tuns.max(1)).max(SUPER)
    }

    /// What is left of a TUN's `share` of this turn: nothing as long as it pays for earlier ones.
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

    /// It has had so much more than there was left.
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

    /// What each of these TUNs, which have packets of so many segments without end, gets done in so many turns; and the
    /// most segments that a turn had.
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
    fn who_goes_leaves_no_debt_to_who_comes() {
        let mut shares = Shares::default();
        shares.owe(Port(1), 10_000);
        assert_eq!(shares.begin(Port(1), 100), 0);
        shares.forget(Port(1));
        assert_eq!(shares.begin(Port(1), 100), 100);
    }
}
