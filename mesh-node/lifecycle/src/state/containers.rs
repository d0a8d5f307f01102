//! Which containers hold instances, and what waits for each.

use std::collections::{BTreeMap, VecDeque};

use mesh_proto::message::Refusal;

use super::request::{Attach, IdJob};
use crate::{CallId, ContainerId, Holder, HostsPlace, NamespaceId, WatchId};

/// The containers of this runner.
#[derive(Debug, Default)]
pub(crate) struct Containers {
    pub(crate) holding: BTreeMap<ContainerId, Container>,
    /// The containers with a change under way, and what waits for its turn.
    pub(crate) busy: BTreeMap<ContainerId, Turns>,
    /// The containers that run without the mesh though they ask for it, and why.
    pub(crate) waiting: BTreeMap<ContainerId, Refusal>,
    runs: u64,
}

/// A container that holds an instance.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) holder: Holder,
    /// Which run of it since this agent started: a container starts again under the same identifier.
    pub(crate) run: u64,
    pub(crate) watch: Option<WatchId>,
    /// Its instance is there; before that nothing shows that the container is.
    pub(crate) begun: bool,
}

/// What waits for a container.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// What goes on when the container has let go of what it held before.
    pub(crate) next: Option<Box<Attach>>,
    pub(crate) waiting: VecDeque<IdJob>,
}

/// What is to be done when a container has let go of its instance.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Released {
    /// No other container holds the instance, and it came with one: it ends.
    pub(crate) ends: bool,
    /// Its hosts file and its resolv.conf, as far as no other container has them.
    pub(crate) hosts: Vec<HostsPlace>,
}

impl Containers {
    pub(crate) fn waits(&mut self, id: ContainerId, why: Option<Refusal>) {
        match why {
            Some(why) => drop(self.waiting.insert(id, why)),
            None => drop(self.waiting.remove(&id)),
        }
    }

    pub(crate) fn is_queued(&self, call: CallId) -> bool {
        let is_it = |attach: &Attach| attach.call == call;
        self.busy.values().any(|turns| {
            turns.next.as_deref().is_some_and(is_it)
                || turns.waiting.iter().any(|job| matches!(job, IdJob::Attach(attach) if is_it(attach)))
        })
    }

    pub(crate) fn remembered(&self) -> BTreeMap<ContainerId, Holder> {
        self.holding.iter().map(|(id, container)| (id.clone(), container.holder.clone())).collect()
    }

    pub(crate) fn watched_by(&self, watch: WatchId) -> Option<ContainerId> {
        let mut watched = self.holding.iter().filter(|(_, container)| container.watch == Some(watch));
        watched.next().map(|(id, _)| id.clone())
    }

    /// The containers that hold the instance of a namespace.
    pub(crate) fn of(&self, namespace: NamespaceId) -> Vec<ContainerId> {
        let all = self.holding.iter().filter(|(_, container)| container.holder.namespace == namespace);
        all.map(|(id, _)| id.clone()).collect()
    }

    /// Whether the instance of this namespace came with a container; `None` if none holds it.
    pub(crate) fn owned(&self, namespace: NamespaceId) -> Option<bool> {
        let mut holders = self.holding.values().map(|container| &container.holder);
        holders.find(|holder| holder.namespace == namespace).map(|holder| holder.owned)
    }

    /// A run of a container begins. Returns the watch over the run before.
    pub(crate) fn hold(&mut self, id: ContainerId, holder: Holder, watch: Option<WatchId>) -> Option<WatchId> {
        self.runs += 1;
        let container = Container { holder, run: self.runs, watch, begun: false };
        self.holding.insert(id, container)?.watch
    }

    /// A container of an earlier agent holds what it held.
    pub(crate) fn hold_again(&mut self, id: ContainerId, holder: Holder) {
        self.runs += 1;
        self.holding.insert(id, Container { holder, run: self.runs, watch: None, begun: true });
    }

    /// A container lets go. With a number: that run of it, and no later one.
    pub(crate) fn release(&mut self, id: &ContainerId, run: Option<u64>) -> Option<(Container, Released)> {
        self.holding.get(id).filter(|container| run.is_none_or(|run| run == container.run))?;
        let container = self.holding.remove(id)?;
        let Holder { namespace, hosts, resolv, owned, .. } = &container.holder;
        let all = self.holding.values().map(|container| &container.holder);
        let others: Vec<&Holder> = all.filter(|other| other.namespace == *namespace).collect();
        let ends = *owned && others.is_empty();
        let has = |other: &&Holder, place| [&other.hosts, &other.resolv].contains(&&Some(place));
        let mut hosts: Vec<HostsPlace> = hosts.iter().chain(resolv).cloned().collect();
        hosts.retain(|place| !others.iter().any(|other| has(other, place.clone())));
        Some((container, Released { ends, hosts }))
    }

