//! The machine on which the agent runs: its kernel, its processes, its hosts files and its disk. They outlive the agent.

use std::collections::{BTreeMap, BTreeSet};

use mesh_lifecycle::{
    Attachment, CallId, Farewell, FileId, HostsAnswer, HostsPlace, Mark, NamespaceId, OpId, Port, Remembered, WatchId,
};
use mesh_proto::{InstanceId, ServicePath};

/// One namespace. Its identity is given again when it is gone; this is what it was itself.
pub(super) type Generation = u64;

#[derive(Debug, Default, Clone)]
pub(super) struct Namespace {
    pub(super) id: u64,
    /// Something that lives on its own holds it: a process, a name.
    pub(super) alive: bool,
    pub(super) gone: bool,
    pub(super) mesh0: Option<Mesh0>,
    pub(super) barred: bool,
    /// Another program has changed its network.
    pub(super) damaged: bool,
    /// Calls that have it open.
    pub(super) open: BTreeSet<CallId>,
}

#[derive(Debug, Clone)]
pub(super) struct Mesh0 {
    pub(super) mark: Option<Mark>,
    pub(super) addresses: Option<(std::net::Ipv4Addr, std::net::Ipv4Addr)>,
    /// The process that made it has not made it persistent.
    pub(super) prepared: bool,
    pub(super) served: Option<(Port, InstanceId)>,
    /// Its queue keeps the namespace alive.
    pub(super) holds: bool,
}

#[derive(Debug, Default)]
pub(super) struct Machine {
    pub(super) namespaces: BTreeMap<Generation, Namespace>,
    /// Running processes, and where.
    pub(super) processes: BTreeMap<i32, Generation>,
    pub(super) watches: BTreeMap<WatchId, i32>,
    /// The file at each path, by number.
    pub(super) paths: BTreeMap<u64, u64>,
    /// The service whose names stand in each file, by number.
    pub(super) names: BTreeMap<u64, Option<ServicePath>>,
    /// What is to stand there.
    pub(super) wanted: BTreeMap<u64, Option<ServicePath>>,
    /// For which service each file is kept, and how many times.
    pub(super) kept: BTreeMap<u64, (ServicePath, u32)>,
    pub(super) handles: BTreeMap<OpId, u64>,
    pub(super) opened: BTreeMap<OpId, u64>,
    /// Files that this agent has written to, and watches since.
    pub(super) guarded: BTreeSet<u64>,
    /// The files over which the one at each path is mounted.
    pub(super) mounts: BTreeMap<u64, Vec<u64>>,
    /// The paths at which no file was found.
    pub(super) missed: BTreeSet<u64>,
    pub(super) disk: Option<Remembered>,
    /// The state directory is full or read-only.
    pub(super) disk_fails: bool,
    /// What could not be written, and is written later.
    pub(super) unwritten: Option<Remembered>,
    next: u64,
}

impl Machine {
    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn add_namespace(&mut self, id: u64) -> Generation {
        let generation = self.number();
        self.namespaces.insert(generation, Namespace { id, alive: true, ..Namespace::default() });
        generation
    }

    /// Which namespace has this identity now.
    pub(super) fn by_id(&self, id: NamespaceId) -> Option<Generation> {
        self.namespaces.iter().find(|(_, ns)| ns.id == id.ino && !ns.gone).map(|(generation, _)| *generation)
    }

    pub(super) fn of_call(&self, call: CallId) -> Option<Generation> {
        self.namespaces.iter().find(|(_, ns)| ns.open.contains(&call)).map(|(generation, _)| *generation)
    }

    /// A namespace that nothing holds is gone, with its interface. Returns what was served there.
    pub(super) fn collect(&mut self, generation: Generation) -> Option<Port> {
        let ns = self.namespaces.get_mut(&generation)?;
        let held = ns.alive || !ns.open.is_empty() || ns.mesh0.as_ref().is_some_and(|mesh0| mesh0.holds);
        if held || ns.gone {
            return None;
        }
        ns.gone = true;
        ns.mesh0.take()?.served.map(|(port, _)| port)
    }

