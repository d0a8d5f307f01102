//! Runners that only a relay connects: each is behind a NAT with another port for each destination.

use mesh_netns_tests::{
    Coordinator, Instance, Nat, Relay, Router, Runner, Stack, Turn, World, isolated,
    traffic::{self, Answer, ping},
    wait,
};

use crate::common::{SHOP, declare};

/// What is exchanged to see that bytes arrive as they were sent.
const BYTES: u64 = 4 << 20;

/// Two runners, cellar and attic, and a relay.
struct Lab {
    relay: Relay,
    runners: [Runner; 2],
    coordinator: Coordinator,
    world: World,
    _routers: [Router; 2],
}

impl Lab {
    fn new(turn: Turn) -> Self {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let relay = world.relay_of(&coordinator, "fra", turn);
        let routers = ["north", "south"].map(|name| world.router(name, Nat::Symmetric, Stack::V4));
        let runners = [(0, "cellar"), (1, "attic")];
        let runners = runners.map(|(router, name)| world.runner_behind(&routers[router], &coordinator, name));
        let this = Self { relay, runners, coordinator, world, _routers: routers };
        this.wait_told();
        this
    }

    /// Each is told where the other is at the relay.
    fn wait_told(&self) {
        for runner in &self.runners {
            wait::until_true("the runners to have addresses at the relay", || {
                runner.json(&["status"])["relays"][0]["relayed"].is_string()
            });
        }
    }

    fn attach(&self) -> [Instance; 2] {
        [self.runners[0].attach("shop/app"), self.runners[1].attach("shop/db")]
    }

    fn path(&self) -> String {
        self.runners[0].peer("attic").expect("a peer")["path"].as_str().expect("a path").to_owned()
    }
}

/// Every byte of an exchange arrives as it was sent, by the relay.
fn carries(turn: Turn) {
    let lab = Lab::new(turn);
    let [app, db] = lab.attach();
    let _server = db.serve(5432, Answer::Exchange(BYTES));
    let mut stream = app.connect(db.service_address, 5432).expect("a connection");
    traffic::exchange(&mut stream, BYTES).expect("every byte as it was sent");
    let peer = lab.runners[0].peer("attic").expect("a peer");
    assert_eq!((peer["path"].as_str(), peer["relay"].as_str()), (Some("relay"), Some("fra")), "{peer}");
    assert!(peer["rtt_ms"].is_number() && peer["via_since_seconds"].is_u64(), "{peer}");
    assert!(peer["endpoint"].is_null(), "{peer}");
}

#[test]
fn runners_behind_symmetric_nats_reach_each_other_by_coturn() {
    isolated(|| carries(Turn::Coturn));
}

#[test]
fn runners_behind_symmetric_nats_reach_each_other_by_a_relay_of_their_mesh() {
    isolated(|| carries(Turn::Enrolled));
}

#[test]
fn runners_behind_symmetric_nats_reach_each_other_by_a_relay_without_a_coordinator() {
    isolated(|| carries(Turn::Own));
}

/// Programs of the same user can read what a process was started with.
#[test]
fn a_relays_token_is_not_in_its_environment() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        let relay = world.own_relay(&coordinator, "fra");
        let environment = std::fs::read(format!("/proc/{}/environ", relay.pid())).expect("the environment");
        let environment = String::from_utf8_lossy(&environment);
        assert!(environment.contains("NO_COLOR=1") && !environment.contains("meshrelay1."), "{environment}");
    });
}

#[test]
fn a_relays_token_is_not_spent_where_its_address_is_in_use() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        let token = coordinator.command(&["token", "create", "--relay", "fra"]).done().stdout;
        let (url, listen) = (coordinator.url(false), "[::]:7443");
        let command = ["relay", &url, token.trim(), "--data", "/run/fra", "--public", "10.0.0.1", "--listen", listen];
        coordinator.command(&command).refused(&["cannot listen on [::]:7443", "choose another --listen"]);
        assert_eq!(coordinator.json(&["relays"])["relays"], serde_json::json!([]), "no relay was enrolled");
    });
}

