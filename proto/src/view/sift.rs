//! Removes records whose addresses are not in the mesh's range, and addresses that no runner can have, whatever the
//! coordinator sends.

use std::{net::SocketAddr, sync::Arc};

use super::{Key, Record, Runner, View};
use crate::{
    Range,
    endpoint::{self, EndpointError, Fault},
    relay::{MAX_REFLEXIVE, MAX_RELAYED},
};

impl View {
    /// Removes services and instances whose addresses can't be assigned in the mesh, because they would misdirect a
    /// container's other traffic. Returns their keys. Runners lose the reflexive and relayed addresses that can't be, or
    /// are too many.
    pub fn sift(&mut self) -> Vec<Key> {
        let range = self.network.range;
        let wrong = |record: &Record| match record {
            Record::Service(service) => !range.holds(service.address),
            Record::Instance(instance) => !range.holds(instance.address),
            Record::Runner(_) | Record::Deployment(_) | Record::Naming(_) | Record::Grant(_) => false,
        };
        let wrong: Vec<Key> = self.records.iter().filter(|(_, record)| wrong(record)).map(|(key, _)| *key).collect();
        wrong.iter().for_each(|key| drop(self.records.remove(key)));
        let trimmed: Vec<Runner> = self.runners().filter_map(|runner| trimmed(runner, range)).collect();
        for runner in trimmed {
            self.put(Record::Runner(Arc::new(runner)));
        }
        wrong
    }
}

/// The runner without reflexive and relayed addresses that can't be or are too many; `None` if it has none of them.
fn trimmed(runner: &Runner, range: Range) -> Option<Runner> {
    // A mesh may be all on one machine. The engine leaves loopback addresses out where its machine doesn't use them.
    let can_be = |address: SocketAddr| {
        matches!(endpoint::check(address, Some(range)), Ok(()) | Err(EndpointError::Is(Fault::Loopback)))
    };
    let fits = runner.reflexive.len() <= MAX_REFLEXIVE
        && runner.relayed.len() <= MAX_RELAYED
        && runner.reflexive.iter().all(|address| can_be(*address))
        && runner.relayed.iter().all(|relayed| can_be(relayed.address));
    (!fits).then(|| Runner {
        reflexive: runner.reflexive.iter().copied().filter(|at| can_be(*at)).take(MAX_REFLEXIVE).collect(),
        relayed: runner.relayed.iter().copied().filter(|at| can_be(at.address)).take(MAX_RELAYED).collect(),
        ..runner.clone()
    })
}
