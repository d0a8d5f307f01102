use super::*;
use crate::Event;
use mesh_proto::{Record, RunnerId, view::Runner};

pub(super) fn at(port: u16) -> SocketAddr {
    ([198, 51, 100, 1], port).into()
}

fn sent_to(world: &World) -> Vec<SocketAddr> {
    world.wire.iter().map(|d| d.to.address()).collect()
}

/// [`view`] of runner 1, in which runner 2 has these addresses and this key.
pub(super) fn with_runner_2(endpoints: Vec<SocketAddr>, public_key: u64) -> Builder {
    let mut builder = view(1);
    let runner = builder.0.runner(RunnerId(2)).expect("runner 2");
    let runner = Runner { endpoints, public_key: key(public_key).public(), ..Runner::clone(runner) };
    builder.0.put(Record::Runner(runner.into()));
    builder
}

#[test]
fn all_addresses_are_tried_and_the_first_that_authenticates_is_kept() {
    let mut world = World::new();
    world.map(1, &with_runner_2(vec![at(1), endpoint(2), at(3)], 2));
    world.read(1, 10, &complete(&call().syn().build()));
    assert_eq!(sent_to(&world), [at(1), endpoint(2), at(3)]);
    world.carry();
    assert_eq!(world.delivered(20).len(), 1);
    world.read(1, 10, &complete(&call().build()));
    assert_eq!(sent_to(&world), [endpoint(2)]);
}

#[test]
fn the_known_address_is_tried_first_and_the_others_when_it_is_silent() {
    let mut world = World::new();
    world.engine(1).handle_known_endpoint(RunnerId(2), at(9));
    world.map(1, &with_runner_2(vec![endpoint(2)], 2));
    assert_eq!(sent_to(&world), [at(9)], "a handshake at once, without any packet");
    world.carry();
    world.read(1, 10, &complete(&call().syn().build()));
    assert!(world.wire.is_empty(), "a handshake is under way");
    world.wait(Duration::from_millis(1250));
    assert_eq!(world.delivered(20).len(), 1);
    let now = world.now;
    assert_eq!(world.engine(1).report(now).peers[0].endpoint, Some(endpoint(2)));
}

#[test]
fn a_runner_that_was_known_in_an_earlier_run_gets_a_handshake_at_once() {
    // The endpoint is known before or after the map.
    let mut world = World::of(&[view(1), view(2)]);
    world.engine(1).handle_known_endpoint(RunnerId(2), endpoint(2));
    let (at, _) = world.engine(1).next_timeout().expect("a greeting");
    assert!(at <= world.now);
    world.wait(Duration::from_millis(1));
    let now = world.now;
    assert!(world.engine(2).report(now).peers[0].handshake_age.is_some());
}

#[test]
fn the_handshake_of_a_restarted_runner_replaces_the_session_at_once() {
    let mut world = World::new();
    world.send(10, &call().syn().build());
    world.delivered(20);
    let mut engine = Engine::new(key(1), [9; 32], Box::new(vec![0; PINS]), world.now);
    engine.handle_attach(Port(10), InstanceId(10));
    engine.handle_known_endpoint(RunnerId(2), endpoint(2));
    world.engines[0] = engine;
    world.read(2, 20, &complete(&reply().build()));
    world.carry();
    assert_eq!(world.dropped(1, Reason::UnknownSession), 1, "of the session before");
    world.map(1, &view(1));
    world.carry();
    world.read(2, 20, &complete(&reply().build()));
    world.carry();
    assert_eq!(world.delivered(10).len(), 1);
}

#[test]
fn a_runner_that_moves_is_followed_once_it_sends() {
    let mut world = World::new();
    world.send(10, &call().syn().build());
    world.delivered(20);
    world.from[0] = at(7);
    world.send(10, &call().build());
    assert_eq!(world.sinks[1].events.last(), Some(&Event::Endpoint { runner: RunnerId(1), endpoint: at(7) }));
    world.read(2, 20, &complete(&reply().build()));
    assert_eq!(sent_to(&world), [at(7)]);
    world.carry();
    assert_eq!(world.delivered(10).len(), 1);
}

