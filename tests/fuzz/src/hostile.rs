//! Packets of a hostile instance and of a hostile runner, beside two unrelated instances.

use arbitrary::Unstructured;

use crate::{
    mesh::address,
    packet::{ACK, SYN, Segment},
    world::{Op, World},
};

/// The hostile instance is 13, of the caller's deployment. The hostile runner is the peer.
const HOSTILE: u32 = 13;

/// Instance 10 calls instance 12, of another deployment that trusts it. Whatever the hostile ones send, that connection
/// stands, and instance 10 can open others.
pub fn run(data: &[u8]) {
    const OPS: &[Op] = &[
        Op::WriteSegment,
        Op::WriteSegment,
        Op::WriteSegment,
        Op::WriteAnswer,
        Op::WriteUnreachable,
        Op::Write,
        Op::SealSegment,
        Op::SealSegment,
        Op::SealAnswer,
        Op::Seal,
        Op::Again,
        Op::Garbage,
        Op::Handshake,
        Op::Wait,
    ];
    let mut u = Unstructured::new(data);
    let mut world = World::new(true, Box::new(vec![0; 64 + 64 * 256]));
    let there = |port, flags| Segment {
        source: (address(10), port),
        destination: (address(12), 5432),
        sequence: if flags == SYN { 1000 } else { 1001 },
        acknowledgment: if flags == SYN { 0 } else { 7001 },
        flags,
    };
    let back = |port, flags| Segment {
        source: (address(12), 5432),
        destination: (address(10), port),
        sequence: if flags & SYN != 0 { 7000 } else { 7001 },
        acknowledgment: 1001,
        flags,
    };
    let open = |world: &mut World, port| {
        assert_eq!(world.say(10, &there(port, SYN)), [12], "a connection that may be opened");
        assert_eq!(world.say(12, &back(port, SYN | ACK)), [10], "its answer");
        assert_eq!(world.say(10, &there(port, ACK)), [12]);
    };
    open(&mut world, 50_000);
    world.confine(HOSTILE);
    // The run ends with the input.
    let _ = world.live(&mut u, OPS);
    assert_eq!(world.say(12, &back(50_000, ACK)), [10], "a connection that stands");
    assert_eq!(world.say(10, &there(50_000, ACK)), [12], "and its other way");
    (0..10).for_each(|n| open(&mut world, 51_000 + n));
    world.end();
}
