//! Two runners reach each other, whatever is between them: pairs of routers, and the path that comes of each. Every pair
//! has its first bytes by the relay, or directly where an address is open to all.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use mesh_netns_tests::{
    Capture, Coordinator, Instance, Nat, Relay, Router, Runner, Stack, Turn, Weather, World, isolated,
    packet::protocol,
    traffic::{Answer, Server, exchange, ping},
    wait,
};

use crate::common::{SHOP, declare};

/// How long a direct path may take: two meetings that fail, and the quiet after each.
pub(crate) const MEETINGS: Duration = Duration::from_secs(150);

/// How a runner reaches another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    Direct,
    Relay,
}

impl Path {
    /// As `mesh-node status` says it.
    pub(crate) const fn name(self) -> &'static str {
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

/// One way from one router to another, where both sides of a meeting have to be in step: within this time.
const ONE_WAY: Duration = Duration::from_millis(15);

/// What is exchanged where a relay is reached by a stream.
const BYTES: u64 = 1 << 20;

fn reach(turn: Turn, nats: [Nat; 2], expected: Path) {
    let lab = Lab::new(turn);
    let _weather = nats.contains(&Nat::Answering).then(|| lab.world.weather(Weather::delay(ONE_WAY)));
    let capture = Capture::here();
    let pair = Pair::new(&lab, nats);
    let ends = pair.sites.each_ref().map(Site::outside);
    match expected {
        Path::Direct => pair.wait_path(Path::Direct),
        Path::Relay if nats.contains(&Nat::NoUdp) => by_stream(&pair, nats),
        Path::Relay => wait_knocks(&pair, &capture, ends),
    }
    pair.speaks();
    assert_eq!(pair.paths(), [expected.name(); 2]);
    let closed = lab.relay.plain(false).ip();
    let others = |from: Ipv4Addr| !ends.contains(&from) && IpAddr::from(from) != closed;
    assert_eq!(
        capture.received(|seen| seen.protocol == protocol::UDP && others(seen.source)),
        0,
        "UDP goes between the runners and the relay alone"
    );
}

/// Who has no UDP is at the relay by a connection, which carries data in both directions.
fn by_stream(pair: &Pair, nats: [Nat; 2]) {
    for (site, nat) in pair.sites.iter().zip(nats) {
        let relay = site.runner.json(&["status"])["relays"][0].clone();
        assert_eq!(relay["transport"] == "udp", nat != Nat::NoUdp, "{nat:?}: {relay}");
    }
    let _server = pair.db.serve(8, Answer::Exchange(BYTES));
    let mut stream = pair.app.connect(pair.db.service_address, 8).expect("a connection");
    exchange(&mut stream, BYTES).expect("every byte in both directions");
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

/// A test for each pair of routers, by one kind of relay.
macro_rules! pairs {
    ($module:ident, $turn:ident: $($name:ident: $one:ident and $other:ident are $path:ident,)+) => {
        mod $module {
            use super::*;

            $(#[test]
            fn $name() {
                isolated(|| reach(Turn::$turn, [Nat::$one, Nat::$other], Path::$path));
            })+
        }
    };
}

pairs! {
    by_coturn, Coturn:
    p_and_f: Public and Firewall are Direct,
    p_and_h: Public and Home are Direct,
    p_and_s: Public and Symmetric are Direct,
    f_and_f: Firewall and Firewall are Direct,
    f_and_h: Firewall and Home are Direct,
    h_and_h: Home and Home are Direct,
    h_and_l: Home and Answering are Direct,
    l_and_l: Answering and Answering are Direct,
    p_and_c: Public and Cone are Direct,
    f_and_c: Firewall and Cone are Direct,
    h_and_c: Home and Cone are Direct,
    c_and_c: Cone and Cone are Direct,
    c_and_s: Cone and Symmetric are Direct,
    f_and_s: Firewall and Symmetric are Relay,
    h_and_s: Home and Symmetric are Relay,
    l_and_s: Answering and Symmetric are Relay,
    s_and_s: Symmetric and Symmetric are Relay,
    p_and_u: Public and NoUdp are Relay,
    s_and_u: Symmetric and NoUdp are Relay,
    u_and_u: NoUdp and NoUdp are Relay,
}

pairs! {
    by_a_relay_of_the_mesh, Enrolled:
    p_and_h: Public and Home are Direct,
    h_and_h: Home and Home are Direct,
    f_and_l: Firewall and Answering are Direct,
    c_and_l: Cone and Answering are Direct,
    c_and_s: Cone and Symmetric are Direct,
    h_and_s: Home and Symmetric are Relay,
    s_and_s: Symmetric and Symmetric are Relay,
    h_and_u: Home and NoUdp are Relay,
    s_and_u: Symmetric and NoUdp are Relay,
    u_and_u: NoUdp and NoUdp are Relay,
}