#[test]
fn a_replayed_initiation_moves_no_endpoint() {
    let mut world = World::new();
    world.read(1, 10, &complete(&call().syn().build()));
    let initiation = world.wire[0].batch.clone();
    world.carry();
    // Everything is answered, so that no other initiation can take this one's place in the memory.
    world.read(2, 20, &complete(&reply().flags(SYN_ACK).build()));
    world.carry();
    world.send(10, &call().build());
    world.wait(Duration::from_secs(10));
    world.sinks[1].events.clear();
    world.receive(2, at(66), &initiation, initiation.len());
    assert!(world.wire.is_empty() && world.sinks[1].events.is_empty());
    assert_eq!(world.dropped(2, Reason::HandshakeRejected), 1);
    // A restarted runner can't recognize the replay.
    let mut engine = Engine::new(key(2), [9; 32], Box::new(vec![0; PINS]), world.now);
    engine.handle_attach(Port(20), InstanceId(20));
    world.engines[1] = engine;
    world.map(2, &view(2));
    world.sinks[1].events.clear();
    world.receive(2, at(66), &initiation, initiation.len());
    assert_eq!(
        (sent_to(&world), &world.sinks[1].events[..]),
        (vec![at(66)], &[][..]),
        "the answer is useless to the attacker"
    );
}

#[test]
fn a_copy_of_an_initiation_by_another_path_gets_the_same_response_there() {
    let mut world = World::new();
    world.read(1, 10, &complete(&call().syn().build()));
    let initiation = world.wire.pop_front().expect("an initiation").batch;
    // The first path carries datagrams one way only.
    world.receive(2, at(5), &initiation, initiation.len());
    let lost = world.wire.pop_front().expect("a response");
    world.receive(2, at(5), &initiation, initiation.len());
    assert!(world.wire.is_empty(), "a copy by the same path");
    world.receive(2, endpoint(1), &initiation, initiation.len());
    let response = world.wire.front().expect("the same response");
    assert_eq!((response.to, &response.batch), (endpoint(1).into(), &lost.batch));
    world.carry();
    assert_eq!(world.delivered(20).len(), 1);
    assert_eq!(world.dropped(2, Reason::HandshakeRejected), 1);

    // The first path was only slow.
    world.receive(1, at(5), &lost.batch, lost.batch.len());
    assert_eq!(world.dropped(1, Reason::HandshakeRejected), 0, "a response by another path");
    world.receive(1, endpoint(2), &lost.batch, lost.batch.len());
    assert_eq!(world.dropped(1, Reason::HandshakeRejected), 1, "a copy by the same path");

    // A few copies, for a while.
    for port in 100..120 {
        world.receive(2, at(port), &initiation, initiation.len());
    }
    assert_eq!(world.wire.len(), 7);
    assert_eq!(world.dropped(2, Reason::HandshakeRejected), 14);
    let now = world.now;
    assert_eq!(world.engine(2).report(now).peers[0].endpoint, Some(endpoint(1)), "they move nothing");
}

#[test]
fn a_runner_that_has_moved_is_found_though_its_last_message_was_lost() {
    let mut world = World::new();
    // It starts a handshake from an address that the map doesn't hold.
    world.from[1] = at(9);
    world.engine(2).handle_known_endpoint(RunnerId(1), endpoint(1));
    world.with(2, |engine, sink, now| engine.handle_timeout(now, sink));
    for _ in 0..2 {
        let Datagrams { from, to, batch, stride } = world.wire.pop_front().expect("an initiation and its answer");
        world.receive(if to == at(9).into() { 2 } else { 1 }, from, &batch, stride);
    }
    assert_eq!(sent_to(&world), [endpoint(1)], "this message would announce it");
    world.wire.clear();
    world.read(1, 10, &complete(&call().syn().build()));
    world.carry();
    world.wait(Duration::from_secs(2));
    assert_eq!(world.delivered(20).len(), 1);
}

#[test]
fn both_runners_may_start_a_handshake_at_once() {
    let mut world = World::new();
    let (syn, other) = (call().syn().build(), tcp().between(address(20), address(10)).ports(5432, 1).build());
    world.read(1, 10, &complete(&syn));
    world.read(2, 20, &complete(&other));
    world.carry();
    assert_eq!((world.delivered(20), world.delivered(10)), (vec![syn], vec![other]));
    world.send(10, &call().build());
    world.read(2, 20, &complete(&reply().build()));
    world.carry();
    assert_eq!((world.delivered(20).len(), world.delivered(10).len()), (1, 1));
    assert_eq!((world.drops(1), world.drops(2)), (0, 0));
}

