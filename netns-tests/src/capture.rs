//! Captures packets, and sends packets that no honest program would send.

use std::{
    collections::BTreeSet,
    os::fd::AsFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{
    Namespace,
    packet::{self, Ipv4, Seen},
    sys::{Frame, PacketSocket},
    wait,
};

/// Captures everything on an interface, or on all interfaces of a namespace, until it is dropped.
pub struct Capture {
    socket: Arc<PacketSocket>,
    frames: Arc<Mutex<Vec<Frame>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    /// On one interface.
    ///
    /// # Panics
    /// If there is no such interface.
    #[must_use]
    pub fn interface(namespace: &Namespace, name: &str) -> Self {
        let index = namespace.interface(name).unwrap_or_else(|| panic!("{} has no {name}", namespace.name()));
        namespace.enter(|| Self::start(Some(index)))
    }

    /// On all interfaces of the calling thread's namespace: the router of a [`crate::World`].
    #[must_use]
    pub fn here() -> Self {
        Self::start(None)
    }

    fn start(interface: Option<u32>) -> Self {
        let socket = Arc::new(PacketSocket::open(interface).expect("cannot open a packet socket"));
        let frames = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (socket, frames, stop) = (Arc::clone(&socket), Arc::clone(&frames), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    drain(&socket, &frames);
                    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
                    let _ = poll(&mut fds, PollTimeout::from(50u8));
                }
            }
        });
        Self { socket, frames, stop, thread: Some(thread) }
    }

    /// Everything captured so far.
    ///
    /// # Panics
    /// If packets were lost before they were captured: then the capture proves nothing.
    #[must_use]
    pub fn frames(&self) -> Vec<Frame> {
        drain(&self.socket, &self.frames);
        assert_eq!(self.socket.lost().expect("packet statistics"), 0, "the capture has lost packets");
        self.frames.lock().expect("no one panics holding it").clone()
    }

    /// How many IPv4 packets from other machines match `which`.
    #[must_use]
    pub fn received(&self, which: impl Fn(&Seen<'_>) -> bool) -> usize {
        self.count(false, which)
    }

    /// How many IPv4 packets of the machine itself match `which`.
    #[must_use]
    pub fn sent(&self, which: impl Fn(&Seen<'_>) -> bool) -> usize {
        self.count(true, which)
    }

    /// [`Capture::received`] without retransmissions: a kernel that waits longer than a second makes some.
    #[must_use]
    pub fn received_once(&self, which: impl Fn(&Seen<'_>) -> bool) -> usize {
        self.count_once(false, which)
    }

    /// [`Capture::sent`] without retransmissions.
    #[must_use]
    pub fn sent_once(&self, which: impl Fn(&Seen<'_>) -> bool) -> usize {
        self.count_once(true, which)
    }

    fn count(&self, outgoing: bool, which: impl Fn(&Seen<'_>) -> bool) -> usize {
        self.frames().iter().filter_map(|frame| such(frame, outgoing, &which)).count()
    }

    fn count_once(&self, outgoing: bool, which: impl Fn(&Seen<'_>) -> bool) -> usize {
        let frames = self.frames();
        let all = frames.iter().filter_map(|frame| such(frame, outgoing, &which));
        all.map(|seen| seen.content()).collect::<BTreeSet<_>>().len()
    }

    /// Waits until each sent SYN that matches `which` has been answered by a refusal that matches `refusal`, checks
    /// that there are no more refusals, and returns their number. There is one for a `connect`, and another one for
    /// each time that its kernel had to wait longer than a second.
    ///
    /// # Panics
    /// If there are too few, too many, or no SYNs at all.
    #[track_caller]
    pub fn wait_refused(&self, which: impl Fn(&Seen<'_>) -> bool, refusal: impl Fn(&Seen<'_>) -> bool) -> usize {
        let is_syn = |seen: &Seen<'_>| packet::opens(seen) && which(seen);
        self.wait_received(self.sent(is_syn), "each SYN to be refused", &refusal);
        let (syns, refusals) = (self.sent(is_syn), self.received(&refusal));
        assert!(syns > 0 && refusals == syns, "{refusals} refusals of {syns} SYNs:\n{}", self.text());
        refusals
    }

    /// Waits until [`Capture::received`] counts at least `count`.
    pub fn wait_received(&self, count: usize, what: &str, which: impl Fn(&Seen<'_>) -> bool) {
        wait::until_true(what, || self.received(&which) >= count);
    }

    /// One line for each packet, for the messages of assertions.
    #[must_use]
    pub fn text(&self) -> String {
        let line = |frame: &Frame| {
            let way = if frame.outgoing { "out" } else { "in" };
            match Seen::parse(&frame.bytes) {
                Some(seen) => format!(
                    "{way} {} -> {} protocol {} ports {:?} flags {:?} icmp {:?} {} bytes\n",
                    seen.source,
                    seen.destination,
                    seen.protocol,
                    seen.ports(),
                    seen.flags(),
                    seen.icmp(),
                    frame.bytes.len()
                ),
                None => format!("{way} ethertype {:#06x}, {} bytes\n", frame.ethertype, frame.bytes.len()),
            }
        };
        self.frames().iter().map(line).collect()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sends packets to an interface, past routes, rules and the kernel's checks.
pub struct Injector {
    socket: PacketSocket,
    interface: u32,
    station: [u8; 6],
}

impl Injector {
    /// For an interface of a namespace.
    ///
    /// # Panics
    /// If there is no such interface.
    #[must_use]
    pub fn new(namespace: &Namespace, interface: &str) -> Self {
        let index = namespace.interface(interface).unwrap_or_else(|| panic!("{} has no {interface}", namespace.name()));
        let socket = namespace.enter(|| PacketSocket::open(Some(index))).expect("cannot open a packet socket");
        Self { socket, interface: index, station: [0; 6] }
    }

    /// On an Ethernet: to the station with this address.
    #[must_use]
    pub fn to_station(self, station: [u8; 6]) -> Self {
        Self { station, ..self }
    }

    /// Sends a packet.
    ///
    /// # Panics
    /// If the interface doesn't take it.
    pub fn send(&self, packet: &Ipv4) {
        self.socket
            .send(self.interface, self.station, &packet.encode())
            .expect("the interface did not take the packet");
    }
}

/// The packet in a frame, if its direction is right and it matches `which`.
fn such<'a>(frame: &'a Frame, outgoing: bool, which: &impl Fn(&Seen<'_>) -> bool) -> Option<Seen<'a>> {
    Seen::parse(&frame.bytes).filter(|seen| frame.outgoing == outgoing && which(seen))
}

fn drain(socket: &PacketSocket, frames: &Mutex<Vec<Frame>>) {
    // Locked while draining, so that two drains don't reorder frames.
    let mut frames = frames.lock().expect("no one panics holding it");
    let mut buffer = vec![0; 70_000];
    while let Ok(Some(frame)) = socket.receive(&mut buffer) {
        frames.push(frame);
    }
}
