//! Which containers hold an instance: the bookkeeping, and the file that keeps it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ContainerId;
use crate::{
    attach::NamespaceId,
    hosts::Place,
    instances::{Watch, boot},
    state::StateDir,
};

/// Where containers are remembered.
pub(crate) const FILE: &str = "containers.json";

/// What is remembered of a container that holds an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holder {
    /// The namespace of the instance.
    pub(super) namespace: NamespaceId,
    /// Its first process; `None` if only its namespace is known, and its runtime tells of its end.
    pub(super) pid: Option<i32>,
    /// Its hosts file, where the instance's names are kept.
    pub(super) hosts: Option<Place>,
    /// Whether the instance came with a container, and goes with the last. Else somebody attached it otherwise.
    pub(super) owned: bool,
}

/// One run of a container, which starts again under the same identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) id: ContainerId,
    /// Which of its runs since this agent started.
    pub(super) number: u64,
}

#[derive(Debug)]
struct Entry {
    holder: Holder,
    number: u64,
    /// Its instance is there; before that nothing shows that the container is.
    begun: bool,
    /// Ends the watch over its process when dropped.
    _watch: Option<Watch>,
}

/// What is to be done when a container has let go of its instance.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Released {
    pub(super) namespace: NamespaceId,
    /// Nobody else holds it: it ends.
    pub(super) ends: bool,
    /// A hosts file that nobody else has.
    pub(super) hosts: Option<Place>,
}

/// The containers that hold instances.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: BTreeMap<ContainerId, Entry>,
    runs: u64,
}

/// The file.
#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    version: u32,
    /// Which start of the machine: no container outlives it.
    boot: String,
    containers: BTreeMap<ContainerId, Holder>,
}

impl Table {
    /// A run begins.
    pub(super) fn next_run(&mut self, id: &ContainerId) -> Run {
        self.runs += 1;
        Run { id: id.clone(), number: self.runs }
    }

    /// A container holds the instance of a namespace from now on.
    pub(super) fn hold(&mut self, run: Run, holder: Holder, watch: Option<Watch>) {
        self.entries.insert(run.id, Entry { holder, number: run.number, begun: false, _watch: watch });
    }

    /// The instance that a container holds is there.
    pub(super) fn begun(&mut self, id: &ContainerId) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.begun = true;
        }
    }

    /// The namespace of the instance that a container holds.
    pub(super) fn namespace_of(&self, id: &ContainerId) -> Option<NamespaceId> {
        self.entries.get(id).map(|entry| entry.holder.namespace)
    }

    /// Whether the instance of this namespace came with a container; `None` if none holds it.
    pub(super) fn owned(&self, namespace: NamespaceId) -> Option<bool> {
        self.entries.values().find(|entry| entry.holder.namespace == namespace).map(|entry| entry.holder.owned)
    }

    /// A container lets go. With a number: that run of it, and no later one.
    pub(super) fn release(&mut self, id: &ContainerId, number: Option<u64>) -> Option<Released> {
        self.entries.get(id).filter(|entry| number.is_none_or(|number| number == entry.number))?;
        let Holder { namespace, hosts, owned, .. } = self.entries.remove(id)?.holder;
        let mut others = self.entries.values().map(|entry| &entry.holder).filter(|other| other.namespace == namespace);
        let ends = owned && others.clone().next().is_none();
        let hosts = hosts.filter(|place| others.all(|other| other.hosts.as_ref() != Some(place)));
        Some(Released { namespace, ends, hosts })
    }

    /// Forgets containers of which only the namespace was known, and that `is_there` no longer: their runtime has not told.
    /// Gives whether there were any.
    pub(super) fn prune(&mut self, is_there: impl Fn(NamespaceId) -> bool) -> bool {
        let before = self.entries.len();
        self.entries.retain(|_, entry| !entry.begun || entry.holder.pid.is_some() || is_there(entry.holder.namespace));
        self.entries.len() < before
    }

    /// Those that hold the instance of a namespace.
    pub(super) fn holding(&self, namespace: NamespaceId) -> Vec<ContainerId> {
        let holding = self.entries.iter().filter(|(_, entry)| entry.holder.namespace == namespace);
        holding.map(|(id, _)| id.clone()).collect()
    }

    /// All of them.
    pub(super) fn list(&self) -> Vec<ContainerId> {
        self.entries.keys().cloned().collect()
    }

    /// Remembers. What can't be remembered works nevertheless, until the agent restarts.
    pub(super) fn save(&self, state: &StateDir) {
        let containers = self.entries.iter().map(|(id, entry)| (id.clone(), entry.holder.clone())).collect();
        if let Err(error) = state.remember(FILE, &Remembered { version: 1, boot: boot(), containers }) {
            tracing::warn!(%error, "cannot remember the containers: a restart of the agent would lose the latest changes");
        }
    }
}

