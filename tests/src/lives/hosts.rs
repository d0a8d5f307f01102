//! Hosts files: how they are kept, written, cleared, replaced, and lost.

use mesh_lifecycle::{Effect, FileId, HostsPlace, HostsSource, Input, NamespaceId, OpId, Opened, Outcome};
use mesh_proto::{ServicePath, message::Refusal};

use super::{
    Bug,
    machine::Machine,
    operations::PATHS,
    world::{Event, Life},
};

impl Life {
    pub(super) fn at_hosts(&mut self, effect: Effect) {
        match effect {
            Effect::KeepHosts(op, source, service) => self.keep_hosts(op, source, &service),
            Effect::PutNames(op, handle, _) => self.put_names(op, handle),
            Effect::RenewNames(handle, _, _) => self.put_names(OpId(0), handle),
            Effect::ClearNames(op, handle) => {
                let Some(file) = self.machine.handles.remove(&handle) else {
                    return self.fail(format!("{handle:?} is cleared and not open"));
                };
                self.machine.wanted.insert(file, None);
                self.soon(200, Event::Cleared(op, file));
            }
            Effect::CloseHosts(handle) => {
                let Some(file) = self.machine.handles.remove(&handle) else {
                    return self.fail(format!("{handle:?} is closed twice"));
                };
                if self.machine.let_go(file) {
                    self.input(Input::HostsReleased);
                }
            }
            Effect::OpenHosts(op, place, namespace) => {
                let opened = self.open_hosts(op, &place, namespace);
                self.soon(20, Event::Input(Input::Done(op, Outcome::Opened(opened))));
            }
            Effect::CloseOpened(op) => drop(self.machine.opened.remove(&op)),
            Effect::CompareHosts(op, place, handle) => {
                let now = self.machine.file_there(&place);
                let before = self.machine.handles.get(&handle);
                let moved = now.zip(before).map(|(now, before)| now != *before);
                self.soon(20, Event::Input(Input::Done(op, Outcome::Moved(moved))));
            }
            other => self.fail(format!("{other:?} is not played")),
        }
    }

    fn keep_hosts(&mut self, op: OpId, source: HostsSource, service: &ServicePath) {
        let file = match source {
            HostsSource::Call(call) => self.machine.opened.get(&OpId(call.0)).copied(),
            HostsSource::Opened(opened) => self.machine.opened.remove(&opened),
        };
        let Some(file) = file else { return self.fail(format!("{source:?} is not open")) };
        let answer = self.machine.keep(op, file, service, self.bug == Some(Bug::HostsShared));
        self.input(Input::Done(op, Outcome::Hosts(answer)));
    }

    fn open_hosts(&mut self, op: OpId, place: &HostsPlace, namespace: NamespaceId) -> Opened {
        let is_there = |pid: i32| {
            let at = self.machine.processes.get(&pid);
            at.is_some_and(|at| self.machine.namespaces[at].id == namespace.ino)
        };
        if place.pid().is_some_and(|pid| !is_there(pid)) {
            return Opened::Gone;
        }
        if self.rng.chance(15) {
            return Opened::Leased;
        }
        match self.machine.file_there(place) {
            Some(file) => {
                self.machine.missed.remove(&Machine::path(place));
                self.machine.opened.insert(op, file);
                Opened::Open
            }
            None => {
                self.machine.missed.insert(Machine::path(place));
                Opened::Unkept(Refusal::bare("no such file"))
            }
        }
    }

    pub(super) fn put_names(&mut self, op: OpId, handle: OpId) {
        let Some(file) = self.machine.handles.get(&handle).copied() else {
            return self.fail(format!("{handle:?} is written to and not open"));
        };
        let service: Option<ServicePath> = self.machine.kept.get(&file).map(|(service, _)| service.clone());
        self.machine.wanted.insert(file, service);
        self.soon(30, Event::Written(op, file));
    }

    pub(super) fn names_written(&mut self, op: OpId, file: u64) {
        self.machine.write(file);
        if op != OpId(0) {
            self.input(Input::Done(op, Outcome::Did(Ok(()))));
        }
    }

    pub(super) fn names_cleared(&mut self, op: OpId, file: u64) {
        if self.bug != Some(Bug::ClearLost) {
            self.machine.write(file);
        }
        let is_free = self.machine.let_go(file);
        self.input(Input::Done(op, Outcome::Did(Ok(()))));
        if is_free {
            self.input(Input::HostsReleased);
        }
    }

    /// A program replaces a hosts file, removes it or makes it anew; a file is mounted over it, or unmounted.
    pub(super) fn change_hosts(&mut self) {
        let path = self.rng.below(PATHS + 6);
        let before = self.machine.paths.get(&path).copied();
        // A file is watched from when it is first written to.
        let is_free = |file: u64| {
            self.machine.guarded.contains(&file) && self.machine.opened.values().all(|opened| *opened != file)
        };
        if before.is_some_and(|before| !is_free(before)) {
            return;
        }
        let over = self.machine.mounts.get_mut(&path).and_then(Vec::pop);
        let after = match self.rng.below(4) {
            _ if over.is_some() => over,
            0 if before.is_some() => None,
            n => {
                let after = self.machine.number();
                if let Some(before) = before.filter(|_| n == 1) {
                    self.machine.mounts.entry(path).or_default().push(before);
                }
                Some(after)
            }
        };
        self.note(|| format!("the hosts file {path} is {after:?} now, and was {before:?}"));
        match after {
            Some(after) => drop(self.machine.paths.insert(path, after)),
            None => drop(self.machine.paths.remove(&path)),
        }
        let Some(before) = before else { return };
        if self.machine.kept.contains_key(&before) && self.bug != Some(Bug::MoveUnheard) {
            self.soon(20, Event::Input(Input::HostsMoved(FileId { dev: 1, ino: before })));
        }
    }
}
