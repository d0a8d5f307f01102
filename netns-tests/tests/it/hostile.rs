//! A runner with a valid identity and a hostile program: forbidden packets are dropped and counted, and no other runner
//! notices.

use std::net::Ipv4Addr;

use mesh_netns_tests::{
    Capture, Crowd, Instance, NamedServer, Outlaw, Runner, Stack, World, isolated,
    packet::{Ipv4, Segment, echo_request, flag, protocol, udp},
    wait,
};

use crate::common::{SHOP, UNOWNED, declare};

const PORT: u16 = 9000;

/// Without trust.
pub(crate) const VAULT: &str = "deployment = \"vault\"\n[services.safe]\n";

/// A runner that becomes hostile, its victim, and a bystander with standing connections to the victim.
pub(crate) struct Scene {
    pub(crate) hostile: Runner,
    pub(crate) victim: Runner,
    pub(crate) bystander: Runner,
    /// The hostile runner's legitimate instance.
    pub(crate) own: Instance,
    /// An instance of the victim that it may call.
    pub(crate) db: Instance,
    /// An instance of the victim that it may not call.
    pub(crate) safe: Instance,
    /// An instance of the bystander, of the same service as the hostile runner's.
    pub(crate) other: Instance,
    pub(crate) server: NamedServer,
    crowd: Crowd,
}

impl Scene {
    pub(crate) fn set(world: &World) -> (mesh_netns_tests::Coordinator, Self) {
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP, VAULT]);
        let [hostile, victim, bystander] =
            ["hostile", "victim", "bystander"].map(|name| world.runner(&coordinator, name, Stack::Dual));
        let (db, safe) = (victim.attach("shop/db"), victim.attach("vault/safe"));
        let (own, other) = (hostile.attach("shop/app"), bystander.attach("shop/app"));
        let server = db.serve_named(PORT);
        let crowd = Crowd::gather(&other.namespace, db.service_address, PORT, 5);
        (coordinator, Self { hostile, victim, bystander, own, db, safe, other, server, crowd })
    }

    /// The bystander's connections stand, and new ones succeed.
    #[track_caller]
    pub(crate) fn assert_unharmed(&mut self) {
        self.crowd.assert_all_answer();
        Crowd::gather(&self.other.namespace, self.db.service_address, PORT, 1).assert_all_answer();
    }

    /// From now on a hostile program replaces the runner, and has a session with the victim.
    pub(crate) fn turn(&mut self) -> Outlaw {
        self.hostile.stop();
        let mut outlaw = Outlaw::new(&self.hostile, "victim");
        outlaw.connect();
        outlaw
    }

    /// Waits until the victim has counted this many more drops than `before` for one of these reasons.
    #[track_caller]
    fn wait_drops(&self, reasons: &[&str], before: u64, count: u64) {
        let drops = || reasons.iter().map(|reason| self.victim.drops(reason)).sum::<u64>() - before;
        wait::until_true(&format!("{count} drops for {reasons:?}"), || drops() >= count);
        assert_eq!(drops(), count, "{reasons:?}");
    }

    /// The victim drops each of these packets for this reason.
    #[track_caller]
    fn drops(&mut self, outlaw: &mut Outlaw, what: &str, reason: &str, packet: impl Fn(u16) -> Ipv4) {
        let before = self.victim.drops(reason);
        for n in 0..10 {
            outlaw.smuggle(&packet(n).encode());
        }
        println!("{what}: {reason}");
        self.wait_drops(&[reason], before, 10);
    }
}

fn syn(source: Ipv4Addr, port: u16, destination: Ipv4Addr) -> Ipv4 {
    let (source, destination) = ((source, port), (destination, PORT));
    Segment { source, destination, seq: 1, ack: 0, flags: flag::SYN, payload: &[] }.packet()
}

fn data(source: Ipv4Addr, port: u16, destination: Ipv4Addr) -> Ipv4 {
    let (source, destination) = ((source, port), (destination, PORT));
    Segment { source, destination, seq: 1, ack: 1, flags: flag::ACK, payload: b"hello" }.packet()
}

