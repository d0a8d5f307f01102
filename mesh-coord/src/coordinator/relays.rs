//! Channels to the streams that have to know of relays: those of agents that use them, and those of own relays.

use std::collections::HashMap;

use mesh_model::{Change, Key, Record};
use mesh_proto::RelayId;
use tokio::sync::watch;

/// The writer's ends.
#[derive(Debug, Default)]
pub(crate) struct RelayLinks {
    /// Signals that a relay has come, gone or changed.
    changed: watch::Sender<()>,
    /// Signals that a runner was removed.
    removed: watch::Sender<()>,
    /// One for each own relay's newest stream, by its number. Closed to end it.
    streams: HashMap<RelayId, (u64, watch::Sender<()>)>,
    next: u64,
}

/// The ends of an own relay's stream.
#[derive(Debug)]
pub(crate) struct RelayLine {
    pub(crate) number: u64,
    /// Signals that a runner was removed.
    pub(crate) removed: watch::Receiver<()>,
    /// Closed to end the stream.
    pub(crate) alive: watch::Receiver<()>,
}

impl RelayLinks {
    /// Signals that a relay has come, gone or changed.
    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Begins an own relay's stream, in place of an earlier one.
    pub(crate) fn open(&mut self, relay: RelayId) -> RelayLine {
        self.next += 1;
        let (end, alive) = watch::channel(());
        self.streams.insert(relay, (self.next, end));
        RelayLine { number: self.next, removed: self.removed.subscribe(), alive }
    }

    /// Ends a stream. A newer one stays.
    pub(crate) fn close(&mut self, relay: RelayId, number: u64) {
        if self.streams.get(&relay).is_some_and(|(newest, _)| *newest == number) {
            self.streams.remove(&relay);
        }
    }

    /// Whether an own relay has a stream.
    pub(crate) fn is_connected(&self, relay: RelayId) -> bool {
        self.streams.contains_key(&relay)
    }

    /// The own relays that have a stream.
    pub(crate) fn connected(&self) -> impl Iterator<Item = RelayId> {
        self.streams.keys().copied()
    }

    /// Tells what a commit changes.
    pub(super) fn absorb(&mut self, changes: &[Change]) {
        let (mut changed, mut removed) = (false, false);
        for change in changes {
            match change {
                Change::Put(Record::Runner(runner)) => removed |= runner.removed.is_some(),
                Change::Put(Record::Relay(_)) => changed = true,
                Change::Delete(Key::Relay(id)) => {
                    changed = true;
                    self.streams.remove(id);
                }
                _ => {}
            }
        }
        if changed {
            self.changed.send_replace(());
        }
        if removed {
            self.removed.send_replace(());
        }
    }

    /// The secret of a relay has come.
    pub(crate) fn told_anew(&self) {
        self.changed.send_replace(());
    }

    /// Everything may have changed.
    pub(super) fn reloaded(&self) {
        self.changed.send_replace(());
        self.removed.send_replace(());
    }
}
