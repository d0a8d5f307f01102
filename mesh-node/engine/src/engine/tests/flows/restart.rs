//! What a new engine knows of its predecessor's connections.

use std::sync::{Arc, Mutex};

use super::*;
use crate::PinMemory;

/// Memory that outlives its engine.
#[derive(Clone)]
struct Shared(Arc<Mutex<Vec<u8>>>);

struct Lent(Vec<u8>, Shared);

impl PinMemory for Lent {
    fn bytes(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        *self.1.0.lock().unwrap() = std::mem::take(&mut self.0);
    }
}

impl World {
    /// Replaces a runner's engine by a new one with the same memory.
    fn restart(&mut self, runner: u64, memory: &Shared) {
        let i = runner as usize - 1;
        self.engines[i] = Engine::new(key(runner), [99; 32], Box::new(vec![0; PINS]), self.now);
        let bytes = memory.0.lock().unwrap().clone();
        self.engines[i] = Engine::new(key(runner), [99; 32], Box::new(Lent(bytes, memory.clone())), self.now);
    }
}

#[test]
fn a_restarted_engine_leaves_every_connection_where_it_is() {
    let mut world = World::of(&[view(1), view(2), view(3)]);
    let memory: Vec<Shared> = (0..3).map(|_| Shared(Arc::new(Mutex::new(vec![0; PINS])))).collect();
    for runner in 1..=3 {
        world.restart(runner, &memory[runner as usize - 1]);
        world.map(runner, &view(runner));
    }
    CALLERS.iter().chain(&CALLEES).for_each(|(runner, instance)| world.attach(*runner, *instance));
    let mut taken: Vec<(u16, u32)> = (0..30).map(|port| (port, world.open(1, 10, port))).collect();
    for round in 0..6u64 {
        let runner = round % 3 + 1;
        world.restart(runner, &memory[runner as usize - 1]);
        world.map(runner, &view(runner));
        for (other, instance) in CALLERS.iter().chain(&CALLEES).filter(|(on, _)| *on == runner) {
            world.attach(*other, *instance);
        }
        (1..=3).filter(|other| *other != runner).for_each(|other| {
            world.engine(runner).handle_known_endpoint(mesh_proto::RunnerId(other), endpoint(other));
        });
        world.wait(Duration::from_secs(1));
        for (port, callee) in &taken {
            world.say(1, 10, &syn(10, *port).flags(Flags::ACK).payload(b"?"));
            assert_eq!(world.callees(), [*callee], "round {round}, port {port}");
        }
        // The counts are the same, too: the next connections keep the load even.
        for more in 0..3 {
            let port = 100 + 10 * round as u16 + more;
            taken.push((port, world.open(1, 10, port)));
        }
    }
    let spread = spread(&taken.iter().map(|(_, callee)| *callee).collect::<Vec<_>>());
    assert_eq!(spread, [(20, 16), (21, 16), (22, 16)].into());
}

#[test]
fn only_an_engine_without_its_memory_adopts_unknown_connections_and_only_at_first() {
    let resets = |world: &mut World| {
        world.read(2, 20, &complete(&reply().build()));
        world.carry();
        (world.delivered(10).len(), world.resets(20).len())
    };
    let mut world = World::new();
    world.send(10, &call().syn().source_port(1).build());
    world.delivered(20);
    assert_eq!(resets(&mut world), (1, 0), "it may have stood before");
    let mut world = World::new();
    world.wait(Duration::from_secs(60));
    world.send(10, &call().syn().source_port(1).build());
    world.delivered(20);
    assert_eq!(resets(&mut world), (0, 1));
    assert_eq!(world.dropped(2, Reason::NoConnection), 1);
    world.send(10, &call().build());
    assert_eq!(
        (world.delivered(20).len(), world.resets(10).len()),
        (0, 1),
        "a segment from the other end isn't adopted either"
    );
    // An engine with its memory knows all standing connections.
    let memory = Shared(Arc::new(Mutex::new(vec![0; PINS])));
    let mut world = World::new();
    for _ in 0..2 {
        world.restart(2, &memory);
    }
    world.map(2, &super::super::view(2));
    world.attach(2, 20);
    world.engine(2).handle_known_endpoint(mesh_proto::RunnerId(1), endpoint(1));
    world.wait(Duration::from_secs(1));
    assert_eq!(resets(&mut world), (0, 1));
}

#[test]
fn a_claim_counts_for_its_sender_and_is_left_to_no_engine() {
    let memory = Shared(Arc::new(Mutex::new(vec![0; PINS])));
    let mut world = World::of(&[view(1), view(2), view(3)]);
    world.restart(2, &memory);
    world.map(2, &view(2));
    CALLERS.iter().chain(&CALLEES).for_each(|(runner, instance)| world.attach(*runner, *instance));
    // Instance 20 claims that instance 11 of the same deployment calls it from every port.
    let room = (PINS - 64) / 64 / 4 + 1;
    for port in 0..2 * room as u16 {
        world.read(2, 20, &complete(&back(11, port).flags(0).build()));
    }
    for port in [11, 20] {
        world.delivered(port);
    }
    assert_eq!(world.dropped(2, Reason::TooManyConnections), room as u64, "its share is a quarter of all");
    assert_eq!(world.engine(2).report(Instant::now()).connections, 0);
    (30_000..30_000 + room as u16 / 4).for_each(|port| assert!(world.open(2, 11, port) > 0));
    let opened = world.engine(2).report(Instant::now()).connections;
    world.restart(2, &memory);
    assert_eq!(world.engine(2).core.flows.all().count(), opened);
}

#[test]
fn what_ended_while_no_engine_ran_is_reset_as_soon_as_its_far_end_is_reachable() {
    let mut world = World::of(&[view(1), view(2), view(3)]);
    let memory = Shared(Arc::new(Mutex::new(vec![0; PINS])));
    world.restart(2, &memory);
    world.map(2, &view(2));
    CALLERS.iter().chain(&CALLEES).for_each(|(runner, instance)| world.attach(*runner, *instance));
    let taken: Vec<u32> = (0..6).map(|port| world.open(1, 10, port)).collect();
    let expected: Vec<u16> = (0..6).filter(|port| taken[usize::from(*port)] == 20).collect();
    world.restart(2, &memory);
    world.with(2, |engine, sink, now| engine.handle_ended(InstanceId(20), now, sink));
    world.engine(2).handle_known_endpoint(mesh_proto::RunnerId(1), endpoint(1));
    world.map(2, &view(2));
    world.attach(2, 11);
    world.attach(2, 21);
    world.wait(Duration::from_secs(1));
    let mut reset: Vec<u16> = world.delivered(10).iter().map(|bytes| packet(bytes).1.destination_port).collect();
    reset.sort_unstable();
    reset.dedup();
    assert_eq!(reset, expected, "those of instance 20, and no others");
    // The map still holds it, but it gets no connections.
    assert!((10..20).all(|port| [21, 22].contains(&world.open(1, 10, port))));
    assert!((30..35).all(|port| world.open(2, 11, port) == 21));
}
