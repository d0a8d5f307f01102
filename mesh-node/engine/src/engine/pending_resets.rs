//! RSTs that have to be sent again.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::flow::{Role, Slot};

/// When a RST to another runner is sent again: datagrams get lost, and an idle end would never notice. A second RST
/// does no harm.
const RESEND: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];

/// How often it is sent after that, until two packets in a row have arrived after a send: a live WireGuard peer
/// answers within ten seconds (whitepaper §6.5, Keepalive-Timeout).
const UNCONFIRMED: Duration = Duration::from_secs(15);

/// How often to retry a RST that couldn't be sent yet: the session, the TUN or the map is on its way, as after a start
/// of the agent. After [`RETRIES`] attempts the pace is that of [`UNCONFIRMED`].
const RETRY: Duration = Duration::from_millis(250);
const RETRIES: usize = 40;

/// RSTs to send again, and when the first of them is due.
#[derive(Debug, Default)]
pub(super) struct PendingResets {
    all: VecDeque<PendingReset>,
    next: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct PendingReset {
    pub(super) at: Instant,
    pub(super) slot: Slot,
    pub(super) generation: u64,
    pub(super) role: Role,
    /// When the connection was reset.
    pub(super) since: Instant,
    /// How often the RST was sent, and when last.
    pub(super) times: usize,
    pub(super) sent: Option<Instant>,
    /// How often it could not be sent.
    pub(super) failed: usize,
    /// Whether something has arrived from the runner after the send before the last one.
    pub(super) heard: bool,
}

/// The fate of a RST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// It was delivered to a local instance.
    Delivered,
    /// It was sent to another runner.
    Sent,
    /// It can't be sent yet.
    NotYet,
    /// There is no end that could take it.
    Never,
}

impl PendingReset {
    pub(super) const fn new(slot: Slot, generation: u64, role: Role, now: Instant) -> Self {
        Self { at: now, slot, generation, role, since: now, times: 0, sent: None, failed: 0, heard: false }
    }

    /// Whether the first, fast retransmissions are over.
    pub(super) const fn is_slow(&self) -> bool {
        self.times > RESEND.len()
    }
}

impl PendingResets {
    /// Keeps the RST if it has to be sent again.
    pub(super) fn note(&mut self, reset: PendingReset, delivery: Delivery, now: Instant) {
        let reset = match delivery {
            Delivery::Delivered | Delivery::Never => return,
            Delivery::NotYet => {
                let wait = if reset.failed < RETRIES { RETRY } else { UNCONFIRMED };
                PendingReset { at: now + wait, failed: reset.failed + 1, heard: false, ..reset }
            }
            Delivery::Sent => {
                let wait = RESEND.get(reset.times).copied().unwrap_or(UNCONFIRMED);
                PendingReset { at: now + wait, times: reset.times + 1, sent: Some(now), ..reset }
            }
        };
        self.push(reset);
    }

    fn push(&mut self, reset: PendingReset) {
        self.next = Some(self.next.map_or(reset.at, |next| next.min(reset.at)));
        self.all.push_back(reset);
    }

    /// Removes and returns those that are due by `now`.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<PendingReset> {
        if self.next.is_none_or(|at| at > now) {
            return vec![];
        }
        self.next = None;
        let mut due = vec![];
        for reset in std::mem::take(&mut self.all) {
            if reset.at > now {
                self.push(reset);
            } else {
                due.push(reset);
            }
        }
        due
    }

    /// When the first of them is due.
    pub(super) const fn next(&self) -> Option<Instant> {
        self.next
    }
}
