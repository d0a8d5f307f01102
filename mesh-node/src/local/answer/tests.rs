//! The answers keep their JSON.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;

fn instance() -> Instance {
    Instance {
        id: InstanceId(3),
        service: "shop/db".parse().unwrap(),
        address: Ipv4Addr::new(100, 112, 0, 9),
        service_address: Ipv4Addr::new(100, 112, 0, 2),
        interface: "mesh0".into(),
        client: false,
        draining: false,
        release: None,
        connections: None,
        containers: vec![],
        warnings: vec![],
    }
}

/// The shape is that of docs/reference/json.md: fields that were added stay.
fn frozen<T: Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T, shape: Value) {
    assert_eq!(serde_json::to_value(value).unwrap(), shape);
    assert_eq!(&serde_json::from_value::<T>(shape).unwrap(), value);
}

#[test]
fn attach_is_frozen() {
    let shape = json!({"version": 1, "instance": {"id": "i-3", "service": "shop/db", "address": "100.112.0.9",
        "service_address": "100.112.0.2", "interface": "mesh0", "client": false, "draining": false}, "pending": ["b"]});
    frozen(&Attach { version: VERSION, instance: instance(), pending: vec!["b".parse().unwrap()] }, shape);
}

#[test]
fn detach_is_frozen() {
    let shape = json!({"version": 1, "instance": {"id": "i-3", "service": "shop/db", "address": "100.112.0.9",
        "service_address": "100.112.0.2", "interface": "mesh0", "client": false, "draining": false}});
    frozen(&Detach { version: VERSION, instance: instance() }, shape);
}

#[test]
fn status_is_frozen() {
    let status = Status {
        version: VERSION,
        runner: Runner { id: RunnerId(1), name: "a".parse().unwrap() },
        map: MapState {
            revision: Some(Revision(7)),
            age_seconds: Some(1),
            connected: true,
            state: Some(LinkState::Connected),
        },
        coordinator: Coordinator { url: "https://c:7443".into(), error: None, hint: None },
        port: 51820,
        endpoints: vec!["192.0.2.1:51820".parse().unwrap()],
        port_mapping: None,
        peers: vec![Peer {
            name: "b".parse().unwrap(),
            provider: "ovh".parse().unwrap(),
            path: Path::Relay,
            relay: Some("fra-1".into()),
            rtt_ms: Some(Millis::from(Duration::from_millis(24))),
            mtu: Some(1344),
            via_since_seconds: Some(5),
            endpoint: None,
            handshake_age_seconds: None,
            tries: 3,
            failed_seconds: Some(18),
            tried: vec!["192.0.2.2:51820".parse().unwrap()],
            rx_bytes: 1,
            tx_bytes: 2,
        }],
        relays: vec![Relay {
            name: "fra-1".into(),
            transport: "udp".into(),
            address: None,
            relayed: None,
            reflexive: None,
            rtt_ms: Some(Millis::from(Duration::from_micros(12_300))),
            error: None,
        }],
        instances: vec![Instance { connections: Some(4), containers: vec!["f00".parse().unwrap()], ..instance() }],
        waiting: vec![Waiting { container: "f00".parse().unwrap(), error: "so".into(), hint: None }],
        drops: [("malformed".to_owned(), 0)].into(),
        traffic: [("tun-reads".to_owned(), Calls { count: 1, bytes: 60 })].into(),
        lanes: vec![Lane { lane: 0, runners: 1, tx_bytes: 8, rx_bytes: 9 }],
        offloads: [("udp-gso".to_owned(), Offload { on: false, why: Some("so".to_owned()) })].into(),
        warnings: vec!["no room".into()],
    };
    let shape = json!({"version": 1, "runner": {"id": "r-1", "name": "a"},
        "map": {"revision": 7, "age_seconds": 1, "connected": true, "state": "connected"},
        "coordinator": {"url": "https://c:7443", "error": null, "hint": null},
        "port": 51820, "endpoints": ["192.0.2.1:51820"],
        "peers": [{"name": "b", "provider": "ovh", "path": "relay", "relay": "fra-1", "rtt_ms": 24.0, "mtu": 1344,
            "via_since_seconds": 5, "endpoint": null, "handshake_age_seconds": null,
            "tries": 3, "failed_seconds": 18, "tried": ["192.0.2.2:51820"], "rx_bytes": 1, "tx_bytes": 2}],
        "relays": [{"name": "fra-1", "transport": "udp", "address": null, "relayed": null, "reflexive": null,
            "rtt_ms": 12.3, "error": null}],
        "instances": [{"id": "i-3", "service": "shop/db", "address": "100.112.0.9",
            "service_address": "100.112.0.2", "interface": "mesh0", "client": false, "draining": false,
            "connections": 4, "containers": ["f00"]}],
        "waiting": [{"container": "f00", "error": "so", "hint": null}],
        "drops": {"malformed": 0}, "traffic": {"tun-reads": {"count": 1, "bytes": 60}},
        "lanes": [{"lane": 0, "runners": 1, "tx_bytes": 8, "rx_bytes": 9}],
        "offloads": {"udp-gso": {"on": false, "why": "so"}}, "warnings": ["no room"]});
    frozen(&status, shape);
}

#[test]
fn denied_is_frozen() {
    let denied = Denied {
        version: VERSION,
        denied: vec![Refused {
            caller: "api/web".into(),
            callee: "100.112.0.77".into(),
            port: 80,
            reason: "no-trust".into(),
            text: "no trust".into(),
            caller_address: Some(Ipv4Addr::new(100, 127, 0, 1)),
            callee_address: Some(Ipv4Addr::new(100, 112, 0, 77)),
            count: 2,
            age_seconds: 3,
        }],
    };
    let shape = json!({"version": 1, "denied": [{"caller": "api/web", "callee": "100.112.0.77", "port": 80,
        "reason": "no-trust", "text": "no trust", "caller_address": "100.127.0.1",
        "callee_address": "100.112.0.77", "count": 2, "age_seconds": 3}]});
    frozen(&denied, shape);
}

#[test]
fn why_is_frozen() {
    let steps = vec![Step { step: "rule".into(), ok: false, code: "no-trust".into(), detail: "no trust".into() }];
    let shape = json!({"version": 1, "verdict": "deny", "steps": [{"step": "rule", "ok": false,
        "code": "no-trust", "detail": "no trust"}]});
    frozen(&Why { version: VERSION, verdict: Verdict::Deny, steps }, shape);
}

#[test]
fn names_are_frozen() {
    let names = Names {
        version: VERSION,
        hosts: vec![Host { address: Ipv4Addr::new(100, 112, 0, 2), name: "db.warp".into() }],
        variables: [("WARP_IST_db".to_owned(), "100.112.0.2".to_owned())].into(),
        warnings: vec![],
        foreign_variables: BTreeSet::new(),
    };
    let shape = json!({"version": 1, "hosts": [{"address": "100.112.0.2", "name": "db.warp"}],
        "variables": {"WARP_IST_db": "100.112.0.2"}, "warnings": []});
    frozen(&names, shape);
    let variables: BTreeMap<_, _> = ["own", "foreign"].map(|name| (name.to_owned(), "100.112.0.2".to_owned())).into();
    let names =
        || Names { variables: variables.clone(), foreign_variables: ["foreign".to_owned()].into(), ..names.clone() };
    assert_eq!(serde_json::to_value(names()).unwrap()["foreign_variables"], json!(["foreign"]));
    assert_eq!(names().chosen(Foreign::Set), variables);
    assert_eq!(names().chosen(Foreign::LeftOut).into_keys().collect::<Vec<_>>(), ["own"]);
}