/// What an earlier agent left since this start of the machine. A damaged file is put aside.
pub(super) fn load(state: &StateDir) -> BTreeMap<ContainerId, Holder> {
    match state.read::<Remembered>(FILE) {
        Ok(Some(old)) if old.boot == boot() => old.containers,
        Ok(_) => BTreeMap::new(),
        Err(error) => {
            state.put_aside(FILE);
            tracing::warn!(%error, "which containers hold instances is lost: the end of their namespaces will be theirs");
            BTreeMap::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::Scratch;

    fn id(text: &str) -> ContainerId {
        text.parse().unwrap()
    }

    fn namespace(ino: u64) -> NamespaceId {
        NamespaceId { dev: 4, ino }
    }

    fn holder(ino: u64, hosts: &str, owned: bool) -> Holder {
        Holder { namespace: namespace(ino), pid: Some(7), hosts: Some(Place::Path(hosts.into())), owned }
    }

    fn hold(table: &mut Table, name: &str, holder: Holder) -> u64 {
        let run = table.next_run(&id(name));
        let number = run.number;
        table.hold(run, holder, None);
        number
    }

    #[test]
    fn a_shared_instance_ends_with_the_last_of_its_containers() {
        let mut table = Table::default();
        hold(&mut table, "a", holder(1, "/a", true));
        hold(&mut table, "b", holder(1, "/b", true));
        hold(&mut table, "c", holder(2, "/c", true));
        let released = |ends, hosts: &str| {
            Some(Released { namespace: namespace(1), ends, hosts: Some(Place::Path(hosts.into())) })
        };
        assert_eq!(table.release(&id("a"), None), released(false, "/a"));
        assert_eq!(table.release(&id("a"), None), None, "once");
        assert_eq!(table.release(&id("b"), None), released(true, "/b"));
    }

    #[test]
    fn a_shared_hosts_file_is_cleared_with_the_last_of_its_containers() {
        let mut table = Table::default();
        hold(&mut table, "a", holder(1, "/a", true));
        hold(&mut table, "b", holder(1, "/a", true));
        assert_eq!(table.release(&id("b"), None).unwrap().hosts, None);
        assert_eq!(table.release(&id("a"), None).unwrap().hosts, Some(Place::Path("/a".into())));
    }

    #[test]
    fn the_end_of_an_earlier_run_is_not_that_of_the_next() {
        let mut table = Table::default();
        let first = hold(&mut table, "a", holder(1, "/a", true));
        let second = hold(&mut table, "a", holder(2, "/a", true));
        assert_eq!(table.release(&id("a"), Some(first)), None);
        assert_eq!(table.namespace_of(&id("a")), Some(namespace(2)));
        assert!(table.release(&id("a"), Some(second)).unwrap().ends);
    }

    #[test]
    fn a_namespace_that_is_gone_takes_along_who_had_nothing_else() {
        let mut table = Table::default();
        hold(&mut table, "process", holder(1, "/a", true));
        hold(&mut table, "there", Holder { pid: None, ..holder(2, "/a", true) });
        hold(&mut table, "gone", Holder { pid: None, ..holder(3, "/a", true) });
        ["process", "there", "gone"].iter().for_each(|name| table.begun(&id(name)));
        hold(&mut table, "coming", Holder { pid: None, ..holder(4, "/a", true) });
        assert!(table.prune(|there| there == namespace(2)));
        assert!(!table.prune(|there| there == namespace(2)), "once");
        assert_eq!(table.list(), ["coming", "process", "there"].map(id));
    }

    #[test]
    fn what_somebody_attached_otherwise_stays() {
        let mut table = Table::default();
        hold(&mut table, "a", holder(1, "/a", false));
        assert_eq!(table.owned(namespace(1)), Some(false));
        assert!(!table.release(&id("a"), None).unwrap().ends);
        assert_eq!(table.owned(namespace(1)), None);
    }

    #[test]
    fn containers_are_remembered_until_the_machine_restarts() {
        let scratch = Scratch::new("containers");
        let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
        assert!(load(&state).is_empty());
        let mut table = Table::default();
        hold(&mut table, "a", holder(1, "/a", true));
        table.save(&state);
        assert_eq!(load(&state), [(id("a"), holder(1, "/a", true))].into());
        let before = Remembered { version: 1, boot: "another".into(), containers: load(&state) };
        state.write(FILE, &before).unwrap();
        assert!(load(&state).is_empty());
        std::fs::write(scratch.0.join(FILE), "{").unwrap();
        assert!(load(&state).is_empty());
        assert!(scratch.0.join("containers.json.damaged").exists());
    }
}
