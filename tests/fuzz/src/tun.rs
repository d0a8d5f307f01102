//! Packets from instances.

use arbitrary::Unstructured;

use crate::world::{Op, World};

/// The first byte says whether there is a session at the beginning. Whatever an instance sends, nothing goes anywhere
/// without permission or with another's address, and every packet is counted.
pub fn run(data: &[u8]) {
    const OPS: &[Op] = &[
        Op::Write,
        Op::WriteSegment,
        Op::WriteSegment,
        Op::WriteSegment,
        Op::WriteAnswer,
        Op::WriteAnswer,
        Op::WriteUnreachable,
        Op::SealAnswer,
        Op::Wait,
        Op::Map,
        Op::Attach,
        Op::Detach,
        Op::Deaf,
        Op::Other,
    ];
    let mut u = Unstructured::new(data);
    let Ok(session) = u.arbitrary() else { return };
    let mut world = World::new(session, Box::new(vec![0; 64 + 64 * 64]));
    // The run ends with the input.
    let _ = world.live(&mut u, OPS);
    world.end();
}
