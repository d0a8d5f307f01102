//! Moves of connections from the first lane to another one, in order.
//!
//! Packets of a connection are under way on the first lane when its next one is to go by another lane. That one waits for
//! the answer to a ping, which follows the others on the first lane: then they have arrived. Meanwhile the owner reads no
//! more of the TUN that it came from. Without an answer the connection stays for now.

use std::time::{Duration, Instant};

use super::{Peers, pings::For};
use crate::{
    Port, Sink,
    cx::Cx,
    flow::{Role, Slot},
    index::RunnerIx,
};

/// How long a packet waits. Where an answer takes longer than a quarter of that, connections stay.
const PATIENCE: Duration = Duration::from_millis(100);

/// How long no move is begun after one that was in vain, doubled with each further one.
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// The most moves at once.
const MOST: usize = 16;

/// A packet that waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Move {
    /// The TUN that it came from.
    pub(crate) port: Port,
    /// Its connection, and the end that sent it.
    pub(crate) flow: (Slot, u64, Role),
    number: u64,
    since: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Moves {
    all: Vec<Move>,
    /// The number of the last one.
    last: u64,
    /// No move is begun before, since so many in a row were in vain.
    not_before: Option<Instant>,
    in_vain: u32,
}

impl Moves {
    /// When the first one has waited in vain.
    pub(super) fn next(&self) -> Option<Instant> {
        self.all.first().map(|first| first.since + PATIENCE)
    }
}

impl Peers {
    /// Begins a move. Returns false if it would take too long.
    pub(crate) fn begin_move<S: Sink>(
        &mut self,
        runner: RunnerIx,
        port: Port,
        flow: (Slot, u64, Role),
        cx: &mut Cx<'_, S>,
    ) -> bool {
        let used = self.list[runner].link.used();
        let is_near = used.and_then(|used| used.rtt).is_some_and(|rtt| rtt <= PATIENCE / 4);
        let pauses = self.moves.not_before.is_some_and(|at| cx.now < at);
        if !is_near || pauses || self.moves.all.len() >= MOST || !self.list[runner].can_pong {
            return false;
        }
        // The packet of an earlier one was dropped meanwhile.
        self.forget_moves(port);
        self.moves.last += 1;
        let number = self.moves.last;
        self.moves.all.push(Move { port, flow, number, since: cx.now });
        self.ask(runner, For::Move(number), cx);
        true
    }

    /// The packets before a move have arrived.
    pub(super) fn end_move<S: Sink>(&mut self, number: u64, cx: &mut Cx<'_, S>) {
        if let Some(at) = self.moves.all.iter().position(|one| one.number == number) {
            self.moves.in_vain = 0;
            cx.sink.moved(self.moves.all.remove(at).port, true);
        }
    }

    /// The moves that have waited in vain.
    pub(crate) fn overdue_moves(&mut self, now: Instant) -> Vec<Move> {
        let overdue = self.moves.all.iter().take_while(|one| now >= one.since + PATIENCE).count();
        if overdue > 0 {
            let pause = PAUSE.saturating_mul(1 << self.moves.in_vain.min(5)).min(LONGEST_PAUSE);
            self.moves.not_before = Some(now + pause);
            self.moves.in_vain += 1;
        }
        self.moves.all.drain(..overdue).collect()
    }

    /// A TUN is gone, with what waited.
    pub(crate) fn forget_moves(&mut self, port: Port) {
        self.moves.all.retain(|one| one.port != port);
    }
}
