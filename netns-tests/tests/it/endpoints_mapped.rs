//! A port that the router forwards on request: `join --map-port`, with miniupnpd.

use std::{net::Ipv4Addr, time::Duration};

use mesh_netns_tests::{
    Instance, Mapper, Nat, Router, Runner, Stack, Turn, isolated,
    traffic::{Answer, ping},
    wait,
};

use crate::reach::{Lab, Site, path_to, wait_relayed};

/// How long a change at the router may take to be noticed: it is asked every minute.
const ASKED: Duration = Duration::from_secs(90);

/// The address of alder behind its router.
const ALDER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 2);

/// Two runners behind routers with another mapping for each destination, of which one forwards ports on request.
struct Home<'a> {
    alder: Runner,
    birch: Site,
    mapper: Mapper<'a>,
    /// What it forwards from.
    outside: Ipv4Addr,
}

impl<'a> Home<'a> {
    fn new(lab: &'a Lab, router: &'a Router, prepare: impl FnOnce(&Mapper<'a>)) -> Self {
        let mut alder = lab.world.machine_behind(router, "alder");
        let mut mapper = lab.world.mapper(router);
        let outside = lab.world.public_address(router, 2);
        prepare(&mapper);
        mapper.start(outside);
        let (url, token) = (lab.coordinator.url(false), lab.coordinator.token(&["--any"]));
        alder.start(&["--map-port", &url, &token, "--name", "alder"]);
        wait_relayed(&alder);
        let this = Self { alder, birch: lab.site("birch", Nat::Symmetric), mapper, outside };
        this.wait_mapped(lab, outside);
        this
    }

    /// Everybody is told what the router forwards.
    fn wait_mapped(&self, lab: &Lab, outside: Ipv4Addr) {
        let expected = format!("{outside}:51820");
        let told = || {
            let node = lab.coordinator.node("alder").unwrap_or_default();
            node["endpoints"].as_array().is_some_and(|all| all.iter().any(|at| *at == *expected))
        };
        wait::true_within(ASKED, &format!("{expected} to be told"), told);
        for command in ["status", "netcheck"] {
            let mapping = self.alder.json(&[command])["port_mapping"].clone();
            assert_eq!(
                (&mapping["outside"], mapping["error"].is_null()),
                (&expected.as_str().into(), true),
                "{mapping}"
            );
        }
        assert!(self.mapper.forwards(51820, ALDER));
    }

    fn attach(&self) -> [Instance; 2] {
        [self.birch.runner.attach("shop/app"), self.alder.attach("shop/db")]
    }

    fn paths(&self) -> [String; 2] {
        [path_to(&self.birch.runner, "alder"), path_to(&self.alder, "birch")]
    }
}

fn is_reached(prepare: impl FnOnce(&Mapper<'_>), protocol: &str) {
    let lab = Lab::new(Turn::Coturn);
    let router = lab.world.router("home", Nat::Symmetric, Stack::V4);
    let mut home = Home::new(&lab, &router, prepare);
    let netcheck = home.alder.command(&["netcheck"]).done().stdout;
    assert!(
        netcheck.contains(&format!("mapped port {}:51820", home.outside)) && netcheck.contains(protocol),
        "{netcheck}"
    );
    let [app, db] = home.attach();
    let _server = db.serve(5432, Answer::Echo);
    let mut stream = app.connect(db.service_address, 5432).expect("a connection");
    wait::true_within(ASKED, "the mapped port to be used", || {
        ping(&mut stream, b"are you there?").expect("an echo");
        home.paths() == ["direct"; 2]
    });
    // Nothing is left on the router, and the next agent has it again.
    assert!(home.alder.stop().success());
    assert!(!home.mapper.forwards(51820, ALDER));
    home.alder.start(&[]);
    home.wait_mapped(&lab, home.outside);
    home.alder.kill();
    home.alder.start(&["--map-port=no"]);
    assert!(home.alder.json(&["status"])["port_mapping"].is_null());
}

#[test]
fn a_port_that_pcp_maps_connects_runners_behind_symmetric_routers() {
    isolated(|| is_reached(|_| {}, "(pcp)"));
}

#[test]
fn a_port_that_nat_pmp_maps_connects_runners_behind_symmetric_routers() {
    isolated(|| is_reached(|mapper| mapper.forget_pcp(), "(nat-pmp)"));
}

#[test]
fn a_router_that_forgets_is_asked_again_and_one_that_stops_forwarding_swallows_nothing() {
    isolated(|| {
        let lab = Lab::new(Turn::Coturn);
        let router = lab.world.router("home", Nat::Symmetric, Stack::V4);
        let mut home = Home::new(&lab, &router, |_| {});
        let [app, db] = home.attach();
        let _server = db.serve(5432, Answer::Echo);
        let mut stream = app.connect(db.service_address, 5432).expect("a connection");
        ping(&mut stream, b"are you there?").expect("an echo");
        // It comes back with another address.
        home.mapper.kill();
        assert!(!home.mapper.forwards(51820, ALDER));
        let other = lab.world.public_address(&router, 3);
        home.mapper.start(other);
        home.wait_mapped(&lab, other);
        wait::true_within(ASKED, "the mapped port to be used", || {
            ping(&mut stream, b"are you there?").expect("an echo");
            home.paths() == ["direct"; 2]
        });
        home.mapper.stop_forwarding();
        wait::until_true("the relay to be used", || {
            ping(&mut stream, b"are you there?").expect("an echo");
            home.paths() == ["relay"; 2]
        });
        let mut new = app.connect(db.service_address, 5432).expect("a connection by the relay");
        ping(&mut new, b"and new ones?").expect("an echo");
        home.wait_mapped(&lab, other);
    });
}
