//! What the threads and tasks of a relay share: its state under a lock that is shared for data, the connections, the
//! clock.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use mesh_proto::relay::{Pseudonym, wire::Revoked};
use mesh_relay::{Asked, Now, Relay, Way};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::clock::{Clocks as _, SystemClocks};

/// The bytes that wait for a connection beside what its socket holds.
const QUEUE: usize = 128 << 10;

/// What all parts of a relay's process share.
#[derive(Debug)]
pub(crate) struct Shared {
    relay: RwLock<Relay>,
    pub(super) streams: Streams,
    began: Duration,
}

impl Shared {
    pub(crate) fn new(relay: Relay) -> Self {
        Self { relay: RwLock::new(relay), streams: Streams::default(), began: SystemClocks.uptime() }
    }

    pub(super) fn now(&self) -> Now {
        Now { since: SystemClocks.uptime().saturating_sub(self.began), unix: SystemClocks.day() }
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Relay> {
        self.relay.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Relay> {
        self.relay.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to a request. What it changes is changed.
    pub(super) fn answer(&self, from: &Way, request: &[u8], now: Now) -> Option<Vec<u8>> {
        // The lock must be free before it is taken to write.
        let asked = self.read().ask(from, request, now);
        match asked {
            Asked::Nothing => None,
            Asked::Answer(answer) => Some(answer),
            Asked::Change(change) => {
                let changed = self.write().change(change, now);
                if let Some(way) = changed.ended.filter(|way| way.client() != from.client()) {
                    self.close(&way);
                }
                Some(changed.answer)
            }
        }
    }

    /// Refuses pseudonyms from now on, each until a time in seconds since 1970.
    pub(crate) fn revoke(&self, revoked: impl IntoIterator<Item = (Pseudonym, u64)>) {
        for (name, until) in revoked {
            let ended = self.write().revoke(name, until);
            ended.iter().for_each(|way| self.close(way));
        }
    }

    /// Who is refused now.
    pub(super) fn revoked(&self) -> Vec<Revoked> {
        let now = self.now().unix;
        let relay = self.read();
        let revoked = relay.revoked().map(|(pseudonym, until)| Revoked { pseudonym, until });
        revoked.filter(|revoked| revoked.until > now).collect()
    }

    /// The coordinator has told of all who were removed, up to now.
    pub(super) fn inform(&self) {
        let now = self.now();
        self.write().inform(now);
    }

    /// Ends the connection of a client that has no allocation any more.
    pub(super) fn close(&self, way: &Way) {
        if let Way::Stream { id, .. } = way {
            self.streams.close(*id);
        }
    }
}

/// The connections, by number.
#[derive(Debug, Default)]
pub(super) struct Streams {
    open: Mutex<HashMap<u64, Outgoing>>,
    next: AtomicU64,
}

/// What waits to be written to a connection.
#[derive(Debug, Clone)]
struct Outgoing {
    queue: UnboundedSender<Vec<u8>>,
    waiting: std::sync::Arc<AtomicUsize>,
}

/// The other end of it. It ends when the connection has to.
#[derive(Debug)]
pub(super) struct Waiting {
    queue: UnboundedReceiver<Vec<u8>>,
    waiting: std::sync::Arc<AtomicUsize>,
}

impl Waiting {
    /// What is to be written next; `None`: the connection ends.
    pub(super) async fn next(&mut self) -> Option<Vec<u8>> {
        self.queue.recv().await
    }

    /// So much has been written.
    pub(super) fn written(&self, bytes: usize) {
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Streams {
    /// A number for a new connection.
    pub(super) fn open(&self) -> (u64, Waiting) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, queue) = unbounded_channel();
        let waiting = std::sync::Arc::new(AtomicUsize::new(0));
        self.lock().insert(id, Outgoing { queue: sender, waiting: std::sync::Arc::clone(&waiting) });
        (id, Waiting { queue, waiting })
    }

    pub(super) fn close(&self, id: u64) {
        self.lock().remove(&id);
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Puts bytes into a connection's queue, unless more wait there than may: then TCP inside of them sees a loss, and
    /// not seconds of delay. Returns whether they are there.
    pub(super) fn send(&self, id: u64, bytes: Vec<u8>) -> bool {
        let Some(to) = self.lock().get(&id).cloned() else { return false };
        let length = bytes.len();
        if to.waiting.fetch_add(length, Ordering::Relaxed) + length > QUEUE.max(length) {
            to.waiting.fetch_sub(length, Ordering::Relaxed);
            return false;
        }
        to.queue.send(bytes).is_ok()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Outgoing>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_that_takes_nothing_has_a_short_queue_and_others_have_theirs() {
        let streams = Streams::default();
        let (slow, mut waiting) = streams.open();
        let (other, _rest) = streams.open();
        let sent = (0..100).filter(|_| streams.send(slow, vec![0; 10_000])).count();
        assert_eq!(sent, 13, "128 KiB");
        assert!(streams.send(other, vec![0; 10_000]));
        let bytes = waiting.next().await.unwrap();
        assert!(!streams.send(slow, vec![0; 10_000]), "what is being written counts");
        waiting.written(bytes.len());
        assert!(streams.send(slow, vec![0; 10_000]));
        streams.close(slow);
        assert!(!streams.send(slow, vec![0; 10]));
        while waiting.next().await.is_some() {}
    }
}
