//! What instances send.

use arbitrary::Unstructured;

use crate::world::{Op, World};

/// The first octet says whether there is a session in the beginning. Whatever an instance sends, nothing goes anywhere
/// that may not, nothing under another's address, and every packet is accounted for.
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
    // It ends where the input does.
    let _ = world.live(&mut u, OPS);
    world.end();
}
