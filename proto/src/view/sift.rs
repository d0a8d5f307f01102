//! Removes records whose addresses are not in the mesh's range, whatever the coordinator sends.

use super::{Key, Record, View};

impl View {
    /// Removes services and instances whose addresses can't be assigned in the mesh, because they would misdirect a
    /// container's other traffic. Returns their keys.
    pub fn sift(&mut self) -> Vec<Key> {
        let range = self.network.range;
        let wrong = |record: &Record| match record {
            Record::Service(service) => !range.holds(service.address),
            Record::Instance(instance) => !range.holds(instance.address),
            Record::Runner(_) | Record::Deployment(_) | Record::Naming(_) | Record::Grant(_) => false,
        };
        let wrong: Vec<Key> = self.records.iter().filter(|(_, record)| wrong(record)).map(|(key, _)| *key).collect();
        wrong.iter().for_each(|key| drop(self.records.remove(key)));
        wrong
    }
}
