//! A forwarded port behind an address that changes: `--endpoint auto:PORT`.

use std::time::Duration;

use mesh_netns_tests::{
    Nat, Router, Stack, Turn, isolated,
    traffic::{Answer, ping},
    wait,
};
use serde_json::json;

use crate::reach::{Lab, path_to, wait_relayed};

/// How long a new address outside may take to be known: an allocation is refreshed after 25 s of silence.
const NOTICED: Duration = Duration::from_secs(90);

/// A port of the router that leads to its first machine for good.
fn forward(router: &Router, port: u16) {
    router.namespace().nft(&format!(
        "table ip forwarded {{
            chain pre {{ type nat hook prerouting priority -110; iifname eth0 udp dport {port} dnat to 192.168.1.2:51820; }}
        }}
        insert rule inet guard forward iifname eth0 ct status dnat accept
        "
    ));
}

#[test]
fn a_forwarded_port_is_reached_at_the_address_that_relays_see() {
    isolated(|| {
        let lab = Lab::new(Turn::Coturn);
        let router = lab.world.router("home", Nat::Symmetric, Stack::V4);
        forward(&router, 40_000);
        let mut alder = lab.world.machine_behind(&router, "alder");
        let (url, token) = (lab.coordinator.url(false), lab.coordinator.token(&["--any"]));
        alder.start(&[&url, &token, "--name", "alder", "--endpoint", "auto:40000"]);
        wait_relayed(&alder);
        let birch = lab.site("birch", Nat::Symmetric);
        let told = |address: &str| {
            let expected = json!([format!("{address}:40000")]);
            let is = || lab.coordinator.node("alder").is_some_and(|node| node["endpoints"] == expected);
            wait::true_within(NOTICED, &format!("{expected} to be told"), is);
        };
        told(&router.outside().to_string());
        let (db, app) = (alder.attach("shop/db"), birch.runner.attach("shop/app"));
        let _server = db.serve(5432, Answer::Echo);
        let mut stream = app.connect(db.service_address, 5432).expect("a connection");
        let mut wait_direct = |address: &str| {
            wait::true_within(NOTICED, &format!("the forwarded port of {address} to be used"), || {
                ping(&mut stream, b"are you there?").expect("an echo");
                let at = birch.runner.peer("alder").unwrap_or_default()["endpoint"].clone();
                at == format!("{address}:40000")
                    && [path_to(&birch.runner, "alder"), path_to(&alder, "birch")] == ["direct", "direct"]
            });
        };
        wait_direct(&router.outside().to_string());

        let network = router.outside().octets()[2];
        router.namespace().ip(&[
            "addr flush dev eth0",
            &format!("addr add 10.0.{network}.50/24 dev eth0"),
            &format!("route replace default via 10.0.{network}.1"),
        ]);
        told(&format!("10.0.{network}.50"));
        wait_direct(&format!("10.0.{network}.50"));
    });
}
