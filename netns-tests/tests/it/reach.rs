//! Two runners reach each other, whatever is between them: pairs of routers, and the path that comes of each. Every pair
//! has its first bytes by the relay, or directly where an address is open to all.

use std::net::{IpAddr, Ipv4Addr};

use mesh_netns_tests::{
    Capture, Coordinator, Instance, Nat, Relay, Router, Runner, Stack, Turn, Weather, World, isolated,
    packet::protocol,
    traffic::{Answer, Server, ping},
    wait,
};

use crate::common::{SHOP, declare};

/// How long a direct path may take: two meetings that fail, and the quiet after each.
pub(crate) const MEETINGS: std::time::Duration = std::time::Duration::from_secs(150);

/// How a runner reaches another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    Direct,
    Relay,
}

impl Path {
    /// As `mesh-node status` says it.
    const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Relay => "relay",
        }
    }
}

/// A mesh with one relay.
pub(crate) struct Lab {
    pub(crate) relay: Relay,
    pub(crate) coordinator: Coordinator,
    pub(crate) world: World,
}

/// A runner behind a router of its own.
pub(crate) struct Site {
    pub(crate) runner: Runner,
    pub(crate) router: Router,
}

impl Lab {
    pub(crate) fn new(turn: Turn) -> Self {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let relay = world.relay_of(&coordinator, "relay", turn);
        Self { relay, coordinator, world }
    }

    pub(crate) fn site(&self, name: &str, nat: Nat) -> Site {
        let router = self.world.router(&format!("{name}-router"), nat, Stack::V4);
        let runner = self.runner_behind(&router, name);
        Site { runner, router }
    }

    /// A runner that has its address at the relay.
    pub(crate) fn runner_behind(&self, router: &Router, name: &str) -> Runner {
        let runner = self.world.runner_behind(router, &self.coordinator, name);
        wait_relayed(&runner);
        runner
    }
}

/// Waits until a runner has an address at a relay.
pub(crate) fn wait_relayed(runner: &Runner) {
    wait::until_true("an address at the relay", || {
        let relays = runner.json(&["status"])["relays"].clone();
        relays.as_array().is_some_and(|all| all.iter().any(|relay| relay["relayed"].is_string()))
    });
}

impl Site {
    /// The address that others see it come from.
    fn outside(&self) -> Ipv4Addr {
        let own = self.runner.namespace().ip_output("-4 -o addr show eth0");
        let own = own.split_whitespace().find_map(|word| word.strip_suffix("/24")?.parse().ok()).expect("an address");
        if Ipv4Addr::is_private(&own) && own.octets()[0] == 192 { self.router.outside() } else { own }
    }
}

/// Two runners that have had their first bytes from each other.
pub(crate) struct Pair {
    pub(crate) sites: [Site; 2],
    pub(crate) app: Instance,
    pub(crate) db: Instance,
    _server: Server,
}

impl Pair {
    pub(crate) fn new(lab: &Lab, [one, other]: [Nat; 2]) -> Self {
        let sites = [lab.site("alder", one), lab.site("birch", other)];
        let (app, db) = (sites[0].runner.attach("shop/app"), sites[1].runner.attach("shop/db"));
        let server = db.serve(7, Answer::Echo);
        let pair = Self { sites, app, db, _server: server };
        pair.speaks();
        pair
    }

    /// A new connection carries bytes.
    #[track_caller]
    pub(crate) fn speaks(&self) {
        let mut stream = self.app.connect(self.db.service_address, 7).expect("a connection");
        ping(&mut stream, b"are you there?").expect("an echo");
    }

    /// Waits until both runners reach each other so.
    #[track_caller]
    pub(crate) fn wait_path(&self, path: Path) {
        wait::true_within(MEETINGS, &format!("the path to be {path:?}"), || {
            // Paths are only looked for where something is sent.
            self.speaks();
            self.paths() == [path.name(); 2]
        });
    }

    /// How they reach each other.
    pub(crate) fn paths(&self) -> [String; 2] {
        [(0, "birch"), (1, "alder")].map(|(from, to)| path_to(&self.sites[from].runner, to))
    }
}

/// How a runner reaches another one, by its status.
pub(crate) fn path_to(runner: &Runner, peer: &str) -> String {
    let peer = runner.peer(peer).unwrap_or_default();
    peer["path"].as_str().unwrap_or_default().to_owned()
}

fn reach(turn: Turn, nats: [Nat; 2], expected: Path) {
    let lab = Lab::new(turn);
    // In step means: within the time of one way.
    let _weather = nats.contains(&Nat::Answering).then(|| {
        let delay = std::time::Duration::from_millis(30);
        lab.world.weather(Weather { lost: 0, doubled: 0, late: 0, late_by: delay, delay, seed: 1 })
    });
    let capture = Capture::here();
    let pair = Pair::new(&lab, nats);
    let ends = pair.sites.each_ref().map(Site::outside);
    match expected {
        Path::Direct => pair.wait_path(Path::Direct),
        Path::Relay => {
            if !nats.contains(&Nat::NoUdp) {
                wait_knocks(&pair, &capture, ends);
            }
            pair.speaks();
            assert_eq!(pair.paths(), [Path::Relay.name(); 2]);
        }
    }
    pair.speaks();
    let closed = lab.relay.plain(false).ip();
    let others = |from: Ipv4Addr| !ends.contains(&from) && IpAddr::from(from) != closed;
    assert_eq!(
        capture.received(|seen| seen.protocol == protocol::UDP && others(seen.source)),
        0,
        "UDP goes between the runners and the relay alone"
    );
}

/// Waits until both have knocked at the other's address, which a symmetric router keeps from becoming a path.
fn wait_knocks(pair: &Pair, capture: &Capture, [one, other]: [Ipv4Addr; 2]) {
    let knocks =
        |from, to| capture.received(|s| s.protocol == protocol::UDP && (s.source, s.destination) == (from, to));
    wait::until_true("both to knock", || {
        pair.speaks();
        knocks(one, other) >= 1 && knocks(other, one) >= 1
    });
}

/// A test for each pair of routers.
macro_rules! pairs {
    ($turn:ident: $($name:ident: $one:ident and $other:ident are $path:ident,)+) => {
        $(#[test]
        fn $name() {
            isolated(|| reach(Turn::$turn, [Nat::$one, Nat::$other], Path::$path));
        })+
    };
}

pairs! {
    Coturn:
    p_and_f: Public and Firewall are Direct,
    p_and_h: Public and Home are Direct,
    p_and_s: Public and Symmetric are Direct,
    f_and_f: Firewall and Firewall are Direct,
    f_and_h: Firewall and Home are Direct,
    h_and_h: Home and Home are Direct,
    p_and_c: Public and Cone are Direct,
    f_and_c: Firewall and Cone are Direct,
    h_and_c: Home and Cone are Direct,
    c_and_c: Cone and Cone are Direct,
    c_and_s: Cone and Symmetric are Direct,
    f_and_s: Firewall and Symmetric are Relay,
    h_and_s: Home and Symmetric are Relay,
    l_and_s: Answering and Symmetric are Relay,
    s_and_s: Symmetric and Symmetric are Relay,
}
