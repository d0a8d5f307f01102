//! Handshakes without end, from many addresses.

use std::{
    io::IoSlice,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use boringtun::{
    noise::{Tunn, TunnResult},
    x25519,
};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg};

use super::Identity;
use crate::Namespace;

/// The network that a flood comes from: 198.18.0.0/16 (RFC 2544, for such tests).
const SOURCES: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);

/// How many different messages of a kind there are.
const MESSAGES: u32 = 4000;

/// What a flood consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Authentic initiations of unknown keys.
    Strangers,
    /// Right initiations of the runner itself, each newer than the one before.
    Own,
    /// Initiations for another runner.
    Junk,
}

/// Handshakes, so many a second, until it is dropped.
pub struct Flood {
    begun: Instant,
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// Where it comes from, for [`crate::World::route`].
    pub const NETWORK: &str = "198.18.0.0/16";

    pub(super) fn start(
        machine: &Namespace,
        identity: &Identity,
        (public, to): (x25519::PublicKey, SocketAddr),
        kinds: &[Kind],
        each_second: u32,
    ) -> Self {
        // Any address of the network is one of the machine's own (ip-route(8), type local).
        machine.ip(&[&format!("route replace local {} dev lo", Self::NETWORK)]);
        let SocketAddr::V4(to) = to else { panic!("an address by IPv4") };
        let messages: Vec<Vec<Vec<u8>>> =
            kinds.iter().map(|kind| (0..MESSAGES).map(|n| message(*kind, n, identity, &public)).collect()).collect();
        let (sent, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let thread = machine.door().spawn({
            let (sent, stop) = (Arc::clone(&sent), Arc::clone(&stop));
            move || {
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
                let begun = Instant::now();
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    let due = (begun.elapsed().as_secs_f64() * f64::from(each_second)) as u64;
                    while n < due {
                        let kind = &messages[n as usize % messages.len()];
                        send(&socket, n, to.into(), &kind[n as usize / messages.len() % kind.len()]);
                        n += 1;
                    }
                    sent.store(n, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(1));
                }
            }
        });
        Self { begun: Instant::now(), sent, stop, thread: Some(thread) }
    }

    /// For how long it has been going on.
    #[must_use]
    pub fn lasted(&self) -> Duration {
        self.begun.elapsed()
    }

    /// How many have been sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn message(kind: Kind, n: u32, identity: &Identity, to: &x25519::PublicKey) -> Vec<u8> {
    let mut seed = [7; 32];
    seed[..4].copy_from_slice(&n.to_le_bytes());
    let private = if kind == Kind::Own { identity.secret() } else { x25519::StaticSecret::from(seed) };
    let to = if kind == Kind::Junk { x25519::PublicKey::from(seed) } else { *to };
    let mut buffer = [0; 256];
    match Tunn::new(private, to, None, None, n, None).format_handshake_initiation(&mut buffer, true) {
        TunnResult::WriteToNetwork(message) => message.to_vec(),
        other => panic!("no initiation: {other:?}"),
    }
}

/// Sends one from the `n`th address of the network.
fn send(socket: &UdpSocket, n: u64, to: SockaddrIn, message: &[u8]) {
    let host = 1 + (n.wrapping_mul(40_503) % 65_534) as u32;
    let source = Ipv4Addr::from_bits(SOURCES.to_bits() + host);
    let source = libc::in_addr { s_addr: u32::from_ne_bytes(source.octets()) };
    let from = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: source, ipi_addr: source };
    let control = [ControlMessage::Ipv4PacketInfo(&from)];
    // What finds no room is as good as lost on the way.
    let _ = sendmsg(socket.as_raw_fd(), &[IoSlice::new(message)], &control, MsgFlags::MSG_DONTWAIT, Some(&to));
}
