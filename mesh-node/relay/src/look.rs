//! A look at a relay without an allocation there: how far it is, and what address it sees (RFC 8489 §2, Binding).

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use stun_types::message::{BINDING, Message, MessageClass, TransactionId};

use crate::{Transport, frame, message, request::Requests};

/// What a look has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The relay has answered.
    There {
        /// The round trip, if it is known which of the tries was answered.
        rtt: Option<Duration>,
        /// The address of this runner that the relay sees.
        reflexive: Option<SocketAddr>,
    },
    /// Three requests had no answer.
    Nothing,
}

/// A look at a relay, over UDP.
#[derive(Debug)]
pub struct Look {
    requests: Requests<()>,
    out: Option<Vec<u8>>,
    /// When it began.
    pub began: Instant,
}

impl Look {
    /// Begins to look.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        let id = TransactionId::generate();
        let bytes = message::binding(id);
        let mut requests = Requests::new(Transport::Datagram);
        requests.begin((), id, bytes.clone(), now);
        Self { requests, out: Some(bytes), began: now }
    }

    /// A datagram to be sent to the relay.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.out.take()
    }

    /// When [`Look::handle_timeout`] has to be called.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.requests.next_timeout()
    }

    /// Handles a datagram from the relay. Returns nothing if it isn't the answer.
    pub fn handle(&mut self, datagram: &[u8], now: Instant) -> Option<Seen> {
        if !matches!(frame::kind(datagram), frame::Kind::Stun { .. }) {
            return None;
        }
        let answer = Message::from_bytes(datagram).ok()?;
        if !answer.has_method(BINDING) || !matches!(answer.class(), MessageClass::Success | MessageClass::Error) {
            return None;
        }
        let rtt = self.requests.end(answer.transaction_id(), now)?.rtt;
        Some(Seen::There { rtt, reflexive: message::reflexive(&answer) })
    }

    /// Sends again, or gives up.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Seen> {
        let out = &mut self.out;
        self.requests.handle_timeout(now, |bytes| *out = Some(bytes.to_vec())).map(|()| Seen::Nothing)
    }
}
