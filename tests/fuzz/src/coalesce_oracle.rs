//! Joins segments, in comparison with an independent implementation.

use std::net::SocketAddr;

use mesh_engine::{Event, Port, Sink, bench::Coalescing};

use crate::{oracle::Step, sink::is_deliverable};

/// Joins a stream of segments: all are delivered unchanged and in order, and as many are joined as tun-rs or Linux
/// joins. See the engine's `tests/oracle`.
pub fn run(data: &[u8]) {
    crate::oracle::joining(data, |steps| {
        let (mut coalescing, mut delivered) = (Coalescing::new(), Delivered::default());
        for step in steps {
            match step {
                Step::Segment(runner, bytes) => assert!(coalescing.take(*runner, bytes, &mut delivered)),
                Step::Forged(bytes) => coalescing.forged(bytes),
                Step::Flush => coalescing.flush(&mut delivered),
                Step::Enable(enabled) => {
                    coalescing.flush(&mut delivered);
                    coalescing.enable(*enabled);
                }
            }
        }
        coalescing.flush(&mut delivered);
        delivered.0
    });
}

#[derive(Default)]
struct Delivered(Vec<Vec<u8>>);

impl Sink for Delivered {
    fn send(&mut self, _: SocketAddr, _: &[u8], _: usize) {
        panic!("a coalescer sends nothing");
    }

    fn deliver(&mut self, _: Port, packet: &[u8]) {
        is_deliverable(packet);
        self.0.push(packet.to_vec());
    }

    fn event(&mut self, _: Event) {}
}
