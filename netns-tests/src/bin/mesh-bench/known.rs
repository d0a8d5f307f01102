//! Runners and rules that an agent knows without there being any: put into the view that it keeps for the times when the
//! coordinator is away, from which it then starts. And sessions with such runners, whose keys are known here.

use std::{
    fs,
    io::Read as _,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::Path,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use boringtun::{
    noise::{Tunn, TunnResult},
    x25519::{PublicKey, StaticSecret},
};
use mesh_netns_tests::Namespace;
use serde_json::{Value, json};

/// So small a mesh never assigns identifiers and addresses from here on.
const FIRST: usize = 10_000;
const RUNNERS: Ipv4Addr = Ipv4Addr::new(100, 127, 0, 0);
const SERVICES: Ipv4Addr = Ipv4Addr::new(100, 126, 0, 0);

/// A range for benchmarks without machines (RFC 2544, appendix C.2.2).
const NOWHERE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);

/// A rule is of a deployment that calls and a service that is called: as many of the ones as of the others.
const RULES_EACH: usize = 100;

/// How long an answer to a handshake may take, and how often it is tried.
const ANSWER: Duration = Duration::from_millis(200);
const TRIES: usize = 50;

/// Puts runners, each with an instance that only calls, and rules into the view in an agent's state directory. The agent
/// must not run. The runners' keys.
pub(crate) fn enlarge(state: &Path, runners: usize, rules: usize) -> Vec<StaticSecret> {
    let path = state.join("view.json");
    let mut file: Value = serde_json::from_slice(&fs::read(&path).expect("its view")).expect("JSON");
    let records = records(&mut file).expect("records in a view");
    records.push(json!({ "kind": "deployment", "id": format!("d-{FIRST}"), "name": "known", "team": "default" }));
    records.push(service(0));
    let secrets: Vec<StaticSecret> = (0..runners).map(|_| StaticSecret::from(random())).collect();
    for (secret, n) in secrets.iter().zip(0..) {
        let id = FIRST + n;
        records.push(json!({
            "kind": "runner",
            "id": format!("r-{id}"),
            "name": format!("known-{n}"),
            "provider": "known",
            "public_key": BASE64.encode(PublicKey::from(secret).as_bytes()),
            "endpoints": [format!("{}:51820", nth(NOWHERE, n))],
        }));
        records.push(json!({
            "kind": "instance",
            "id": format!("i-{id}"),
            "service": format!("s-{FIRST}"),
            "runner": format!("r-{id}"),
            "address": nth(RUNNERS, n),
            "state": "client",
        }));
    }
    for n in 1..=rules / RULES_EACH {
        let id = FIRST + n;
        records.push(
            json!({ "kind": "deployment", "id": format!("d-{id}"), "name": format!("caller-{n}"), "team": "default" }),
        );
    }
    records.extend((1..=rules.min(RULES_EACH)).map(service));
    for n in 0..rules {
        let (caller, callee) = (FIRST + 1 + n / RULES_EACH, FIRST + 1 + n % RULES_EACH);
        let (caller, callee) = (format!("d-{caller}"), format!("s-{callee}"));
        records.push(json!({ "kind": "grant", "caller": caller, "callee": callee, "ports": "all" }));
    }
    fs::write(&path, file.to_string()).expect("cannot write its view");
    secrets
}

/// Of the deployment `known`.
fn service(n: usize) -> Value {
    let (id, deployment) = (format!("s-{}", FIRST + n), format!("d-{FIRST}"));
    json!({
        "kind": "service",
        "id": id,
        "deployment": deployment,
        "name": format!("known-{n}"),
        "address": nth(SERVICES, n),
        "automatic_names": false,
    })
}

/// Not the network's own address.
fn nth(network: Ipv4Addr, n: usize) -> String {
    Ipv4Addr::from_bits(network.to_bits() + 1 + n as u32).to_string()
}

/// The file has the view inside something that says its version.
fn records(value: &mut Value) -> Option<&mut Vec<Value>> {
    if value["records"].is_array() {
        return value["records"].as_array_mut();
    }
    value.as_object_mut()?.values_mut().find_map(records)
}

/// Has each of these runners begin a session with the agent of this state directory, from a namespace that reaches it.
pub(crate) fn connect(runners: &[StaticSecret], state: &Path, from: &Namespace, to: SocketAddr) {
    let identity: Value = serde_json::from_slice(&fs::read(state.join("identity.json")).expect("it")).expect("JSON");
    let private = identity["private_key"].as_str().and_then(|text| BASE64.decode(text).ok());
    let private: [u8; 32] = private.and_then(|bytes| bytes.try_into().ok()).expect("a key");
    let agent = PublicKey::from(&StaticSecret::from(private));
    let socket = from.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))).expect("a port");
    socket.connect(to).expect("a way");
    socket.set_read_timeout(Some(ANSWER)).expect("a timeout");
    for (secret, index) in runners.iter().zip(1..) {
        let mut tunnel = Tunn::new(secret.clone(), agent, None, None, index, None);
        let connected = (0..TRIES).any(|_| handshake(&mut tunnel, &socket).unwrap_or(false));
        assert!(connected, "the agent answers no handshake");
    }
}

/// Whether a session came of it.
fn handshake(tunnel: &mut Tunn, socket: &UdpSocket) -> std::io::Result<bool> {
    let (mut datagram, mut buffer) = ([0; 2048], [0; 2048]);
    if let TunnResult::WriteToNetwork(initiation) = tunnel.format_handshake_initiation(&mut buffer, true) {
        socket.send(initiation)?;
    }
    let length = socket.recv(&mut datagram)?;
    match tunnel.decapsulate(None, &datagram[..length], &mut buffer) {
        // What follows an answer is a keepalive, which confirms the session; nothing follows a cookie but the next try.
        TunnResult::WriteToNetwork(keepalive) => socket.send(keepalive).map(|_| true),
        _ => Ok(false),
    }
}

/// Enough for a key.
pub(crate) fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    fs::File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes)).expect("/dev/urandom");
    bytes
}