#[test]
fn a_runner_outside_of_the_map_is_cut_off_at_once() {
    let mut world = World::new();
    world.send(10, &call().syn().build());
    world.delivered(20);
    let mut alone = Builder::new(2).runner(2).deployment(1, "acme").deployment(2, "acme").service(1, 1).service(2, 2);
    alone = alone.instance(20, 2, 2).instance(10, 1, 1).grant(1, 2, Ports::All);
    world.map(2, &alone);
    world.carry();
    assert_eq!(world.delivered(10).len(), 1, "the last message: its connection is reset");
    world.send(10, &call().build());
    assert!(world.is_quiet());
    assert_eq!((world.dropped(2, Reason::Departed), world.dropped(2, Reason::UnknownSession)), (1, 0));
    let mut again = Engine::new(key(1), [9; 32], Box::new(vec![0; PINS]), world.now);
    again.handle_attach(Port(10), InstanceId(10));
    world.engines[0] = again;
    world.map(1, &view(1));
    world.send(10, &call().syn().build());
    assert!(world.is_quiet());
    assert_eq!(world.dropped(2, Reason::Departed), 2, "no handshake either");
    assert_eq!((world.dropped(2, Reason::UnknownRunner), world.dropped(2, Reason::UnknownSource)), (0, 0));
}

#[test]
fn a_session_that_is_not_confirmed_yet_is_kept_as_well() {
    let mut world = World::new();
    world.engine(1).handle_known_endpoint(RunnerId(2), endpoint(2));
    world.with(1, |engine, sink, now| engine.handle_timeout(now, sink));
    // Initiation and response arrive, but not the keepalive after them.
    for to in [2, 1] {
        let datagrams = world.wire.pop_front().expect("a handshake");
        world.receive(to, datagrams.from, &datagrams.batch, datagrams.stride);
    }
    world.wire.clear();
    world.wait(Duration::from_secs(60));
    world.send(10, &call().syn().build());
    assert_eq!(world.delivered(20).len(), 1, "by the session that the caller has");
}

#[test]
fn a_runner_that_comes_back_into_the_map_gets_a_handshake() {
    let mut world = World::new();
    world.send(10, &call().syn().build());
    world.delivered(20);
    // Runner 2 leaves runner 1's map for a while without getting a new map itself.
    world.map(1, &Builder::new(1).runner(1).deployment(1, "acme").service(1, 1).instance(10, 1, 1));
    world.map(1, &view(1));
    world.carry();
    world.read(2, 20, &complete(&reply().build()));
    world.carry();
    assert_eq!(world.delivered(10).len(), 1, "not lost in the earlier session");
    assert_eq!(world.dropped(1, Reason::UnknownSession), 0);
}

#[test]
fn a_runner_whose_address_has_changed_gets_a_handshake_there() {
    let mut world = World::new();
    world.send(10, &call().syn().build());
    world.delivered(20);
    world.from[1] = at(5);
    world.map(1, &with_runner_2(vec![at(5)], 2));
    world.carry();
    world.send(10, &call().build());
    assert_eq!(world.delivered(20).len(), 1);
}

#[test]
fn a_new_key_is_a_new_tunnel() {
    let mut world = World::new();
    world.send(10, &call().syn().build());
    world.delivered(20);
    world.map(1, &with_runner_2(vec![endpoint(2)], 7));
    world.read(2, 20, &complete(&reply().build()));
    world.carry();
    assert!(world.is_quiet());
    assert_eq!(world.dropped(1, Reason::UnknownSession), 1);
    world.send(10, &call().build());
    assert_eq!(world.dropped(2, Reason::BadMac), 1, "it isn't meant for the old one");
    assert!(world.is_quiet());
}

#[test]
fn an_equal_map_changes_nothing() {
    let mut world = World::new();
    world.send(10, &call().syn().build());
    world.delivered(20);
    world.map(1, &view(1));
    world.map(2, &view(2));
    world.read(1, 10, &complete(&call().build()));
    assert_eq!(world.wire.len(), 1, "no handshake");
    world.carry();
    assert_eq!(world.delivered(20).len(), 1);
}

