//! Ten thousand handshakes a second from sixty-five thousand addresses: honest runners still connect and transfer.

use std::time::Instant;

use mesh_netns_tests::{
    Flood, Instance, Kind, Runner, Stack, World, isolated,
    traffic::{Answer, exchange},
    wait,
};

use crate::{common::reaches, hostile::Scene};

const EACH_SECOND: u32 = 10_000;

/// The bytes that are transferred in each direction.
const BYTES: u64 = 64 << 20;

/// The speed in Mbit/s, both directions together.
#[track_caller]
fn transfers(caller: &Instance, callee: &Instance) -> f64 {
    let mut stream = caller.connect(callee.service_address, 9001).expect("a connection");
    let begun = Instant::now();
    exchange(&mut stream, BYTES).expect("every byte, both ways");
    (2 * BYTES * 8) as f64 / begun.elapsed().as_secs_f64() / 1e6
}

/// How many connections a second, each answered, one after another.
#[track_caller]
fn connects(caller: &Instance, callee: &Instance) -> f64 {
    let begun = Instant::now();
    (0..100).for_each(|_| reaches(caller, callee.service_address, 9002));
    100.0 / begun.elapsed().as_secs_f64()
}

#[test]
fn a_flood_of_handshakes_keeps_no_runner_from_connecting_and_transferring() {
    isolated(|| {
        let world = World::new();
        let (coordinator, mut scene) = Scene::set(&world);
        let _bulk = scene.db.serve(9001, Answer::Exchange(BYTES));
        let _echo = scene.db.serve(9002, Answer::Echo);
        // These have no session with the victim yet.
        let [near, far]: [Runner; 2] = ["near", "far"].map(|name| world.runner(&coordinator, name, Stack::Dual));
        let callers = [&near, &far].map(|runner| runner.attach("shop/app"));
        let (quiet_rate, quiet_connects) = (transfers(&scene.other, &scene.db), connects(&scene.other, &scene.db));
        let begun = Instant::now();
        reaches(&callers[0], scene.db.service_address, 9002);
        let quiet_first = begun.elapsed();

        let outlaw = scene.turn();
        world.route(Flood::NETWORK, scene.hostile.namespace());
        let drops = |scene: &Scene| {
            ["unknown-runner", "under-load", "handshake-limited", "handshake-rejected", "bad-mac"]
                .map(|reason| (reason, scene.victim.drops(reason)))
        };
        let before = drops(&scene);
        let flood = outlaw.flood(scene.hostile.namespace(), &[Kind::Strangers, Kind::Own, Kind::Junk], EACH_SECOND);
        wait::until_true("the flood to have begun", || flood.sent() > u64::from(EACH_SECOND));

        // A handshake during the flood, connections over a standing session, a transfer.
        let begun = Instant::now();
        reaches(&callers[1], scene.db.service_address, 9002);
        let first = begun.elapsed();
        let rate = transfers(&scene.other, &scene.db);
        let often = connects(&scene.other, &scene.db);
        scene.assert_unharmed();
        // A bystander that comes back needs a new handshake.
        scene.bystander.kill();
        scene.bystander.start_alone(&[]);
        scene.assert_unharmed();

        wait::until_true("the flood to have been one", || flood.sent() > 5 * u64::from(EACH_SECOND));
        // Counted before the duration is read.
        let after = drops(&scene);
        let (sent, lasted) = (flood.sent(), flood.lasted());
        drop(flood);
        let counted: Vec<_> =
            after.into_iter().zip(before).map(|((reason, now), (_, then))| (reason, now - then)).collect();
        let looked_into = counted.iter().find(|(reason, _)| *reason == "unknown-runner").map_or(0, |(_, count)| *count);
        assert!(
            looked_into as f64 <= 250.0 * (lasted.as_secs_f64() + 2.0),
            "{looked_into} strangers looked into in {lasted:?}"
        );
        println!(
            "\nflood: {sent} handshakes in {lasted:.1?}, counted {counted:?}\n\
             transfer {rate:.0} Mbit/s, {quiet_rate:.0} without; connects {often:.0}/s, {quiet_connects:.0} without; \
             first connection of a runner {first:.1?}, {quiet_first:.1?} without",
        );
    });
}
