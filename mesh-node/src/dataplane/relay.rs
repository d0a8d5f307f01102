//! What goes by relays: on the tunnel's own socket, in the same batches as everything else.

use std::{io, net::SocketAddr, time::Instant};

use mesh_engine::{Datagrams, Engine, HEADROOM, Hop, Sink as _};
use mesh_link::Sent;
use mesh_proto::RelayId;
use mesh_relay_client::{HEADER, Inflow, Run, To, Wish, Wrapped};

use super::{
    counters::Counter,
    event::{DataEvent, RelayNews},
    io::Io,
};

// The engine leaves as much room before each datagram as the header takes.
const _: () = assert!(HEADER == HEADROOM);

/// Hands over to the engine what a relay has sent.
pub(super) fn receive(engine: &mut Engine, io: &mut Io, relay: RelayId, received: (&[u8], usize), now: Instant) {
    let (bytes, stride) = received;
    let mut at = 0;
    while let Some(Run { peer, range, stride, skip }) = io.relays.unwrap(relay, bytes, stride, &mut at, now) {
        let bytes = bytes.get(range).unwrap_or_default();
        let datagrams = Datagrams { from: Hop::Relayed { relay, peer }, local: None, bytes, stride, skip };
        engine.handle_udp(&datagrams, now, io);
    }
}

/// How much is read of a connection in one turn: at most so many pieces of the buffer's size.
const PIECES: usize = 8;

/// Hands over to the engine what a relay has sent by a connection, as far as it is there.
///
/// # Errors
/// If the connection is over.
pub(super) fn receive_stream(
    engine: &mut Engine,
    io: &mut Io,
    relay: RelayId,
    inflow: &mut Inflow,
    buffer: &mut [u8],
) -> io::Result<()> {
    for _ in 0..PIECES {
        let Some(read) = io.streams.read(relay, buffer)? else { break };
        inflow.push(buffer.get(..read).unwrap_or_default());
        let now = Instant::now();
        let malformed = |_| io::Error::other("the relay sends what no relay does");
        while let Some((run, bytes)) = io.relays.next_of_stream(relay, inflow, now).map_err(malformed)? {
            let Run { peer, stride, skip, .. } = run;
            let datagrams = Datagrams { from: Hop::Relayed { relay, peer }, local: None, bytes, stride, skip };
            engine.handle_udp(&datagrams, now, io);
        }
    }
    io.relays.settle(Instant::now());
    Ok(())
}

impl Io {
    /// Sends datagrams to a peer at a relay.
    pub(super) fn send_by_relay(
        &mut self,
        relay: RelayId,
        peer: SocketAddr,
        batch: &mut [u8],
        stride: usize,
        whole: bool,
    ) {
        match self.relays.wrap(relay, peer, batch, stride, Instant::now()) {
            Some((To::Stream(relay), Wrapped::Batch)) => {
                self.send_by_stream(relay, batch, batch.len().div_ceil(stride.max(1)));
            }
            Some((To::Stream(relay), Wrapped::Singly)) => {
                for datagram in batch.chunks(stride) {
                    let message = self.relays.indication(peer, datagram.get(HEADROOM..).unwrap_or_default());
                    self.send_by_stream(relay, &message, 1);
                }
            }
            Some((To::Address(to), Wrapped::Batch)) if whole => self.send_whole(None, to, batch),
            Some((To::Address(to), Wrapped::Batch)) => self.send_from(None, to, batch, stride),
            Some((To::Address(to), Wrapped::Singly)) => {
                for datagram in batch.chunks(stride) {
                    let message = self.relays.indication(peer, datagram.get(HEADROOM..).unwrap_or_default());
                    if whole {
                        self.send_whole(None, to, &message);
                    } else {
                        self.send_from(None, to, &message, message.len());
                    }
                }
            }
            // The relays count it.
            Some((_, Wrapped::Not)) | None => {}
        }
    }

    /// Sends datagrams to peers by a connection: so many of them.
    fn send_by_stream(&mut self, relay: RelayId, message: &[u8], count: usize) {
        match self.streams.send(relay, message) {
            Sent::Taken => self.traffic.udp_sends.add(message.len()),
            Sent::Full => self.counters.add(Counter::RelaySendFull, count as u64),
        }
    }

    /// Connects and closes as the relays wish.
    fn follow_wishes(&mut self) {
        while let Some((relay, wish)) = self.relays.poll_wish() {
            match wish {
                Wish::Connect => self.notify(DataEvent::Connect(relay)),
                Wish::Close => self.streams.close(relay),
            }
        }
    }

    /// Does what is due with relays, and sends what they are to be asked. Returns the news of allocations, if there are any.
    pub(super) fn tend_relays(&mut self, now: Instant) -> Option<RelayNews> {
        if self.relays.next_timeout().is_some_and(|at| at <= now) {
            self.relays.handle_timeout(now);
        }
        self.follow_wishes();
        while let Some((to, message)) = self.relays.poll_transmit() {
            let to = match to {
                To::Address(to) => to,
                To::Stream(relay) => {
                    self.streams.ask(relay, message);
                    continue;
                }
            };
            match self.udp.send(None, to, &message, None) {
                Ok(()) => self.traffic.udp_sends.add(message.len()),
                // A lost datagram is asked again; another address helps only where there is no route to this one.
                Err(error) if is_no_way(&error) => self.relays.handle_unreachable(to, now),
                Err(_) => self.counters.add(Counter::UdpSendFailed, 1),
            }
        }
        let changed = self.relays.take_changed();
        let news = || RelayNews { relayed: self.relays.relayed().collect(), reports: self.relays.reports().collect() };
        changed.then(news)
    }

    /// Adds what the relays have dropped to the counters.
    pub(super) fn count_relays(&mut self) {
        let dropped = self.relays.take_dropped();
        self.counters.add(Counter::RelayForeign, dropped.foreign);
        self.counters.add(Counter::RelayUnknown, dropped.unsent);
    }
}

fn is_no_way(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT | libc::EINVAL)
    )
}