    /// The agent is gone: what only it held is too.
    pub(super) fn agent_gone(&mut self) {
        self.watches.clear();
        self.guarded.clear();
        self.kept.clear();
        self.handles.clear();
        self.opened.clear();
        for ns in self.namespaces.values_mut() {
            ns.open.clear();
            if ns.mesh0.as_ref().is_some_and(|mesh0| mesh0.prepared) {
                ns.mesh0 = None;
            }
            if let Some(mesh0) = &mut ns.mesh0 {
                (mesh0.served, mesh0.holds) = (None, false);
            }
        }
        let all: Vec<Generation> = self.namespaces.keys().copied().collect();
        all.into_iter().for_each(|generation| {
            self.collect(generation);
        });
    }

    pub(super) fn inhabited(&self, generation: Generation) -> bool {
        self.processes.values().any(|at| *at == generation)
    }

    // === Hosts files ===

    pub(super) fn path(place: &HostsPlace) -> u64 {
        match place.bare() {
            HostsPlace::Path(path) => path.display().to_string().trim_start_matches("/h").parse().unwrap_or_default(),
            HostsPlace::Process(pid) | HostsPlace::Runtime(pid, _) => 1000 + u64::from(pid.unsigned_abs()),
            HostsPlace::Resolv(_) => unreachable!("a bare place is none"),
        }
    }

    /// The file that is there now, if one is.
    pub(super) fn file_there(&self, place: &HostsPlace) -> Option<u64> {
        self.paths.get(&Self::path(place)).copied()
    }

    /// The same, or a new one.
    pub(super) fn file_at(&mut self, place: &HostsPlace) -> u64 {
        let path = Self::path(place);
        if let Some(file) = self.paths.get(&path) {
            return *file;
        }
        let file = self.number();
        self.paths.insert(path, file);
        file
    }

    pub(super) fn keep(&mut self, handle: OpId, file: u64, service: &ServicePath, any: bool) -> HostsAnswer {
        let id = FileId { dev: 1, ino: file };
        let kept = self.kept.entry(file).or_insert_with(|| (service.clone(), 0));
        if kept.0 != *service && !any {
            return HostsAnswer::Taken { hosts: format!("file {file}"), by: kept.0.clone(), there: Some(id) };
        }
        kept.1 += 1;
        self.handles.insert(handle, file);
        HostsAnswer::Kept(id)
    }

    /// Whether nothing has it any more.
    pub(super) fn let_go(&mut self, file: u64) -> bool {
        let Some(kept) = self.kept.get_mut(&file) else { return false };
        kept.1 -= 1;
        let is_free = kept.1 == 0;
        if is_free {
            self.kept.remove(&file);
        }
        is_free
    }

    pub(super) fn write(&mut self, file: u64) {
        if let Some(wanted) = self.wanted.get(&file) {
            self.names.insert(file, wanted.clone());
            self.guarded.insert(file);
        }
    }

    // === Steps in the kernel ===

    pub(super) fn create(&mut self, generation: Generation, attachment: &Attachment) -> Result<(), String> {
        let ns = self.namespaces.get_mut(&generation).ok_or("no namespace")?;
        let mesh0 = ns.mesh0.as_mut().ok_or("nothing was prepared")?;
        mesh0.mark = attachment.mark;
        mesh0.prepared = false;
        mesh0.addresses = Some((attachment.address, attachment.service_address));
        ns.barred = true;
        Ok(())
    }

    pub(super) fn remove(&mut self, generation: Generation, farewell: Farewell) {
        if let Some(ns) = self.namespaces.get_mut(&generation) {
            ns.mesh0 = None;
            ns.barred &= farewell == Farewell::Barred;
        }
    }
}
