//! Relays are reached by TCP and by TLS where no datagram gets through, also where port 443 is shared, and by a proxy.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mesh_netns_tests::{Nat, Pass, Relay, Runner, Stack, Switch, Turn, World, isolated, wait};
use serde_json::{Value, json};

/// What the agent has kept of an earlier run: a relay at these places.
fn remember(runner: &Runner, relay: &Relay, tcp: &[SocketAddr], tls: &[SocketAddr]) {
    let until = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970") + Duration::from_secs(3600);
    let pass = Pass::new(relay.secret(), &"a".repeat(32), until.as_secs());
    let known = json!({
        "version": 1,
        "relays": [{
            "id": "relay-1", "name": "near", "udp": [relay.plain(false)], "tcp": tcp, "tls": tls,
            "fingerprint": relay.fingerprint(),
        }],
        "credentials": [{
            "relay": "relay-1", "username": pass.username(), "password": pass.password(), "until": until.as_secs(),
        }],
    });
    let path = runner.state().join("relay.json");
    fs::write(&path, known.to_string()).expect("cannot write a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("cannot change a file's mode");
}

/// The relay in `mesh-node status`.
fn shown(runner: &Runner) -> Value {
    runner.json(&["status"])["relays"][0].clone()
}

/// Waits until the runner has an address at the relay, by this transport.
#[track_caller]
fn has_address_by(runner: &Runner, transport: &str) {
    wait::until_true(&format!("an address by {transport}"), || {
        let relay = shown(runner);
        relay["transport"] == transport && relay["relayed"].is_string()
    });
}

fn reaches_a_relay_without_udp(turn: Turn, switch: Switch) {
    let world = World::new();
    let mut coordinator = world.coordinator(&[]);
    let mut relay = world.relay("relay", turn);
    let shared = world.shared_port(switch, relay.tls(false), coordinator.url(false).trim_start_matches("https://"));
    let router = world.router("router", Nat::NoUdp, Stack::V4);
    let mut runner = world.runner_behind(&router, &coordinator, "inside");
    // The coordinator is at the shared port as well.
    runner.stop();
    runner.start(&[&format!("https://{}", shared.place())]);
    runner.stop();
    coordinator.kill();

    remember(&runner, &relay, &[relay.plain(false)], &[shared.place()]);
    runner.start_alone(&[]);
    has_address_by(&runner, "tcp");
    assert_eq!(shown(&runner)["reflexive"], Value::Null, "datagrams don't come from where connections do");
    runner.stop();

    router.namespace().nft(
        "table ip narrow {\n chain forward {\n type filter hook forward priority -10;\n tcp dport 3478 drop\n }\n}\n",
    );
    runner.start_alone(&[]);
    has_address_by(&runner, "tls");

    // The relay is restarted, and the runner is there again.
    relay.kill();
    wait::until_true("the end to be noticed", || shown(&runner)["relayed"].is_null());
    relay.start();
    has_address_by(&runner, "tls");
}

#[test]
fn without_udp_coturn_is_reached_by_tcp_or_by_tls_at_a_port_that_haproxy_shares() {
    isolated(|| reaches_a_relay_without_udp(Turn::Coturn, Switch::Haproxy));
}

#[test]
fn without_udp_our_relay_is_reached_by_tcp_or_by_tls_at_a_port_that_nginx_shares() {
    isolated(|| reaches_a_relay_without_udp(Turn::Own, Switch::Nginx));
}

#[test]
fn where_only_a_proxy_leads_out_it_leads_to_the_relay() {
    isolated(|| {
        let world = World::new();
        let mut coordinator = world.coordinator(&[]);
        let relay = world.relay("relay", Turn::Coturn);
        let mut squid = world.squid();
        squid.start_open(443);
        let router = world.router("router", Nat::NoUdp, Stack::V4);
        let mut runner = world.runner_behind(&router, &coordinator, "inside");
        runner.stop();
        coordinator.kill();
        let proxy = squid.place();
        let (address, _) = proxy.split_once(':').expect("ADDRESS:PORT");
        router.namespace().nft(&format!(
            "table ip narrow {{\n chain forward {{\n type filter hook forward priority -10;\n ct state established accept\n \
             ip daddr != {address} drop\n }}\n}}\n"
        ));
        remember(&runner, &relay, &[], &[relay.tls(false)]);
        runner.start_alone(&[]);
        wait::until_true("the trouble to be named", || shown(&runner)["error"].is_string());
        runner.stop();
        runner.start_alone(&["--proxy", &format!("http://{proxy}")]);
        has_address_by(&runner, "tls");
        assert!(runner.log().contains(&format!("proxy=http://{proxy}")), "{}", runner.log());
    });
}
