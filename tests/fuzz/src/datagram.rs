//! Datagrams from the network: from anywhere, and from another, authenticated runner.

use arbitrary::Unstructured;

use crate::world::{Op, World};

/// The first byte says whether there is a session at the beginning. Nothing that the peer seals reaches an instance
/// without permission, and every datagram is counted.
pub fn run(data: &[u8]) {
    const OPS: &[Op] = &[
        Op::Garbage,
        Op::Seal,
        Op::SealSegment,
        Op::SealSegment,
        Op::SealAnswer,
        Op::SealProbe,
        Op::SealProbe,
        Op::Again,
        Op::Handshake,
        Op::WriteSegment,
        Op::WriteAnswer,
        Op::Wait,
        Op::Map,
        Op::Deaf,
    ];
    let mut u = Unstructured::new(data);
    let Ok(session) = u.arbitrary() else { return };
    let mut world = World::new(session, Box::new(vec![0; 64 + 64 * 64]));
    // The run ends with the input.
    let _ = world.live(&mut u, OPS);
    world.end();
}
