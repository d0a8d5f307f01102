//! Packets that wait for a session with a runner. A sender can't take all of the room: one with less displaces the latest
//! packet of the sender with most.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use crate::Port;

/// The most packets, and the most bytes, that wait for one runner.
const PACKETS: usize = 32;
const BYTES: usize = 256 << 10;

/// A packet that waits for a session, as it was read from a TUN.
pub(crate) struct Staged {
    pub(crate) from: Port,
    pub(crate) bytes: Vec<u8>,
    pub(crate) since: Instant,
}

/// The packets that wait for one runner, oldest first.
#[derive(Default)]
pub(crate) struct Queue {
    all: VecDeque<Staged>,
    bytes: usize,
}

/// The sender has no room left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Queue {
    /// Keeps a packet. Returns how many others had to make room for it.
    ///
    /// # Errors
    /// If no other sender has more.
    pub(crate) fn push(&mut self, from: Port, bytes: &[u8], since: Instant) -> Result<usize, Full> {
        let mut displaced = 0;
        while self.all.len() >= PACKETS || self.bytes + bytes.len() > BYTES {
            let by_packets = self.all.len() >= PACKETS;
            let weight = |staged: &Staged| if by_packets { 1 } else { staged.bytes.len() };
            let mut held: BTreeMap<u32, usize> = BTreeMap::new();
            self.all.iter().for_each(|staged| *held.entry(staged.from.0).or_default() += weight(staged));
            let own = held.get(&from.0).copied().unwrap_or(0) + if by_packets { 1 } else { bytes.len() };
            let most = held.into_iter().max_by_key(|(_, weight)| *weight).filter(|(_, weight)| *weight > own);
            let (greedy, _) = most.ok_or(Full)?;
            let last = self.all.iter().rposition(|staged| staged.from.0 == greedy).ok_or(Full)?;
            self.remove(last);
            displaced += 1;
        }
        self.bytes += bytes.len();
        self.all.push_back(Staged { from, bytes: bytes.to_vec(), since });
        Ok(displaced)
    }

    fn remove(&mut self, at: usize) -> Option<Staged> {
        let staged = self.all.remove(at)?;
        self.bytes -= staged.bytes.len();
        Some(staged)
    }

    /// Removes and returns all packets.
    pub(crate) fn take(&mut self) -> VecDeque<Staged> {
        self.bytes = 0;
        std::mem::take(&mut self.all)
    }

    /// Removes and returns the packets that have waited for `limit`.
    pub(crate) fn expired(&mut self, limit: Duration, now: Instant) -> Vec<Staged> {
        let mut expired = vec![];
        let is_late = |staged: &Staged| now.saturating_duration_since(staged.since) >= limit;
        while self.all.front().is_some_and(is_late)
            && let Some(staged) = self.remove(0)
        {
            expired.push(staged);
        }
        expired
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_from_one_sender_leaves_room_for_each_other() {
        let (now, mut queue) = (Instant::now(), Queue::default());
        (0..1000).for_each(|_| _ = queue.push(Port(1), &[0; 60], now));
        assert_eq!(queue.all.len(), PACKETS);
        assert_eq!(queue.push(Port(1), &[0; 60], now), Err(Full));
        for port in 2..10 {
            assert_eq!(queue.push(Port(port), &[0; 60], now), Ok(1));
        }
        assert_eq!(queue.push(Port(10), &vec![0; BYTES], now), Err(Full), "more than a share");
        assert_eq!(queue.take().iter().filter(|staged| staged.from != Port(1)).count(), 8);
        assert_eq!((queue.bytes, queue.is_empty()), (0, true));
    }

    #[test]
    fn large_packets_are_shared_by_size() {
        let (now, mut queue) = (Instant::now(), Queue::default());
        (0..10).for_each(|_| _ = queue.push(Port(1), &[0; 60_000], now));
        assert_eq!(queue.all.len(), 4);
        assert_eq!(queue.push(Port(2), &[0; 60_000], now), Ok(1));
        assert_eq!(queue.push(Port(3), &[0; 60], now), Ok(0));
        assert_eq!(queue.expired(Duration::ZERO, now).len(), 5);
        assert_eq!(queue.bytes, 0);
    }
}