    /// Forgets containers without a process whose namespace holds no instance any more: their runtime did not tell of
    /// their end. Returns whether there were any.
    pub(crate) fn prune(&mut self, is_there: impl Fn(NamespaceId) -> bool) -> bool {
        let before = self.holding.len();
        let stays = |container: &Container| {
            !container.begun || container.holder.pid.is_some() || is_there(container.holder.namespace)
        };
        self.holding.retain(|_, container| stays(container));
        self.holding.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ContainerId {
        text.parse().unwrap()
    }

    fn namespace(ino: u64) -> NamespaceId {
        NamespaceId { dev: 4, ino }
    }

    fn holder(ino: u64, hosts: &str, owned: bool) -> Holder {
        Holder {
            namespace: namespace(ino),
            pid: Some(7),
            hosts: Some(HostsPlace::Path(hosts.into())),
            resolv: None,
            owned,
        }
    }

    fn hold(containers: &mut Containers, name: &str, holder: Holder) -> u64 {
        containers.hold(id(name), holder, None);
        containers.holding[&id(name)].run
    }

    fn released(containers: &mut Containers, name: &str, run: Option<u64>) -> Option<Released> {
        containers.release(&id(name), run).map(|(_, released)| released)
    }

    #[test]
    fn a_shared_instance_ends_with_the_last_of_its_containers() {
        let mut containers = Containers::default();
        for (name, ino, hosts) in [("a", 1, "/a"), ("b", 1, "/b"), ("c", 2, "/c")] {
            hold(&mut containers, name, holder(ino, hosts, true));
        }
        let expected = |ends, hosts: &str| Some(Released { ends, hosts: vec![HostsPlace::Path(hosts.into())] });
        assert_eq!(released(&mut containers, "a", None), expected(false, "/a"));
        assert_eq!(released(&mut containers, "a", None), None, "once");
        assert_eq!(released(&mut containers, "b", None), expected(true, "/b"));
    }

    #[test]
    fn a_shared_hosts_file_is_cleared_with_the_last_of_its_containers() {
        let mut containers = Containers::default();
        hold(&mut containers, "a", holder(1, "/a", true));
        hold(&mut containers, "b", holder(1, "/a", true));
        assert_eq!(released(&mut containers, "b", None).unwrap().hosts, []);
        assert_eq!(released(&mut containers, "a", None).unwrap().hosts, [HostsPlace::Path("/a".into())]);
    }

    #[test]
    fn the_end_of_an_earlier_run_is_not_that_of_the_next() {
        let mut containers = Containers::default();
        let first = hold(&mut containers, "a", holder(1, "/a", true));
        let second = hold(&mut containers, "a", holder(2, "/a", true));
        assert_eq!(released(&mut containers, "a", Some(first)), None);
        assert_eq!(containers.of(namespace(2)), [id("a")]);
        assert!(released(&mut containers, "a", Some(second)).unwrap().ends);
    }

    #[test]
    fn a_namespace_that_is_gone_takes_containers_without_a_process_along() {
        let mut containers = Containers::default();
        hold(&mut containers, "process", holder(1, "/a", true));
        for (name, ino) in [("there", 2), ("gone", 3), ("coming", 4)] {
            hold(&mut containers, name, Holder { pid: None, ..holder(ino, "/a", true) });
        }
        for name in ["process", "there", "gone"] {
            containers.holding.get_mut(&id(name)).unwrap().begun = true;
        }
        assert!(containers.prune(|there| there == namespace(2)));
        assert!(!containers.prune(|there| there == namespace(2)), "once");
        assert_eq!(containers.remembered().into_keys().collect::<Vec<_>>(), ["coming", "process", "there"].map(id));
    }

    #[test]
    fn an_instance_that_was_attached_in_another_way_stays() {
        let mut containers = Containers::default();
        hold(&mut containers, "a", holder(1, "/a", false));
        assert_eq!(containers.owned(namespace(1)), Some(false));
        assert!(!released(&mut containers, "a", None).unwrap().ends);
        assert_eq!(containers.owned(namespace(1)), None);
    }
}
