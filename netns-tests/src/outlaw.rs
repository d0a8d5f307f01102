//! A runner whose identity is used by a hostile program, which sends anything: by WireGuard to the other runners, and
//! by the stream to the coordinator.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use boringtun::{
    noise::{Tunn, TunnResult},
    x25519,
};
use serde_json::Value;

use crate::{Namespace, Runner, wait};

mod control;
mod flood;

pub use control::Control;
pub use flood::{Flood, Kind};

/// The default port of a runner.
const PORT: u16 = 51820;

/// What a runner knows of itself and of others, from its agent's files.
pub struct Identity {
    private: [u8; 32],
    credential: String,
    view: Value,
}

impl Identity {
    /// The identity of a runner, and its current view.
    ///
    /// # Panics
    /// If its files can't be read.
    #[must_use]
    pub fn of(runner: &Runner) -> Self {
        let read = |name: &str| -> Value {
            let text = fs::read_to_string(runner.state().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"))
        };
        let (identity, view) = (read("identity.json"), read("view.json"));
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("no text in {value}")).to_owned();
        let private = key(&text(&identity["private_key"]));
        Self { private, credential: text(&identity["enrolment"]["credential"]), view }
    }

    /// Its credential for the coordinator.
    #[must_use]
    pub fn credential(&self) -> &str {
        &self.credential
    }

    /// Its view, as stored on disk.
    #[must_use]
    pub fn view(&self) -> &Value {
        &self.view
    }

    /// The records of a kind in its view.
    ///
    /// # Panics
    /// If it has no view.
    #[must_use]
    pub fn records(&self, kind: &str) -> Vec<&Value> {
        self.all().iter().filter(|record| record["kind"] == kind).collect()
    }

    /// All records in its view.
    ///
    /// # Panics
    /// If it has no view.
    #[must_use]
    pub fn all(&self) -> &[Value] {
        find_records(&self.view).unwrap_or_else(|| panic!("no records in {:#}", self.view))
    }

    fn secret(&self) -> x25519::StaticSecret {
        x25519::StaticSecret::from(self.private)
    }

    /// The key of another runner, and its IPv4 endpoint.
    fn peer(&self, name: &str) -> (x25519::PublicKey, SocketAddr) {
        let runners = self.records("runner");
        let runner = runners.iter().find(|runner| runner["name"] == name);
        let runner = runner.unwrap_or_else(|| panic!("no runner {name} in {runners:#?}"));
        let public = key(runner["public_key"].as_str().expect("a key"));
        let endpoints = runner["endpoints"].as_array().expect("endpoints").iter();
        let mut endpoints = endpoints.filter_map(|at| at.as_str()?.parse().ok());
        let at = endpoints.find(SocketAddr::is_ipv4).expect("an endpoint by IPv4");
        (x25519::PublicKey::from(public), at)
    }
}

/// The file wraps the view with a version.
fn find_records(value: &Value) -> Option<&Vec<Value>> {
    value["records"].as_array().or_else(|| value.as_object()?.values().find_map(|inner| find_records(inner)))
}

fn key(text: &str) -> [u8; 32] {
    BASE64.decode(text).ok().and_then(|bytes| bytes.try_into().ok()).expect("32 bytes in base64")
}

/// A runner that speaks WireGuard to another one, from its own machine and port.
pub struct Outlaw {
    socket: UdpSocket,
    identity: Identity,
    peer: (x25519::PublicKey, SocketAddr),
    tunnel: Tunn,
}

impl Outlaw {
    /// Replaces a runner whose agent doesn't run, towards the runner of that name.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn new(runner: &Runner, peer: &str) -> Self {
        let identity = Identity::of(runner);
        let bind = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT));
        let socket = runner.namespace().enter(bind).expect("the runner's own port");
        socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
        let peer = identity.peer(peer);
        let tunnel = Tunn::new(identity.secret(), peer.0, None, None, 7, None);
        Self { socket, identity, peer, tunnel }
    }

    /// Its identity.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Requests a session. Returns the other runner's answer, if there is one. The session isn't confirmed yet: the
    /// answer begins with its type, its sender's index, and this side's index.
    ///
    /// # Panics
    /// If the socket fails.
    pub fn ask(&mut self) -> Option<Vec<u8>> {
        let mut buffer = [0; 256];
        let TunnResult::WriteToNetwork(initiation) = self.tunnel.format_handshake_initiation(&mut buffer, true) else {
            panic!("no initiation");
        };
        self.send(initiation);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(1) {
            // Messages of the earlier agent's sessions are ignored.
            if let Some(datagram) = self.receive().filter(|datagram| datagram[0] == 2) {
                return Some(datagram);
            }
        }
        None
    }

    /// Uses an answer to [`Self::ask`]: [`Self::seal`] works from now on.
    ///
    /// # Panics
    /// If the answer is invalid.
    pub fn confirm(&mut self, answer: &[u8]) {
        let mut buffer = [0; 256];
        let TunnResult::WriteToNetwork(keepalive) = self.tunnel.decapsulate(None, answer, &mut buffer) else {
            panic!("not an answer to the latest question");
        };
        let keepalive = keepalive.to_vec();
        self.send(&keepalive);
    }

    /// Requests until there is a session.
    #[track_caller]
    pub fn connect(&mut self) {
        let answer = wait::until("the other runner to answer a handshake", || self.ask());
        self.confirm(&answer);
    }

    /// A datagram with this packet in it.
    ///
    /// # Panics
    /// If there is no session.
    pub fn seal(&mut self, packet: &[u8]) -> Vec<u8> {
        let mut buffer = vec![0; packet.len() + 256];
        match self.tunnel.encapsulate(packet, &mut buffer) {
            TunnResult::WriteToNetwork(datagram) if datagram[0] == 4 => datagram.to_vec(),
            other => panic!("no session: {other:?}"),
        }
    }

    /// Sends a datagram to the other runner.
    ///
    /// # Panics
    /// If the socket fails.
    pub fn send(&self, datagram: &[u8]) {
        self.socket.send_to(datagram, self.peer.1).expect("a datagram");
    }

    /// Sends a packet through the session.
    ///
    /// # Panics
    /// If there is no session.
    pub fn smuggle(&mut self, packet: &[u8]) {
        let datagram = self.seal(packet);
        self.send(&datagram);
    }

    /// The next datagram, if one comes within a second.
    fn receive(&self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 65536];
        let len = self.socket.recv(&mut buffer).ok().filter(|len| *len > 0)?;
        buffer.truncate(len);
        Some(buffer)
    }

    /// A flood of handshakes to the other runner, from a network of 65,534 addresses that is routed to `machine`.
    #[must_use]
    pub fn flood(&self, machine: &Namespace, kinds: &[Kind], each_second: u32) -> Flood {
        Flood::start(machine, &self.identity, self.peer, kinds, each_second)
    }
}