/// A relay of the mesh is told at once of a runner that is removed, and carries nothing of it any more.
#[test]
fn a_removed_runner_is_cut_off_at_the_relay_within_a_second() {
    isolated(|| {
        let lab = Lab::new(Turn::Enrolled);
        let online = || lab.coordinator.json(&["relays"])["relays"][0]["state"] == "online";
        wait::until_true("the relay to be connected", online);
        let [app, db] = lab.attach();
        let _server = db.serve(5432, Answer::Echo);
        let mut stream = app.connect(db.service_address, 5432).expect("a connection");
        ping(&mut stream, b"before").expect("an echo");
        lab.coordinator.command(&["node", "remove", "attic", "--force"]).done();
        wait::until_true("the relay to end its allocation", || lab.relay.log().contains("removed runners are cut off"));
        ping(&mut stream, b"after").expect_err("nothing of a removed runner passes");
    });
}

/// The relay is killed and started again: what stood goes on, and who needs no relay notices nothing.
fn outlives(turn: Turn) {
    let mut lab = Lab::new(turn);
    let [app, db] = lab.attach();
    let (near, far) = (lab.world.runner(&lab.coordinator, "near", Stack::V4), &lab.runners[0]);
    let direct = near.attach("shop/app");
    let _server = db.serve(5432, Answer::Echo);
    let local = far.attach("shop/db");
    let _other = local.serve(5432, Answer::Echo);
    let mut by_relay = app.connect(db.address, 5432).expect("a connection by the relay");
    ping(&mut by_relay, b"before").expect("an echo");
    let mut without = direct.connect(local.address, 5432).expect("a connection without");
    ping(&mut without, b"before").expect("an echo");
    wait::until_true("the direct path to be found", || near.peer("cellar").expect("a peer")["path"] == "direct");

    lab.relay.kill();
    ping(&mut without, b"meanwhile").expect("no relay is between these two");
    lab.relay.start();
    // The kernel retransmits by itself until the way is there again; the limit is that of the read.
    ping(&mut by_relay, b"after").expect("the same connection goes on");
    assert_eq!(lab.path(), "relay");
    assert_eq!(near.peer("cellar").expect("a peer")["path"], "direct");
}

#[test]
fn connections_outlive_coturn() {
    isolated(|| outlives(Turn::Coturn));
}

#[test]
fn connections_outlive_a_relay_of_the_mesh() {
    isolated(|| outlives(Turn::Enrolled));
}

/// An agent that is started while the coordinator is away knows its relays, and ends the allocation that the one before has
/// left.
fn is_remembered(turn: Turn) {
    let mut lab = Lab::new(turn);
    let [app, db] = lab.attach();
    let _server = db.serve(5432, Answer::Echo);
    let mut old = app.connect(db.service_address, 5432).expect("a connection");
    ping(&mut old, b"before").expect("an echo");
    lab.coordinator.kill();
    lab.runners[0].kill();
    lab.runners[0].start_alone(&[]);
    ping(&mut old, b"after").expect("the same connection goes on");
    assert_eq!(lab.path(), "relay");
}

#[test]
fn a_restarted_agent_finds_coturn_without_the_coordinator() {
    isolated(|| is_remembered(Turn::Coturn));
}

/// An agent that was told to use none has no address at the relay, and its peers don't reach it there.
fn is_not_used_against_the_operators_will(turn: Turn) {
    let mut lab = Lab::new(turn);
    lab.runners[0].stop();
    lab.runners[0].start(&["--no-relay"]);
    let status = lab.runners[0].json(&["status"]);
    assert!(status["relays"].is_null(), "{status}");
    let [app, db] = lab.attach();
    let _server = db.serve(5432, Answer::Echo);
    app.connect(db.service_address, 5432).expect_err("no way");
}

#[test]
fn an_agent_that_is_to_use_no_relay_uses_none() {
    isolated(|| is_not_used_against_the_operators_will(Turn::Coturn));
}
