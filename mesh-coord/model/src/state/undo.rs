//! Taking changes back that were absorbed only to decide on further commands.

use std::sync::Arc;

use super::State;
use crate::{Change, Key, Record};

impl State {
    /// The changes that take these back once they are absorbed.
    #[must_use]
    pub fn undo_of(&self, changes: &[Change]) -> Vec<Change> {
        let undo = |key: Key| self.record(key).map_or(Change::Delete(key), Change::Put);
        changes.iter().map(|change| undo(change.key())).collect()
    }

    /// Whether there is a record with this key.
    #[must_use]
    pub fn has(&self, key: Key) -> bool {
        self.record(key).is_some()
    }

    fn record(&self, key: Key) -> Option<Record> {
        Some(match key {
            Key::Meta => Record::Meta(Arc::clone(&self.meta)),
            Key::Runner(id) => Record::Runner(Arc::clone(&self.runners.get(&id)?.record)),
            Key::Token(id) => Record::Token(Arc::clone(self.tokens.get(&id)?)),
            Key::Deployment(id) => Record::Deployment(Arc::clone(&self.deployments.get(&id)?.record)),
            Key::Service(id) => Record::Service(Arc::clone(&self.services.get(&id)?.record)),
            Key::Instance(id) => Record::Instance(Arc::clone(self.instances.get(&id)?)),
            Key::Freed(address) => Record::Freed(Arc::clone(self.freed.get(&address)?)),
            Key::Audit(number) => Record::Audit(Arc::clone(self.audit.get(&number)?)),
            Key::Relay(id) => Record::Relay(Arc::clone(self.relays.get(&id)?)),
            Key::Session(id) => Record::Session(Arc::clone(self.sessions.get(&id)?)),
            Key::Owed(of) => Record::Owed(Arc::clone(self.owed.get(&of)?)),
            Key::Calls(id) => Record::Calls(Arc::clone(self.calls.get(&id)?)),
        })
    }
}
