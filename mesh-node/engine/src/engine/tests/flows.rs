//! Connections to services of several instances, by several engines.

mod choice;
mod ends;
mod releases;
mod restart;

use super::*;
use crate::testing::packet;
use mesh_proto::view::InstanceState;
use std::collections::BTreeMap;

/// Service 1 calls service 2 of the same deployment. Service 2 has 20 and 21 on runner 2, and 22 on runner 3; service 1
/// has 10 on runner 1, 11 on runner 2, and 12 on runner 3.
fn view(runner: u64) -> Builder {
    no_callees(runner).instance(20, 2, 2).instance(21, 2, 2).instance(22, 2, 3)
}

/// [`view`] without service 2's instances.
fn no_callees(runner: u64) -> Builder {
    let builder = Builder::new(runner).runner(1).runner(2).runner(3).deployment(1, "acme");
    let builder = builder.service(1, 1).service(2, 1);
    builder.instance(10, 1, 1).instance(11, 1, 2).instance(12, 1, 3)
}

const CALLERS: [(u64, u32); 3] = [(1, 10), (2, 11), (3, 12)];
const CALLEES: [(u64, u32); 3] = [(2, 20), (2, 21), (3, 22)];

fn world() -> World {
    let mut world = World::of(&[view(1), view(2), view(3)]);
    CALLERS.iter().chain(&CALLEES).for_each(|(runner, instance)| world.attach(*runner, *instance));
    world
}

/// A SYN from a caller with this local port.
fn syn(caller: u32, port: u16) -> Segment {
    tcp().between(address(caller.into()), address(2)).source_port(port).syn()
}

fn back(caller: u32, port: u16) -> Segment {
    tcp().between(address(2), address(caller.into())).ports(5432, port).sequence(5000)
}

impl World {
    fn say(&mut self, runner: u64, port: u32, segment: &Segment) {
        self.read(runner, port, &complete(&segment.build()));
        self.carry();
    }

    /// The callees that have got a SYN since the last call.
    fn callees(&mut self) -> Vec<u32> {
        CALLEES.iter().map(|(_, port)| *port).filter(|port| !self.delivered(*port).is_empty()).collect()
    }

    /// Opens a connection and returns its callee.
    fn open(&mut self, runner: u64, caller: u32, port: u16) -> u32 {
        self.say(runner, caller, &syn(caller, port));
        let callees = self.callees();
        assert_eq!(callees.len(), 1, "one instance gets it: {callees:?}");
        self.establish(runner, caller, port, callees[0]);
        callees[0]
    }

    /// Completes a handshake.
    fn establish(&mut self, runner: u64, caller: u32, port: u16, callee: u32) {
        let on = CALLEES.iter().find(|(_, port)| *port == callee).expect("a callee").0;
        self.say(on, callee, &back(caller, port).flags(SYN_ACK));
        assert_eq!(self.delivered(caller).len(), 1);
        self.say(runner, caller, &syn(caller, port).flags(Flags::ACK).sequence(1001));
        assert_eq!(self.callees(), [callee]);
    }

    /// Completes a handshake with a callee on the caller's own runner.
    fn establish_here(&mut self, port: u16, callee: u32) {
        self.say(1, callee, &back(10, port).flags(SYN_ACK));
        self.say(1, 10, &syn(10, port).flags(Flags::ACK).sequence(1001));
        assert_eq!((self.delivered(10).len(), self.callees()), (1, vec![callee]));
    }

    fn resets(&mut self, port: u32) -> Vec<u32> {
        let delivered = self.delivered(port);
        delivered
            .iter()
            .map(|bytes| packet(bytes).1)
            .filter(|tcp| tcp.flags.has(Flags::RST))
            .map(|t| t.sequence)
            .collect()
    }
}

fn spread(taken: &[u32]) -> BTreeMap<u32, usize> {
    let mut spread = BTreeMap::new();
    taken.iter().for_each(|callee| *spread.entry(*callee).or_default() += 1);
    spread
}
