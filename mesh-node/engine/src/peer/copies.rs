//! Copies of a handshake's messages that arrive by several paths, since the initiation is sent to several addresses.

use std::time::{Duration, Instant};

use crate::{Hop, limit::Mac, tunnel::CONTROL};

/// How long copies that come by other paths count, and how many of an initiation are answered.
const LATEST: Duration = Duration::from_secs(10);
const PATHS: u8 = 8;

/// What is remembered of the latest handshake with a runner.
#[derive(Default)]
pub(crate) struct Copies {
    sent: Option<Sent>,
    accepted: Option<Accepted>,
}

/// The response to the runner's initiation.
struct Sent {
    initiation: Mac,
    message: [u8; CONTROL],
    len: usize,
    since: Instant,
    /// Where it was sent last, and how often it may be sent to another address.
    to: Hop,
    left: u8,
}

/// The runner's response, which has made a session.
struct Accepted {
    response: Mac,
    from: Hop,
    since: Instant,
}

impl Copies {
    /// An initiation was answered by `response`.
    pub(crate) fn responded(&mut self, initiation: Mac, response: &[u8], to: Hop, now: Instant) {
        let mut message = [0; CONTROL];
        message[..response.len()].copy_from_slice(response);
        self.sent = Some(Sent { initiation, message, len: response.len(), since: now, to, left: PATHS });
    }

    /// The response to a copy of the initiation that has come from another address.
    pub(crate) fn respond_again(&mut self, initiation: &Mac, to: Hop, now: Instant) -> Option<&[u8]> {
        let sent = self.sent.as_mut()?;
        if sent.initiation != *initiation || sent.to == to || sent.left == 0 || is_late(sent.since, now) {
            return None;
        }
        (sent.to, sent.left) = (to, sent.left - 1);
        Some(&sent.message[..sent.len])
    }

    /// How long ago an initiation was answered last.
    pub(crate) fn responded_for(&self, now: Instant) -> Option<Duration> {
        Some(now.saturating_duration_since(self.sent.as_ref()?.since))
    }

    /// A response has made a session.
    pub(crate) fn accepted(&mut self, response: Mac, from: Hop, now: Instant) {
        self.accepted = Some(Accepted { response, from, since: now });
    }

    /// Whether this is the response that has just made a session, from another address.
    pub(crate) fn has_accepted(&self, response: &Mac, from: Hop, now: Instant) -> bool {
        let is_copy = |it: &Accepted| it.response == *response && it.from != from && !is_late(it.since, now);
        self.accepted.as_ref().is_some_and(is_copy)
    }
}

fn is_late(since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) >= LATEST
}