#[test]
fn an_idle_engine_sleeps() {
    let mut world = World::new();
    world.from[1] = at(5);
    assert_eq!(world.engine(1).next_timeout(), None);
    world.send(10, &call().syn().build());
    let now = world.now;
    assert_eq!(world.engine(1).next_timeout(), Some((now + Duration::from_millis(250), "the tunnels' timers")));
    world.wait(Duration::from_secs(31));
    assert!(world.engine(1).core.peers.next_tick().is_none(), "nothing waits for the handshake any more");
    world.wait(now + Duration::from_secs(72) - world.now);
    assert_eq!(world.engine(1).next_timeout(), None);
}

/// The time stamps of its initiations are older than one that was answered before. (Here the older one is made first and
/// sent last.)
#[test]
fn a_runner_whose_clock_was_set_back_gets_a_handshake_in_return() {
    let mut world = World::new();
    let mut set_back = Engine::new(key(1), [9; 32], Box::new(vec![0; PINS]), world.now);
    set_back.handle_attach(Port(10), InstanceId(10));
    let mut other = std::mem::replace(&mut world.engines[0], set_back);
    world.map(1, &view(1));
    world.read(1, 10, &complete(&call().syn().build()));
    let older = world.wire.pop_front().expect("an initiation");
    world.wire.clear();
    std::mem::swap(&mut world.engines[0], &mut other);
    world.send(10, &call().source_port(7).syn().build());
    assert_eq!(world.delivered(20).len(), 1);
    std::mem::swap(&mut world.engines[0], &mut other);

    world.wire.push_back(Datagrams {
        from: older.from,
        to: older.to,
        batch: older.batch.clone(),
        stride: older.stride,
    });
    world.carry();
    assert!(world.delivered(20).is_empty(), "it was heard a moment ago, so this may be a replay");
    world.now += Duration::from_secs(2);
    world.wire.push_back(older);
    world.carry();
    assert!(world.dropped(2, Reason::HandshakeRejected) >= 2);
    assert_eq!(world.delivered(20).len(), 1, "the waiting packet was sent after the handshake of the other runner");
}

/// Checks the answers to handshakes, and everything after them until the address changes.
#[test]
fn answers_leave_from_the_address_that_was_asked() {
    for asked in ["10.19.0.100", "fd00:19::100"] {
        answers_leave_from(asked.parse().unwrap());
    }
}

fn answers_leave_from(asked: std::net::IpAddr) {
    let mut world = World::new();
    world.read(1, 10, &complete(&call().syn().build()));
    while let Some(Datagrams { from, to, batch, stride }) = world.wire.pop_front() {
        let (runner, local) = if to == endpoint(2).into() { (2, Some(asked)) } else { (1, None) };
        world.with(runner, |engine, sink, now| {
            let received = crate::Datagrams { from, local, bytes: &batch, stride, skip: 0 };
            engine.handle_udp(&received, now, sink)
        });
    }
    assert_eq!(world.delivered(20).len(), 1);
    world.read(2, 20, &complete(&reply().flags(SYN_ACK).build()));
    let sources = std::mem::take(&mut world.sinks[1].sources);
    assert!(sources.len() >= 2 && sources.iter().all(|source| *source == Some(asked)), "{sources:?}");
    assert!(world.sinks[0].sources.iter().all(Option::is_none));
    // The machine's addresses have changed.
    world.engine(2).handle_address_change();
    world.read(2, 20, &complete(&reply().build()));
    assert!(world.sinks[1].sources.iter().all(Option::is_none), "{:?}", world.sinks[1].sources);
}

#[test]
fn loopback_addresses_are_not_tried_unless_the_coordinator_sees_this_runner_there() {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 9999));
    for (own, expected) in [(endpoint(1), vec![at(1)]), (([127, 0, 0, 1], 1).into(), vec![loopback, at(1)])] {
        let mut builder = with_runner_2(vec![loopback, at(1)], 2);
        let runner = builder.0.runner(RunnerId(1)).expect("ourselves");
        let runner = Runner { endpoints: vec![own], ..Runner::clone(runner) };
        builder.0.put(Record::Runner(runner.into()));
        let mut world = World::new();
        world.map(1, &builder);
        world.read(1, 10, &complete(&call().syn().build()));
        assert_eq!(sent_to(&world), expected);
    }
}
