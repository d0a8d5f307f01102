//! Tries an agent of 0.1 beside one of today, in both directions: `files/0.1/beside` starts it, in namespaces of its own.
//! What fails panics.

use std::{env, path::Path};

use mesh_netns_tests::{
    Instance, Runner, Stack, Steady, Turn, World, furnish,
    traffic::{Answer, exchange, ping},
    wait,
};

const BYTES: u64 = 20_000_000;

fn main() {
    let old_program = env::args().nth(1).expect("the agent of 0.1");
    furnish();
    let world = World::new();
    let coordinator = world.coordinator(&[]);
    coordinator.apply("deployment = \"shop\"\n[services.app]\n[services.db]\n").done();
    let mut relay = world.relay_of(&coordinator, "relay", Turn::Enrolled);
    let mut old = world.runner(&coordinator, "old", Stack::Dual);
    let mut new = world.runner(&coordinator, "new", Stack::Dual);
    old.upgrade(Path::new(&old_program));
    old.wait_connected();
    let version = old.command(&["--version"]).done().stdout;
    assert!(version.contains(" 0.1."), "{version}");
    wait::until_true("the new one's address at the relay", || {
        let relays = new.json(&["status"])["relays"].clone();
        relays.as_array().is_some_and(|all| all.iter().any(|relay| relay["relayed"].is_string()))
    });

    let (app, db) = (old.attach("shop/app"), new.attach("shop/db"));
    for (from, to, port) in [(&app, &db, 5432), (&db, &app, 80)] {
        let _server = to.serve(port, Answer::Exchange(BYTES));
        let mut stream = from.connect(to.service_address, port).expect("a connection");
        exchange(&mut stream, BYTES).expect("every byte, both ways");
    }
    println!("every byte, by connections of either side");
    let echoes = [&app, &db].map(|instance| instance.serve(7, Answer::Echo));
    let connect = |from: &Instance, to: &Instance| from.connect(to.service_address, 7).expect("a connection");
    let mut standing = [connect(&app, &db), connect(&db, &app)];
    let mut stand = |what: &str| {
        standing.iter_mut().for_each(|stream| ping(stream, what.as_bytes()).expect("an echo"));
        println!("connections stand: {what}");
    };
    stand("at first");
    for (machine, what) in [(&old, "the old one has another address"), (&new, "the new one has another address")] {
        world.unplug(machine.namespace());
        world.plug(machine.namespace(), Stack::Dual);
        stand(what);
    }
    let again = |runner: &mut Runner| {
        assert!(runner.stop().success());
        runner.start(&[]);
    };
    again(&mut old);
    stand("the old one was started again");
    again(&mut new);
    stand("the new one was started again");
    relay.kill();
    stand("the relay, where the new one has an address, was killed");
    relay.start();
    let peers = new.json(&["status"])["peers"].clone();
    let paths: Vec<_> = peers.as_array().expect("an array").iter().map(|peer| peer["path"].clone()).collect();
    assert_eq!(paths, ["direct"], "{peers:#}");
    println!("the path between them: direct");

    // Routers say what is too long: the kernel of an agent of 0.1 hears them, and cuts its datagrams into fragments.
    let transfers = [Steady::start(&app, &db, 5000), Steady::start(&db, &app, 5001)];
    for mtu in [1400, 1280, 1500] {
        [&old, &new].iter().for_each(|runner| world.set_mtu(runner.namespace(), mtu));
        Steady::wait_more(&transfers, 1_000_000);
        println!("transfers go on over links of {mtu} bytes");
    }
    transfers.into_iter().for_each(Steady::finish);
    for (name, runner) in [("old", &old), ("new", &new)] {
        let drops = runner.json(&["status"])["drops"].clone();
        let drops: Vec<String> = drops
            .as_object()
            .expect("an object")
            .iter()
            .filter(|(_, count)| **count != 0)
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        println!("dropped by the {name} one: {drops:?}");
    }
    drop(echoes);
}
