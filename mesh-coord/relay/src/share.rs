//! Equal shares of a busy thread: a client that floods the relay has what it sends beyond its share dropped before that
//! costs a system call, and others keep theirs.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::{
    limits::{DATAGRAM, LEAST_SHARE, TURN},
    time::Now,
};

/// The turns of one thread. A turn has 10 ms.
#[derive(Debug, Default)]
pub struct Turn {
    number: u32,
    /// What all clients have offered in this turn, and how many there were.
    offered: u64,
    clients: u32,
    /// Whether the thread had nothing left to do at some time in this turn.
    idle: bool,
    /// What each may send in this turn.
    share: u32,
}

/// What a client has offered in a turn: the turn's number and a cost.
#[derive(Debug, Default)]
pub(crate) struct Spent(AtomicU64);

impl Turn {
    /// Shares without a limit until the thread is found busy.
    #[must_use]
    pub fn new() -> Self {
        Self { share: u32::MAX, ..Self::default() }
    }

    /// Before a round of work. `idle`: whether the thread had to wait for it.
    pub fn begin(&mut self, now: Now, idle: bool) {
        let number = u32::try_from(now.since.as_millis() / TURN.as_millis()).unwrap_or_default();
        if number != self.number {
            self.share = if self.idle || self.clients == 0 {
                u32::MAX
            } else {
                u32::try_from(self.offered / u64::from(self.clients)).unwrap_or(u32::MAX).max(LEAST_SHARE)
            };
            *self = Self { number, share: self.share, offered: 0, clients: 0, idle: false };
        }
        self.idle |= idle;
    }

    /// Whether a client may send these many datagrams and bytes more in this turn.
    pub(crate) fn admit(&mut self, spent: &Spent, datagrams: usize, bytes: usize) -> bool {
        let cost = u32::try_from(bytes + datagrams * DATAGRAM as usize).unwrap_or(u32::MAX);
        let before = spent.0.load(Relaxed);
        let before = if (before >> 32) as u32 == self.number && self.clients > 0 {
            before as u32
        } else {
            self.clients += 1;
            0
        };
        self.offered += u64::from(cost);
        let after = before.saturating_add(cost);
        spent.0.store(u64::from(self.number) << 32 | u64::from(after), Relaxed);
        before < self.share
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(milliseconds: u64) -> Now {
        Now { since: Duration::from_millis(milliseconds), unix: 0 }
    }

    /// One turn in which a flood offers 30 batches and a bystander 3, in between: what each got through.
    fn turn(turns: &mut Turn, number: u64, idle: bool) -> (usize, usize) {
        let (flood, bystander) = (Spent::default(), Spent::default());
        turns.begin(at(number * 10), idle);
        let mut passed = (0, 0);
        for round in 0..30 {
            passed.0 += usize::from(turns.admit(&flood, 44, 60_000));
            if round % 10 == 0 {
                passed.1 += usize::from(turns.admit(&bystander, 44, 60_000));
            }
        }
        passed
    }

    #[test]
    fn in_a_busy_thread_a_flood_gets_no_more_than_its_share() {
        let mut turns = Turn::new();
        assert_eq!(turn(&mut turns, 1, false), (30, 3), "nothing is known of the first turn");
        for number in 2..20 {
            let (flood, bystander) = turn(&mut turns, number, false);
            assert_eq!(bystander, 3, "the bystander keeps all of its");
            assert!(flood <= 17, "{flood} of 30");
        }
    }

    #[test]
    fn while_the_thread_has_time_left_all_may_send_what_they_like() {
        let mut turns = Turn::new();
        for number in 1..20 {
            assert_eq!(turn(&mut turns, number, true), (30, 3));
        }
    }
}
