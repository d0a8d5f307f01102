//! Steps in the kernel.

use mesh_lifecycle::{
    Attachment, Birthplace, CallId, Farewell, KernelStep, Look, NamespacePlace, Nsid, Outcome, Port, TakenUp, WatchId,
};
use mesh_proto::message::Refusal;

use super::{Bug, machine::Mesh0, world::Life};

impl Life {
    /// *Remembered first*: what is made is on the disk, if the disk can be written.
    pub(super) fn check_step(&mut self, step: &KernelStep) {
        if let KernelStep::Create(_, attachment) = step {
            let disk = self.machine.disk.iter().flat_map(|disk| &disk.attachments);
            let is_there =
                disk.clone().any(|there| there.instance == attachment.instance && there.mark == attachment.mark);
            if !is_there && self.machine.unwritten.is_none() {
                self.fail(format!("{} is made and not remembered", attachment.instance));
            }
        }
    }

    pub(super) fn in_kernel(&mut self, step: &KernelStep) -> Outcome {
        let did = |result: Result<(), String>| Outcome::Did(result.map_err(Refusal::bare));
        let any = self.bug == Some(Bug::MarkIgnored);
        match step {
            KernelStep::Holds(call, mark) => {
                let ns = self.machine.of_call(*call).and_then(|generation| self.machine.namespaces.get(&generation));
                let mesh0 = ns.and_then(|ns| ns.mesh0.as_ref());
                Outcome::Is(any || mesh0.is_some_and(|mesh0| mark.is_none() || mesh0.mark == *mark))
            }
            KernelStep::FindClash(..) => did(if self.rng.chance(3) { Err("a clash".to_owned()) } else { Ok(()) }),
            KernelStep::Prepare(call, at) => did(self.prepare(*call, *at)),
            KernelStep::Discard(call) => {
                let generation = self.machine.of_call(*call).filter(|_| self.bug != Some(Bug::DiscardLost));
                if let Some(ns) = generation.and_then(|generation| self.machine.namespaces.get_mut(&generation)) {
                    ns.mesh0 = ns.mesh0.take().filter(|mesh0| !mesh0.prepared);
                }
                did(Ok(()))
            }
            KernelStep::Create(call, attachment) => did(self.create(*call, attachment)),
            KernelStep::Replace(attachment) | KernelStep::Readdress { attachment, .. } => {
                did(self.readdress(attachment))
            }
            KernelStep::EndConnections(_) => did(Ok(())),
            KernelStep::Remove(attachment, farewell) => {
                self.remove(attachment, *farewell);
                did(Ok(()))
            }
            KernelStep::TakeUp(attachment) => self.take_up(attachment, any),
            KernelStep::IsInhabited(namespace) => {
                Outcome::Is(self.machine.by_id(*namespace).is_some_and(|generation| self.machine.inhabited(generation)))
            }
            KernelStep::WatchProcess(pid, namespace) => {
                let at = self.machine.processes.get(pid).copied();
                let is_there = at.is_some_and(|at| self.machine.namespaces[&at].id == namespace.ino);
                Outcome::Watching(is_there.then(|| self.watch(*pid)))
            }
            KernelStep::Mend(attachment, _) => Outcome::Looked(self.mend(attachment)),
        }
    }

    fn create(&mut self, call: CallId, attachment: &Attachment) -> Result<(), String> {
        let fails = self.rng.chance(3);
        let generation = self.machine.of_call(call).ok_or("not open")?;
        if fails {
            self.machine.remove(generation, Farewell::Barred);
            return Err("no room".to_owned());
        }
        self.must_be_barred.remove(&generation);
        self.machine.create(generation, attachment)
    }

    fn readdress(&mut self, attachment: &Attachment) -> Result<(), String> {
        let generation = self.machine.by_id(attachment.namespace);
        let ns = generation.and_then(|generation| self.machine.namespaces.get_mut(&generation));
        let mesh0 = ns.and_then(|ns| ns.mesh0.as_mut()).ok_or("its namespace is gone")?;
        mesh0.addresses = Some((attachment.address, attachment.service_address));
        Ok(())
    }

    fn remove(&mut self, attachment: &Attachment, asked: Farewell) {
        let farewell = if self.bug == Some(Bug::BarForgotten) { Farewell::Restored } else { asked };
        if let Some(generation) = self.machine.by_id(attachment.namespace) {
            let was_there = self.machine.namespaces[&generation].mesh0.is_some();
            self.machine.remove(generation, farewell);
            if was_there {
                self.must_be_barred.insert(generation, asked == Farewell::Barred);
            }
        }
        self.collect_all();
    }

    /// `None`: the namespace is gone.
    fn mend(&mut self, attachment: &Attachment) -> Option<Look> {
        let generation = self.machine.by_id(attachment.namespace)?;
        let ns = self.machine.namespaces.get_mut(&generation)?;
        let damaged = std::mem::take(&mut ns.damaged);
        let mended = if damaged || self.rng.chance(2) { vec!["routes"] } else { vec![] };
        Some(Look { nsid: Some(Nsid(generation as i32)), mended: Ok(mended) })
    }

    pub(super) fn watch(&mut self, pid: i32) -> WatchId {
        let watch = WatchId(self.machine.number());
        self.machine.watches.insert(watch, pid);
        self.watched.extend(self.machine.processes.get(&pid).map(|generation| (watch, *generation)));
        watch
    }

    pub(super) fn prepare(&mut self, call: CallId, at: Birthplace) -> Result<(), String> {
        let fails = self.rng.chance(2);
        let generation = self.machine.of_call(call).ok_or("not open")?;
        let ns = self.machine.namespaces.get_mut(&generation).ok_or("no namespace")?;
        if ns.mesh0.is_some() {
            return Err("there is already a mesh0".to_owned());
        }
        if fails {
            return Err("no TUN".to_owned());
        }
        let holds = at == Birthplace::There;
        ns.mesh0 = Some(Mesh0 { mark: None, addresses: None, prepared: true, served: None, holds });
        Ok(())
    }

    pub(super) fn take_up(&mut self, attachment: &Attachment, any: bool) -> Outcome {
        let gone = |why: &str| Outcome::TakenUp(Err(why.to_owned()));
        let Some(generation) = self.machine.by_id(attachment.namespace) else { return gone("its namespace is gone") };
        let mesh0 = self.machine.namespaces[&generation].mesh0.as_ref();
        if !(any || mesh0.is_some_and(|mesh0| attachment.mark.is_none() || mesh0.mark == attachment.mark)) {
            return gone("its mesh0 is not there");
        }
        let watch = match attachment.place {
            NamespacePlace::Path(_) => None,
            NamespacePlace::Process(pid) if self.machine.processes.get(&pid) == Some(&generation) => {
                Some(self.watch(pid))
            }
            NamespacePlace::Process(_) => {
                self.machine.remove(generation, Farewell::Restored);
                return gone("its process has ended");
            }
        };
        let port = Port(self.machine.number() as u32);
        if let Some(ns) = self.machine.namespaces.get_mut(&generation) {
            let mark = attachment.mark;
            ns.mesh0.get_or_insert(Mesh0 { mark, addresses: None, prepared: false, served: None, holds: false });
        }
        self.serve(Some(generation), port, attachment.instance);
        Outcome::TakenUp(Ok(TakenUp { port, mark: attachment.mark, watch }))
    }
}
