//! Requests that wait for their answers, and are sent again (RFC 8489 §6.2.1).

use std::time::{Duration, Instant};

use stun_types::message::TransactionId;

use crate::Transport;

/// How long the first of three tries waits for its answer. The others wait twice and four times as long.
pub(crate) const WAIT: Duration = Duration::from_millis(500);
const TRIES: u8 = 3;

/// How long a request on a stream may take, where it is sent once, and waits behind what is to be sent already.
const STREAM_WAIT: Duration = Duration::from_secs(10);

/// A request without an answer. `P` says what it is for.
#[derive(Debug)]
struct Request<P> {
    id: TransactionId,
    purpose: P,
    bytes: Vec<u8>,
    tries: u8,
    sent: Instant,
    again: Instant,
}

/// An answered request.
pub(crate) struct Answered {
    /// The round trip, if there was one try, so that it is known which one was answered (Karn's rule, RFC 6298 §3).
    pub(crate) rtt: Option<Duration>,
}

/// All requests of one client.
#[derive(Debug)]
pub(crate) struct Requests<P> {
    transport: Transport,
    open: Vec<Request<P>>,
}

impl<P: Copy> Requests<P> {
    pub(crate) fn new(transport: Transport) -> Self {
        Self { transport, open: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    pub(crate) fn is_open(&self, wanted: impl Fn(P) -> bool) -> bool {
        self.open.iter().any(|request| wanted(request.purpose))
    }

    /// Notes a request that is sent now.
    pub(crate) fn begin(&mut self, purpose: P, id: TransactionId, bytes: Vec<u8>, now: Instant) {
        let wait = if self.transport == Transport::Stream { STREAM_WAIT } else { WAIT };
        self.open.push(Request { id, purpose, bytes, tries: 1, sent: now, again: now + wait });
    }

    /// The purpose of the request with this identifier.
    pub(crate) fn purpose(&self, id: TransactionId) -> Option<P> {
        self.open.iter().find(|request| request.id == id).map(|request| request.purpose)
    }

    /// Ends the request with this identifier.
    pub(crate) fn end(&mut self, id: TransactionId, now: Instant) -> Option<Answered> {
        let at = self.open.iter().position(|request| request.id == id)?;
        let request = self.open.swap_remove(at);
        let rtt = (request.tries == 1).then(|| now.saturating_duration_since(request.sent));
        Some(Answered { rtt })
    }

    pub(crate) fn clear(&mut self) {
        self.open.clear();
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.open.iter().map(|request| request.again).min()
    }

    /// Sends again what is due, by `send`. Returns a request that has had its last try; there may be another.
    pub(crate) fn handle_timeout(&mut self, now: Instant, mut send: impl FnMut(&[u8])) -> Option<P> {
        let last = if self.transport == Transport::Stream { 1 } else { TRIES };
        for at in 0..self.open.len() {
            let request = &mut self.open[at];
            if request.again > now {
                continue;
            }
            if request.tries >= last {
                return Some(self.open.swap_remove(at).purpose);
            }
            request.again = now + WAIT * (1 << request.tries);
            request.tries += 1;
            send(&request.bytes);
        }
        None
    }
}
