//! Cutting and joining, checked against tun-rs: see `tests/oracle`. tests/fuzz does the same with better inputs.

use proptest::prelude::*;

use crate::{bench::Coalescing, split, testing::Recorder};

#[path = "../tests/oracle/mod.rs"]
mod theirs;

use self::theirs::Step;

fn cut(bytes: &mut [u8]) -> Vec<Vec<u8>> {
    let mut segments = vec![];
    split(bytes, |segment| segments.push(segment.to_vec()));
    segments
}

fn join(steps: &[Step]) -> Vec<Vec<u8>> {
    let (mut coalescing, mut sink) = (Coalescing::new(), Recorder::default());
    for step in steps {
        match step {
            Step::Segment(runner, bytes) => assert!(coalescing.take(*runner, bytes, &mut sink)),
            Step::Forged(bytes) => coalescing.forged(bytes),
            Step::Flush => coalescing.flush(&mut sink),
            Step::Enable(enabled) => {
                coalescing.flush(&mut sink);
                coalescing.enable(*enabled);
            }
        }
    }
    coalescing.flush(&mut sink);
    sink.delivered.into_iter().map(|(_, bytes)| bytes).collect()
}

proptest! {
    #[test]
    fn super_packets_are_cut_as_tun_rs_cuts_them(input in prop::collection::vec(any::<u8>(), 30..120)) {
        theirs::cutting(&input, cut);
    }

    #[test]
    fn segments_are_joined_as_tun_rs_and_linux_join_them(input in prop::collection::vec(any::<u8>(), 0..120)) {
        theirs::joining(&input, join);
    }
}
