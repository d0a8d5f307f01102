//! Containers come and go: of each container and of each namespace one change at a time.

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use mesh_proto::{InstanceId, ServicePath, message::Refusal};
use tokio::sync::{mpsc, watch};

use super::{
    ContainerId,
    table::{self, Holder, Run, Table},
};
use crate::{
    attach::{Namespace, NamespaceId},
    hosts::{HostsFile, Place},
    instances::{Instances, Watch, Wish, process_in},
    local::{self, NamespacePlace},
    state::StateDir,
    sys::process,
    turns::Turns,
};

/// A container that starts.
#[derive(Debug)]
pub(crate) struct Start {
    /// Which.
    pub(crate) id: ContainerId,
    /// The service that it belongs to.
    pub(crate) service: ServicePath,
    /// Whether it only calls.
    pub(crate) client: bool,
    /// Its network namespace, open.
    pub(crate) namespace: Arc<Namespace>,
    /// Its hosts file, open, and where it was found.
    pub(crate) hosts: Option<(Place, HostsFile)>,
    /// Why a hosts file that is there is not to be kept.
    pub(crate) unkept: Option<Refusal>,
    /// How its end shows.
    pub(crate) life: Life,
}

/// How the end of a container shows.
#[derive(Debug)]
pub(crate) enum Life {
    /// As the end of its first process: a pidfd.
    Process(OwnedFd),
    /// Its runtime tells. What is known is where its namespace was found.
    Namespace(PathBuf),
}

/// The containers of this runner that hold instances.
#[derive(Debug, Clone)]
pub(crate) struct Containers {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    instances: Instances,
    state: StateDir,
    table: Mutex<Table>,
    ended: mpsc::UnboundedSender<Run>,
    /// Whoever changes what a container holds has its turn, and after that the one at the namespace.
    ids: Turns<ContainerId>,
    namespaces: Turns<NamespaceId>,
    /// Those that run without the mesh though they ask for it, and why.
    waiting: Mutex<BTreeMap<ContainerId, Refusal>>,
}

impl Containers {
    /// Takes up the containers that an earlier agent left, after the instances. Those that have ended since let go.
    pub(crate) async fn start(instances: Instances, state: StateDir) -> Self {
        let (ended, runs) = mpsc::unbounded_channel();
        let remembered = table::load(&state);
        let (ids, namespaces) = (Turns::default(), Turns::default());
        let (table, waiting) = (Mutex::default(), Mutex::default());
        let inner = Inner { instances, state, table, ended, ids, namespaces, waiting };
        let containers = Self { inner: Arc::new(inner) };
        for (id, holder) in remembered {
            containers.take_up(&id, holder).await;
        }
        let ends = containers.inner.instances.ends();
        tokio::spawn(follow(Arc::downgrade(&containers.inner), runs, ends));
        containers
    }

    /// Gives a container its instance: the one that is in its namespace, or a new one. The same once more is the same.
    ///
    /// # Errors
    /// If that can't be; then nothing has changed.
    pub(crate) async fn attach(&self, start: Start) -> Result<local::Attach, Refusal> {
        let Start { id, service, client, namespace, hosts, unkept, life } = start;
        let (pid, process, place) = match life {
            Life::Process(process) => {
                let pid = process::pid_of(&process)
                    .map_err(|e| Refusal::bare(format!("container {id} has no process that could be watched: {e}")))?;
                // Found again by its process or by number: it can outlive that, with another container in it.
                (Some(pid), Some(process), format!("/proc/{pid}/ns/net").into())
            }
            Life::Namespace(path) => (None, None, path),
        };
        let instances = &self.inner.instances;
        let turn = self.inner.ids.of(id.clone()).await;
        let there = self.table().namespace_of(&id);
        let namespace_id = namespace.id();
        if there.is_some_and(|there| there != namespace_id) {
            // It has started again before its last end was heard of.
            self.let_go(&id, None).await;
        }
        let turns = (turn, self.inner.namespaces.of(namespace_id).await);
        let owned = self.table().owned(namespace_id).unwrap_or_else(|| !instances.holds(namespace_id));
        let holder =
            Holder { namespace: namespace_id, pid, hosts: hosts.as_ref().map(|(place, _)| place.clone()), owned };
        // Remembered before it is made: an agent that is killed in between knows that nobody else will end it.
        let fresh = there != Some(namespace_id);
        // What somebody attached otherwise doesn't end with its containers.
        let watched = self.hold(&id, holder, process) && owned;
        let place = NamespacePlace::Path(place);
        let wish = Wish { service, client, namespace, place, hosts, unkept, process: None, watched };
        let begun = match instances.begin(wish).await {
            Ok(begun) => begun,
            Err(refusal) => {
                match fresh {
                    true => drop(self.let_go_in_turn(&id, None).await),
                    false => self.table().begun(&id),
                }
                return Err(refusal);
            }
        };
        self.table().begun(&id);
        drop(turns);
        Ok(instances.settled(begun).await)
    }

