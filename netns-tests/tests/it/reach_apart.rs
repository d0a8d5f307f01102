//! A pair whose sides share no relay: each is at two that the other isn't at, and goes to one of the other's when it has to.

use std::net::{IpAddr, TcpStream};

use mesh_netns_tests::{
    Coordinator, Instance, Namespace, Nat, Relay, Router, Runner, Stack, Turn, World, isolated,
    traffic::{Answer, Server, ping},
    wait,
};

use crate::{
    common::{SHOP, declare},
    reach::path_to,
};

/// Keeps a router's machines from relays, by any transport.
fn bar(router: &Router, relays: &[Relay]) {
    let places: Vec<String> = relays.iter().map(|relay| relay.plain(false).ip().to_string()).collect();
    router.namespace().nft(&format!(
        "table inet barred {{
            chain forward {{ type filter hook forward priority -20; ip daddr {{ {} }} drop; }}
        }}
        ",
        places.join(", ")
    ));
}

fn let_through(router: &Namespace) {
    router.nft("delete table inet barred\n");
}

/// The relays at which a runner has an address.
fn places(runner: &Runner) -> Vec<IpAddr> {
    let status = runner.json(&["status"]);
    let relays = status["relays"].as_array().cloned().unwrap_or_default();
    let at = relays.iter().filter_map(|relay| relay["relayed"].as_str()?.parse::<std::net::SocketAddr>().ok());
    at.map(|at| at.ip()).collect()
}

/// `alder` is at both relays of the south, and `birch` at both of the north.
struct Lab {
    sites: [(Runner, Router); 2],
    north: [Relay; 2],
    south: [Relay; 2],
    _coordinator: Coordinator,
    _world: World,
}

impl Lab {
    fn new() -> Self {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let relays = |names: [&str; 2]| names.map(|name| world.relay_of(&coordinator, name, Turn::Coturn));
        let (north, south) = (relays(["north-1", "north-2"]), relays(["south-1", "south-2"]));
        let sites = [("alder", &south, &north), ("birch", &north, &south)].map(|(name, own, barred)| {
            let router = world.router(&format!("{name}-router"), Nat::Symmetric, Stack::V4);
            bar(&router, barred);
            let runner = world.runner_behind(&router, &coordinator, name);
            wait::until_true("an address at both of its relays", || {
                own.iter().all(|relay| places(&runner).contains(&relay.plain(false).ip()))
            });
            (runner, router)
        });
        let this = Self { sites, north, south, _coordinator: coordinator, _world: world };
        this.sites.iter().for_each(|(_, router)| let_through(router.namespace()));
        assert!(!this.shares(), "{:?}", this.places());
        this
    }

    fn places(&self) -> [Vec<IpAddr>; 2] {
        self.sites.each_ref().map(|(runner, _)| places(runner))
    }

    /// Whether both are at the same relay.
    fn shares(&self) -> bool {
        let [one, other] = self.places();
        one.iter().any(|place| other.contains(place))
    }

    /// Both instances, a server, and a connection that has carried something.
    fn connected(&self) -> ([Instance; 2], Server, TcpStream) {
        let [(alder, _), (birch, _)] = &self.sites;
        let (app, db) = (alder.attach("shop/app"), birch.attach("shop/db"));
        let server = db.serve(5432, Answer::Echo);
        let mut stream = app.connect(db.service_address, 5432).expect("a connection");
        ping(&mut stream, b"are you there?").expect("an echo");
        assert_eq!([path_to(alder, "birch"), path_to(birch, "alder")], ["relay"; 2]);
        assert!(self.shares(), "{:?}", self.places());
        ([app, db], server, stream)
    }
}

#[test]
fn runners_at_different_relays_meet_at_one_of_them() {
    isolated(|| {
        let lab = Lab::new();
        let (_instances, _server, mut stream) = lab.connected();
        // It is a relay of the one or of the other: the connection outlives that as well.
        let alder = &lab.sites[0].0;
        let used = alder.peer("birch").expect("a peer")["relay"].as_str().expect("a relay").to_owned();
        let mut all: Vec<Relay> = lab.north.into_iter().chain(lab.south).collect();
        let killed = all.iter_mut().find(|relay| relay.namespace().name() == used).expect("the relay");
        killed.kill();
        ping(&mut stream, b"and now?").expect("an echo by another relay");
        assert_ne!(alder.peer("birch").expect("a peer")["relay"], used.as_str());
    });
}

#[test]
fn runners_that_reach_only_the_second_of_each_others_relays_meet_there() {
    isolated(|| {
        let lab = Lab::new();
        let [(alder, alders), (_, birchs)] = &lab.sites;
        bar(alders, &lab.north[..1]);
        bar(birchs, &lab.south[..1]);
        let _connected = lab.connected();
        let used = alder.peer("birch").expect("a peer")["relay"].clone();
        assert!(["north-2", "south-2"].iter().any(|name| used == *name), "{used}");
    });
}
