//! A thread that takes datagrams. Each has a socket of its own on the same port, and the kernel assigns each client to
//! one of them.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use mesh_relay::{Client, Kind, Turn, Way, run};
use mesh_udp::{Inbox, Message, Udp};

use super::{
    SWEEP,
    lanes::{Lanes, OVERHEAD},
    output::{Batches, Output},
    shared::Shared,
};

/// The longest message that the kernel makes of datagrams.
const BUFFER: usize = 65_535;

/// A thread's sockets and buffers.
#[derive(Debug)]
pub(super) struct Worker {
    shared: Arc<Shared>,
    udp: Arc<Udp>,
    inbox: Inbox,
    lanes: Lanes,
    /// For what comes by the lanes.
    other: Inbox,
    batches: Batches,
    turn: Turn,
}

impl Worker {
    /// One of so many threads.
    pub(super) fn new(udp: Udp, threads: usize, shared: Arc<Shared>) -> Self {
        // An older kernel has no batches, and works.
        let _ = udp.set_gro(true);
        let (inbox, other, lanes) = (Inbox::new(BUFFER), Inbox::new(BUFFER), Lanes::new(threads));
        Self { shared, udp: Arc::new(udp), inbox, lanes, other, batches: Batches::default(), turn: Turn::new() }
    }

    /// The socket, by which connections' data goes out too.
    pub(super) fn udp(&self) -> Arc<Udp> {
        Arc::clone(&self.udp)
    }

    /// Takes datagrams until the socket fails.
    pub(super) fn run(mut self) -> io::Error {
        let (mut idle, mut swept) = (true, Duration::ZERO);
        loop {
            let (is_ready, lanes) = match self.wait(idle) {
                Ok(ready) => ready,
                Err(error) => return error,
            };
            let now = self.shared.now();
            self.turn.begin(now, idle);
            idle = true;
            for lane in lanes {
                idle &= self.take_lane(lane, now.since);
            }
            if is_ready {
                match self.take_shared(now.since) {
                    Ok(is_empty) => idle &= is_empty,
                    Err(error) => return error,
                }
            }
            if now.since >= swept + SWEEP {
                swept = now.since;
                self.lanes.close_silent(swept);
            }
        }
    }

    /// Waits until something has come, if there may be nothing. Returns what [`Lanes::poll`] does.
    fn wait(&mut self, idle: bool) -> io::Result<(bool, Vec<usize>)> {
        // A busy thread without lanes reads on.
        if !idle && self.lanes.is_empty() {
            return Ok((true, Vec::new()));
        }
        match self.lanes.poll(&self.udp, idle) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok((true, Vec::new())),
            ready => ready,
        }
    }

    /// Takes what has come by the socket of all. Returns whether nothing is left there.
    ///
    /// # Errors
    /// If the socket fails.
    fn take_shared(&mut self, now: Duration) -> io::Result<bool> {
        let Self { shared, udp, inbox, lanes, batches, turn, .. } = self;
        if let Err(error) = udp.receive(inbox) {
            lanes.note_received(0, false);
            // What an earlier datagram has met on its way (ICMP) is no fault of the socket.
            let failed = matches!(error.raw_os_error(), Some(nix::libc::EBADF | nix::libc::ENOTSOCK));
            return if failed { Err(error) } else { Ok(true) };
        }
        let dropped = lanes.note_overflow(inbox.overflow(), now);
        if dropped > 0 {
            shared.read().counters.dropped_overflow.add(dropped as usize);
        }
        let crowded = lanes.are_needed(now);
        let mut bytes = 0;
        for message in inbox.messages() {
            bytes += message.datagrams.len() + OVERHEAD;
            // Before the message is carried: what the client sends after it has been answered finds room.
            if crowded && let Some(local) = message.local {
                give_lane(shared, udp, lanes, (local, message.from), now);
            }
            take(shared, udp, batches, turn, message);
        }
        lanes.note_received(bytes, inbox.is_full());
        Ok(!inbox.is_full())
    }

    /// Takes what has come by a client's own socket. Returns whether nothing is left there.
    fn take_lane(&mut self, lane: usize, now: Duration) -> bool {
        let Self { shared, udp, lanes, other, batches, turn, .. } = self;
        for message in lanes.receive(lane, other, now) {
            take(shared, udp, batches, turn, message);
        }
        !other.is_full()
    }
}

/// Gives a client a receive buffer of its own, if it has an allocation.
fn give_lane(shared: &Shared, udp: &Udp, lanes: &mut Lanes, (local, from): (IpAddr, SocketAddr), now: Duration) {
    let is_client = shared.read().knows(Client::Udp(from));
    if let Ok(port) = udp.port()
        && is_client
        && lanes.open((local, port).into(), from, now)
    {
        shared.read().counters.own_buffers.add(1);
    }
}

/// Takes datagrams of one client.
fn take(shared: &Shared, udp: &Udp, batches: &mut Batches, turn: &mut Turn, message: Message<'_>) {
    let (now, stride) = (shared.now(), message.stride);
    let from = Way::Udp { remote: message.from, local: message.local };
    let mut rest = message.datagrams;
    if message.truncated {
        return shared.read().counters.dropped_malformed.add(1);
    }
    while !rest.is_empty() {
        let (kind, length) = run(rest, stride);
        let (part, tail) = rest.split_at_mut(length);
        rest = tail;
        match kind {
            Kind::Request => {
                if let Some(answer) = shared.answer(&from, part, now)
                    && udp.send(message.local, message.from, &answer, None).is_err()
                {
                    shared.read().counters.dropped_send.add(1);
                }
            }
            Kind::Channel | Kind::Indication => {
                let relay = shared.read();
                let (streams, counters) = (&shared.streams, &relay.counters);
                let mut output = Output { udp, batches, streams, counters };
                if kind == Kind::Channel {
                    relay.carry(from.client(), part, stride, now, turn, &mut output);
                } else {
                    relay.indicate(from.client(), part, now, turn, &mut output);
                }
            }
            Kind::Other => shared.read().counters.dropped_malformed.add(1),
        }
    }
}
