//! What a view may hold: whatever else a coordinator says, addresses are those of the mesh.

use super::{Key, Record, View};

impl View {
    /// Leaves out the services and instances whose addresses can't be any of the mesh: with them a container's other traffic would
    /// be led astray. Gives what was left out.
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
