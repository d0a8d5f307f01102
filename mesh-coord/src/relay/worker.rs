//! A thread that takes datagrams. Each has a socket of its own on the same port, and the kernel assigns each client to
//! one of them.

use std::{io, net::SocketAddr, os::fd::AsFd as _, sync::Arc};

use mesh_relay::{Kind, Turn, Way, run};
use mesh_udp::{Inbox, Message, Udp};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::{
    output::{Batches, Output},
    shared::Shared,
};

/// The longest message that the kernel makes of datagrams.
const BUFFER: usize = 65_535;

/// A thread's socket and buffers.
#[derive(Debug)]
pub(super) struct Worker {
    shared: Arc<Shared>,
    udp: Arc<Udp>,
    inbox: Inbox,
    batches: Batches,
    turn: Turn,
}

impl Worker {
    pub(super) fn bind(address: SocketAddr, shared: Arc<Shared>) -> io::Result<Self> {
        let udp = Udp::bind_shared(address)?;
        // An older kernel has no batches, and works.
        let _ = udp.set_gro(true);
        let (inbox, batches, turn) = (Inbox::new(BUFFER), Batches::default(), Turn::new());
        Ok(Self { shared, udp: Arc::new(udp), inbox, batches, turn })
    }

    /// The socket, by which connections' data goes out too.
    pub(super) fn udp(&self) -> Arc<Udp> {
        Arc::clone(&self.udp)
    }

    /// Takes datagrams until the socket fails.
    pub(super) fn run(mut self) -> io::Error {
        loop {
            let idle = !self.inbox.is_full();
            if idle && let Err(error) = self.wait() {
                return error;
            }
            self.turn.begin(self.shared.now(), idle);
            if let Err(error) = self.udp.receive(&mut self.inbox) {
                // What an earlier datagram has met on its way (ICMP) is no fault of the socket.
                if matches!(error.raw_os_error(), Some(nix::libc::EBADF | nix::libc::ENOTSOCK)) {
                    return error;
                }
                continue;
            }
            let Self { shared, udp, inbox, batches, turn } = &mut self;
            for message in inbox.messages() {
                take(shared, udp, batches, turn, message);
            }
        }
    }

    fn wait(&self) -> io::Result<()> {
        let mut wait = [PollFd::new(self.udp.as_fd(), PollFlags::POLLIN)];
        match poll(&mut wait, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
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
