//! What comes from the network: from anybody, and from another runner that is authenticated.

use arbitrary::Unstructured;

use crate::world::{Op, World};

/// The first octet says whether there is a session in the beginning. Whatever the peer seals, nothing reaches an
/// instance that may not, and every datagram is accounted for.
pub fn run(data: &[u8]) {
    const OPS: &[Op] = &[
        Op::Garbage,
        Op::Seal,
        Op::SealSegment,
        Op::SealSegment,
        Op::SealAnswer,
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
    // It ends where the input does.
    let _ = world.live(&mut u, OPS);
    world.end();
}