#[test]
fn what_it_may_not_send_is_dropped_and_counted_each_for_its_reason() {
    isolated(|| {
        let world = World::new();
        let (_coordinator, mut scene) = Scene::set(&world);
        let mut outlaw = scene.turn();
        let (own, other, safe_itself) = (scene.own.address, scene.other.address, scene.safe.address);
        let (db, safe, app) = (scene.db.service_address, scene.safe.service_address, scene.own.service_address);
        let arrives = [&scene.db, &scene.safe, &scene.other].map(Instance::capture);

        scene.drops(&mut outlaw, "a SYN from an instance on another runner", "foreign-source", |n| syn(other, n, db));
        scene.drops(&mut outlaw, "data from an instance on another runner", "foreign-source", |n| data(other, n, db));
        scene.drops(&mut outlaw, "from the victim's own instance", "foreign-source", |n| syn(safe_itself, n, db));
        scene.drops(&mut outlaw, "from an address without an owner", "unknown-source", |n| syn(UNOWNED, n, db));
        scene.drops(&mut outlaw, "from the world", "unknown-source", |n| syn([8, 8, 8, 8].into(), n, db));
        scene.drops(&mut outlaw, "its own, to whom it may not call", "no-trust", |n| syn(own, n, safe));
        scene.drops(&mut outlaw, "its own data, to whom it may not call", "no-trust", |n| data(own, n, safe));
        scene.drops(&mut outlaw, "for an instance on another runner", "not-local", |n| syn(own, n, other));
        scene.drops(&mut outlaw, "for the world", "not-local", |n| syn(own, n, [8, 8, 8, 8].into()));
        scene.drops(&mut outlaw, "a SYN from a service address", "opens-from-service-address", |n| syn(app, n, db));
        let whole = |protocol, payload| Ipv4::new(own, db, protocol, payload);
        scene.drops(&mut outlaw, "UDP", "not-tcp", |n| whole(protocol::UDP, udp((own, n), (db, 53), b"x")));
        scene.drops(&mut outlaw, "ICMP", "not-tcp", |_| whole(protocol::ICMP, echo_request()));
        scene.drops(&mut outlaw, "GRE", "not-tcp", |_| whole(47, vec![0, 0, 8, 0, 1, 2, 3, 4]));
        scene.drops(&mut outlaw, "SCTP", "not-tcp", |_| whole(protocol::SCTP, vec![0; 32]));
        scene.drops(&mut outlaw, "a first fragment", "fragment", |n| Ipv4 { more_fragments: true, ..syn(own, n, db) });
        scene.drops(&mut outlaw, "a later one", "fragment", |n| Ipv4 { fragment_offset: 185, ..syn(own, n, db) });
        scene.drops(&mut outlaw, "IP options", "ip-options", |n| Ipv4 {
            options: vec![7, 7, 4, 0, 0, 0, 0],
            ..syn(own, n, db)
        });
        scene.drops(&mut outlaw, "half a TCP header", "malformed", |_| whole(protocol::TCP, vec![0; 8]));

        scene.assert_unharmed();
        for (capture, bystander) in arrives.iter().zip([Some(other), None, Some(other)]) {
            let strays = capture.received(|p| {
                let expected = |address| Some(address) == bystander || address == db;
                !(expected(p.source) && expected(p.destination))
            });
            assert_eq!(strays, 0, "{}", capture.text());
        }
    });
}

#[test]
fn replayed_datagrams_are_counted_and_reordered_ones_arrive() {
    isolated(|| {
        let world = World::new();
        let (_coordinator, mut scene) = Scene::set(&world);
        let mut outlaw = scene.turn();
        let (own, db) = (scene.own.address, scene.db.service_address);
        let arrives = Capture::interface(&scene.db.namespace, "mesh0");
        let datagrams: Vec<_> = (0..100).map(|n| outlaw.seal(&syn(own, 5000 + n, db).encode())).collect();
        let before = scene.victim.drops("replayed");
        datagrams.iter().rev().for_each(|datagram| outlaw.send(datagram));
        arrives.wait_received(100, "the SYNs in reverse order", |p| p.source == own);
        datagrams.iter().for_each(|datagram| outlaw.send(datagram));
        scene.wait_drops(&["replayed"], before, 100);
        assert_eq!(arrives.received(|p| p.source == own), 100, "each once");
        scene.assert_unharmed();
    });
}

#[test]
fn garbage_of_any_length_and_kind_is_counted_also_before_the_handshake_is_done() {
    isolated(|| {
        let world = World::new();
        let (_coordinator, mut scene) = Scene::set(&world);
        scene.hostile.stop();
        let mut outlaw = Outlaw::new(&scene.hostile, "victim");
        // The victim has answered and waits for the first message of the session, whose index it has just sent.
        let answer = wait::until("the victim to answer a handshake", || outlaw.ask());
        let index = &answer[4..8];
        const REASONS: [&str; 6] =
            ["not-wireguard", "unknown-session", "bad-mac", "not-authentic", "too-large", "handshake-rejected"];
        let before: u64 = REASONS.iter().map(|reason| scene.victim.drops(reason)).sum();
        let mut sent = 0;
        for kind in 0..=5u8 {
            for len in [1, 3, 4, 15, 16, 31, 32, 33, 64, 92, 148, 1000, 1500, 9000, 40_000, 65_507] {
                let mut bytes = [&[kind, 0, 0, 0], index, &[0xa5; 8]].concat();
                bytes.resize(16.max(len), kind);
                outlaw.send(&bytes[..len]);
                sent += 1;
                // One after another, so that no buffer in between overflows.
                scene.wait_drops(&REASONS, before, sent);
            }
        }
        outlaw.confirm(&answer);
        let arrives = Capture::interface(&scene.db.namespace, "mesh0");
        outlaw.smuggle(&syn(scene.own.address, 5000, scene.db.service_address).encode());
        arrives.wait_received(1, "what it may send", |p| p.source == scene.own.address);
        scene.assert_unharmed();
    });
}
