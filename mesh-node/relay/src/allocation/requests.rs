//! What is asked of the relay.

use std::time::Instant;

use stun_types::message::TransactionId;

use super::{Allocation, LIFE};
use crate::{channels::Ix, message};

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// An allocation.
    Allocate,
    /// The end of an allocation from our address, by our login or an earlier one.
    Release,
    ReleaseEarlier,
    /// The first permission, and the same for longer.
    Admit,
    Permit,
    /// A sign of life from both sides.
    Refresh,
    /// A channel.
    Bind(Ix),
}

/// The most channels that are asked for at once.
const BINDS: usize = 32;

impl Allocation {
    /// Sends a request.
    pub(super) fn request(&mut self, purpose: Purpose, now: Instant) {
        let id = TransactionId::generate();
        let unsigned = match (purpose, self.lease) {
            (Purpose::Allocate, _) => message::allocate(id, self.v6, !self.auth.is_challenged()),
            (Purpose::Release | Purpose::ReleaseEarlier, _) => message::refresh(id, 0),
            (Purpose::Refresh, _) => message::refresh(id, LIFE),
            (Purpose::Admit | Purpose::Permit, Some(lease)) => message::permission(id, lease.relayed.ip()),
            (Purpose::Bind(ix), _) => {
                let Some(peer) = self.channels.peer_of(ix) else { return };
                message::bind(id, ix.number(), peer)
            }
            (Purpose::Admit | Purpose::Permit, None) => return,
        };
        let bytes = self.auth.sign(unsigned);
        self.out.push_back(bytes.clone());
        self.requests.begin(purpose, id, bytes, now);
        self.sent = now;
    }

    /// Asks for the channels that datagrams were sent without.
    pub(crate) fn bind_wanted(&mut self, now: Instant) {
        while self.requests.len() < BINDS
            && let Some((ix, _)) = self.channels.ask()
        {
            self.request(Purpose::Bind(ix), now);
        }
    }
}
