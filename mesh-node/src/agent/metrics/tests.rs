use std::time::Duration;

use serde_json::{Value, json};

use super::*;

fn status(peers: &[Value]) -> local::Status {
    serde_json::from_value(json!({
        "version": 1, "runner": {"id": "r-1", "name": "a"},
        "map": {"revision": 7, "age_seconds": 1, "connected": true, "state": "connected"},
        "coordinator": {"url": "https://c:7443", "error": null, "hint": null},
        "port": 51820, "endpoints": [], "peers": peers,
        "instances": [
            {"id": "i-1", "service": "shop/db", "address": "100.112.0.9", "service_address": "100.112.0.2",
                "interface": "mesh0", "client": false, "draining": false, "connections": 3},
            {"id": "i-2", "service": "shop/db", "address": "100.112.0.8", "service_address": "100.112.0.2",
                "interface": "mesh0", "client": false, "draining": true, "connections": 4},
            {"id": "i-3", "service": "shop/app", "address": "100.112.0.7", "service_address": "100.112.0.3",
                "interface": "mesh0", "client": true, "connections": 0},
        ],
        "drops": {"no-trust": 5, "tun-full": 0}, "traffic": {"tun-reads": {"count": 2, "bytes": 3000}},
        "offloads": {"udp-gso": {"on": true, "why": "the kernel refuses it"}, "tun-gso": {"on": true, "why": null}},
        "waiting": [{"container": "0123456789ab0123456789ab0123456789ab0123456789ab0123456789abcdef", "error": "e", "hint": null}],
    }))
    .unwrap()
}

fn peer(name: &str, path: &str, failed: Option<u64>, bytes: u64) -> Value {
    json!({"name": name, "provider": "p", "path": path, "rtt_ms": if path == "none" { None } else { Some(1.5) },
        "endpoint": null, "handshake_age_seconds": if path == "none" { None } else { Some(20) }, "tries": 3,
        "failed_seconds": failed, "rx_bytes": bytes, "tx_bytes": 2 * bytes})
}

fn text(status: &local::Status) -> String {
    let at = |seconds| Some(UNIX_EPOCH + Duration::from_secs(seconds));
    of(status, &More { streams: 3, heard: at(1000), now: at(1020), connections: 9 }).into_text()
}

#[test]
fn the_numbers_are_those_of_status() {
    let peers = [
        peer("b", "direct", None, 10),
        peer("c", "relay", None, 5),
        peer("d", "none", Some(7), 0),
        peer("e", "none", None, 0),
    ];
    let text = text(&status(&peers));
    for line in [
        "mesh_node_coordinator_connected 1",
        "mesh_node_coordinator_reconnects_total 2",
        "mesh_node_map_heard_timestamp_seconds 1000.0",
        "mesh_node_map_revision 7",
        r#"mesh_node_peers{path="direct"} 1"#,
        r#"mesh_node_peers{path="relay"} 1"#,
        r#"mesh_node_peers{path="none"} 1"#,
        r#"mesh_node_peers{path="idle"} 1"#,
        r#"mesh_node_peer_handshake_timestamp_seconds{peer="b"} 1000"#,
        r#"mesh_node_peer_rtt_seconds{peer="c"} 0.0015"#,
        r#"mesh_node_peer_sent_bytes_total{peer="b"} 20"#,
        r#"mesh_node_peer_received_bytes_total{peer="b"} 10"#,
        r#"mesh_node_instances{state="live"} 1"#,
        r#"mesh_node_instances{state="draining"} 1"#,
        r#"mesh_node_instances{state="client"} 1"#,
        r#"mesh_node_open_connections{service="shop/db"} 7"#,
        "mesh_node_containers_waiting 1",
        "mesh_node_connections 9",
        "mesh_node_connection_table_limit 262144",
        r#"mesh_node_dropped_packets_total{reason="no_trust"} 5"#,
        r#"mesh_node_dropped_packets_total{reason="tun_full"} 0"#,
        r#"mesh_node_io_calls_total{kind="tun_read"} 2"#,
        r#"mesh_node_io_bytes_total{kind="tun_read"} 3000"#,
        r#"mesh_node_offload_enabled{offload="tun_gso"} 1"#,
        r#"mesh_node_offload_enabled{offload="udp_gso"} 0"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    assert!(!text.contains(r#"service="shop/app""#), "clients take no connections");
}

#[test]
fn a_large_mesh_makes_no_more_series_than_are_allowed() {
    let peers: Vec<Value> = (0..3000).map(|n| peer(&format!("p{n}"), "direct", None, 1 + n)).collect();
    let text = text(&status(&peers));
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series < 1000, "{series}");
    assert!(text.contains(r#"mesh_node_peers{path="direct"} 3000"#), "all are counted");
    let sent = text.lines().filter_map(|line| line.strip_prefix("mesh_node_peer_sent_bytes_total{")?.rsplit_once(' '));
    assert_eq!(sent.map(|(_, bytes)| bytes.parse::<u64>().unwrap()).sum::<u64>(), 2 * (3000 * 3001 / 2));
}
