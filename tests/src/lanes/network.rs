//! The datagrams on their way. Those of one socket to another runner arrive in their order, those of different sockets as
//! chance will have it; a rough network loses some, and repeats some later.

use std::{collections::BTreeMap, time::Duration};

use crate::rng::Rng;

/// Datagrams that were sent by one call.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) bytes: Vec<u8>,
    pub(super) stride: usize,
}

pub(super) struct Network {
    queue: BTreeMap<(Duration, u64), Batch>,
    sequence: u64,
    delay: Duration,
    /// By how many microseconds more a batch may be late.
    jitter: u64,
    /// When the last batch of each socket arrives at each runner.
    last: BTreeMap<(usize, usize, usize), Duration>,
    /// Of ten thousand datagrams so many are lost.
    pub(super) loss: u64,
    /// Of a hundred batches so many are repeated.
    pub(super) replays: u64,
}

impl Network {
    pub(super) fn new(rng: &mut Rng) -> Self {
        let delay = if rng.chance(70) { 50 + rng.below(3000) } else { 3000 + rng.below(9000) };
        Self {
            queue: BTreeMap::new(),
            sequence: 0,
            delay: Duration::from_micros(delay),
            jitter: 1 + rng.below(2000),
            last: BTreeMap::new(),
            loss: 0,
            replays: 0,
        }
    }

    pub(super) fn next(&self) -> Option<Duration> {
        self.queue.keys().next().map(|(at, _)| *at)
    }

    pub(super) fn pop(&mut self) -> Option<Batch> {
        self.queue.pop_first().map(|(_, batch)| batch)
    }

    fn put(&mut self, at: Duration, batch: Batch) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), batch);
    }

    /// A lane (the first one is an engine) sends datagrams.
    pub(super) fn send(&mut self, now: Duration, lane: usize, batch: Batch, rng: &mut Rng) {
        let last = self.last.entry((batch.from, lane, batch.to)).or_default();
        let at = (now + self.delay + Duration::from_micros(rng.below(self.jitter))).max(*last);
        *last = at;
        if rng.below(100) < self.replays {
            let later = at + Duration::from_millis(if rng.chance(50) { rng.below(20) } else { rng.below(3000) });
            self.put(later, batch.clone());
        }
        if self.loss == 0 {
            return self.put(at, batch);
        }
        let Batch { from, to, stride, bytes } = batch;
        let mut run = vec![];
        for datagram in bytes.chunks(stride) {
            if rng.below(10_000) >= self.loss {
                run.extend_from_slice(datagram);
            } else if !run.is_empty() {
                self.put(at, Batch { from, to, stride, bytes: std::mem::take(&mut run) });
            }
        }
        if !run.is_empty() {
            self.put(at, Batch { from, to, stride: stride.min(run.len()), bytes: run });
        }
    }
}