    /// A container has ended. Gives the instance that ended with it, if one did; one that is not known is none.
    pub(crate) async fn detach(&self, id: &ContainerId) -> local::DetachContainer {
        let _turn = self.inner.ids.of(id.clone()).await;
        local::DetachContainer { version: local::VERSION, instance: self.let_go(id, None).await }
    }

    /// The containers that hold instances.
    pub(crate) fn list(&self) -> local::Containers {
        self.prune();
        local::Containers { version: local::VERSION, containers: self.table().list() }
    }

    /// Those that hold an instance.
    pub(crate) fn holding(&self, instance: InstanceId) -> Vec<ContainerId> {
        let namespace = self.inner.instances.namespace_of(instance);
        namespace.map(|namespace| self.table().holding(namespace)).unwrap_or_default()
    }

    /// A container runs without the mesh, and is tried again; `None`: not any more.
    pub(crate) fn waits(&self, id: &ContainerId, why: Option<Refusal>) {
        let mut waiting = self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match why {
            Some(why) => drop(waiting.insert(id.clone(), why)),
            None => drop(waiting.remove(id)),
        }
    }

    /// The containers that run without the mesh though they ask for it.
    pub(crate) fn waiting(&self) -> Vec<local::Waiting> {
        let waiting = self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let all = waiting.iter().map(|(container, why)| local::Waiting {
            container: container.clone(),
            error: why.error.clone(),
            hint: why.hint.clone(),
        });
        all.collect()
    }

    async fn take_up(&self, id: &ContainerId, holder: Holder) {
        let process = holder.pid.and_then(|pid| process_in(pid, holder.namespace));
        let alive = match holder.pid {
            Some(_) => process.is_some(),
            None => self.inner.instances.holds(holder.namespace),
        };
        self.hold(id, holder, process);
        self.table().begun(id);
        if !alive {
            self.let_go(id, None).await;
        }
    }

    /// Forgets those that went with their namespace, without a word of their runtime.
    fn prune(&self) {
        let mut table = self.table();
        if table.prune(|namespace| self.inner.instances.holds(namespace)) {
            table.save(&self.inner.state);
        }
    }

    /// Gives whether the end of the container shows as that of its process.
    fn hold(&self, id: &ContainerId, holder: Holder, process: Option<OwnedFd>) -> bool {
        self.prune();
        let mut table = self.table();
        let run = table.next_run(id);
        let watch = process.map(|fd| Watch::new(fd, run.clone(), self.inner.ended.clone())).transpose();
        let watch = watch.unwrap_or_else(|error| {
            tracing::warn!(container = %id, %error, "its process can't be watched: only its runtime can tell of its end");
            None
        });
        let watched = watch.is_some();
        table.hold(run, holder, watch);
        table.save(&self.inner.state);
        watched
    }

    /// Whoever calls this has the container's turn.
    async fn let_go(&self, id: &ContainerId, number: Option<u64>) -> Option<local::Instance> {
        let namespace = self.table().namespace_of(id)?;
        let _turn = self.inner.namespaces.of(namespace).await;
        self.let_go_in_turn(id, number).await
    }

    /// Whoever calls this has the turns of the container and of its namespace.
    async fn let_go_in_turn(&self, id: &ContainerId, number: Option<u64>) -> Option<local::Instance> {
        let released = {
            let mut table = self.table();
            let released = table.release(id, number)?;
            table.save(&self.inner.state);
            released
        };
        if released.ends {
            return self.inner.instances.release(released.namespace).await;
        }
        if let Some(place) = released.hosts {
            self.inner.instances.drop_hosts(released.namespace, place).await;
        }
        None
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.inner.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hears of the ends of processes and of instances, for as long as anybody else has to do with containers.
async fn follow(inner: Weak<Inner>, mut runs: mpsc::UnboundedReceiver<Run>, mut ends: watch::Receiver<()>) {
    loop {
        let run = tokio::select! {
            run = runs.recv() => run,
            Ok(()) = ends.changed() => None,
        };
        let Some(inner) = inner.upgrade() else { return };
        let containers = Containers { inner };
        let Some(Run { id, number }) = run else {
            containers.prune();
            continue;
        };
        tokio::spawn(async move {
            let _turn = containers.inner.ids.of(id.clone()).await;
            containers.let_go(&id, Some(number)).await;
        });
    }
}
