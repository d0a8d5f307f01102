//! The steps in the kernel.

use std::sync::Arc;

use mesh_lifecycle::{
    Attachment, Birthplace, CallId, Farewell, KernelStep, Look, Mark, NamespaceId, NamespacePlace, Nsid, OpId, Outcome,
    TakenUp,
};
use mesh_proto::{Range, message::Refusal};

use super::{
    blocking::in_turn,
    reopen::{addressing, process_in, reopen},
    shell::Shell,
};
use crate::attach::{self, AttachError, Made, Namespace};

impl Shell {
    pub(super) fn step(&mut self, op: OpId, step: KernelStep) {
        match step {
            KernelStep::Holds(call, mark) => self.holds(op, call, mark),
            KernelStep::FindClash(call, range) => self.find_clash(op, call, range),
            KernelStep::Prepare(call, at) => self.prepare(op, call, at),
            KernelStep::Discard(call) => self.discard(op, call),
            KernelStep::Create(call, attachment) => self.create(op, call, *attachment),
            KernelStep::Replace(attachment) => self.replace(op, *attachment),
            KernelStep::Readdress { attachment, new_range } => {
                self.run_step(op, move || readdress(&attachment, new_range));
            }
            KernelStep::EndConnections(attachment) => self.run_step(op, move || {
                let addresses = [attachment.address, attachment.service_address];
                reopen(&attachment).map_or(Ok(()), |ns| attach::end_connections(&ns, &addresses).map(drop))
            }),
            KernelStep::Remove(attachment, farewell) => self.remove(op, *attachment, farewell),
            KernelStep::TakeUp(attachment) => self.take_up(op, *attachment),
            KernelStep::IsInhabited(namespace) => {
                self.find_out(op, move || Ok(Namespace::is_inhabited(namespace)));
            }
            KernelStep::WatchProcess(pid, namespace) => self.watch_process(op, pid, namespace),
            KernelStep::Mend(attachment, nsid) => self.mend(op, *attachment, nsid),
        }
    }

    /// A step that either works or doesn't.
    fn run_step(&mut self, op: OpId, work: impl FnOnce() -> Result<(), AttachError> + Send + 'static) {
        let turns = self.steps.clone();
        self.spawn(async move {
            let result = in_turn(turns, work).await;
            move |shell: &mut Self| shell.done(op, Outcome::Did(result))
        });
    }

    /// Finds out whether something is so. What can't be found out is.
    fn find_out(&mut self, op: OpId, work: impl FnOnce() -> Result<bool, AttachError> + Send + 'static) {
        let turns = self.steps.clone();
        self.spawn(async move {
            let is_so = in_turn(turns, work).await.unwrap_or(true);
            move |shell: &mut Self| shell.done(op, Outcome::Is(is_so))
        });
    }

    /// The namespace of a call.
    fn namespace(&self, call: CallId) -> Result<Arc<Namespace>, AttachError> {
        self.opened.get(&call).map(|opened| Arc::clone(&opened.namespace)).ok_or(AttachError::Gone)
    }

    fn holds(&mut self, op: OpId, call: CallId, mark: Option<Mark>) {
        let namespace = self.namespace(call);
        self.find_out(op, move || attach::holds(&*namespace?, mark));
    }

    fn find_clash(&mut self, op: OpId, call: CallId, range: Range) {
        let namespace = self.namespace(call);
        self.run_step(op, move || {
            attach::clash_in(&*namespace?, range)?.map_or(Ok(()), |clash| Err(AttachError::Clash(clash)))
        });
    }

    fn prepare(&mut self, op: OpId, call: CallId, at: Birthplace) {
        let (parts, turns, namespace) = (Arc::clone(&self.parts), self.steps.clone(), self.namespace(call));
        self.spawn(async move {
            let prepared = in_turn(turns, move || attach::prepare(&parts.staging, &*namespace?, at)).await;
            move |shell: &mut Self| {
                let result = prepared.map(|prepared| drop(shell.prepared.insert(call, prepared)));
                shell.done(op, Outcome::Did(result));
            }
        });
    }

    fn discard(&mut self, op: OpId, call: CallId) {
        let prepared = self.prepared.remove(&call);
        self.run_step(op, move || {
            drop(prepared);
            Ok(())
        });
    }

    fn create(&mut self, op: OpId, call: CallId, attachment: Attachment) {
        let (parts, turns, namespace) = (Arc::clone(&self.parts), self.steps.clone(), self.namespace(call));
        let prepared = self.prepared.remove(&call).unwrap_or_default();
        self.spawn(async move {
            let at = attachment.namespace;
            let made = in_turn(turns, move || {
                attach::create(&parts.staging, &*namespace?, &addressing(&attachment), prepared)
            });
            let made = made.await;
            move |shell: &mut Self| shell.made(op, at, made)
        });
    }

    fn replace(&mut self, op: OpId, attachment: Attachment) {
        let (parts, turns, at) = (Arc::clone(&self.parts), self.steps.clone(), attachment.namespace);
        self.spawn(async move {
            // Commands are carried out in turn: once this is answered the queue is free.
            let _ = parts.dataplane.report().await;
            let made = in_turn(turns, move || {
                let namespace = reopen(&attachment).ok_or("its namespace is gone")?;
                attach::recover(&parts.staging, &namespace, &addressing(&attachment)).map_err(|e| e.to_string())
            });
            let made = made.await;
            move |shell: &mut Self| shell.made(op, at, made)
        });
    }

    fn made(&mut self, op: OpId, namespace: NamespaceId, made: Result<Made, Refusal>) {
        let result = made.map(|Made { queue, seen }| {
            self.queues.insert(namespace, queue);
            self.seen.insert(namespace, seen);
        });
        self.done(op, Outcome::Did(result));
    }

    fn remove(&mut self, op: OpId, attachment: Attachment, farewell: Farewell) {
        let queue = self.queues.remove(&attachment.namespace);
        self.seen.remove(&attachment.namespace);
        self.run_step(op, move || {
            drop(queue);
            let Some(namespace) = reopen(&attachment) else { return Ok(()) };
            match farewell {
                Farewell::Restored => attach::remove(&namespace),
                Farewell::Barred => attach::withdraw(&namespace),
            }
        });
    }

    fn take_up(&mut self, op: OpId, old: Attachment) {
        let (parts, turns) = (Arc::clone(&self.parts), self.chores.clone());
        self.spawn(async move {
            let (instance, namespace) = (old.instance, old.namespace);
            // What an earlier version made is marked from now on.
            let mark = old.mark.or_else(|| attach::draw_mark().ok());
            let found = in_turn(turns, move || {
                let namespace = reopen(&old).ok_or("its namespace is gone")?;
                // The numbers of namespaces are given again. One without our interface is another one by now.
                if !attach::holds(&namespace, old.mark).map_err(|e| e.to_string())? {
                    return Err("its mesh0 is not there".to_owned());
                }
                let process = match old.place {
                    NamespacePlace::Path(_) => None,
                    NamespacePlace::Process(pid) => match process_in(pid, old.namespace) {
                        Some(process) => Some(process),
                        None => {
                            attach::remove(&namespace).map_err(|e| e.to_string())?;
                            return Err("its process has ended".to_owned());
                        }
                    },
                };
                let addressing = addressing(&Attachment { mark, ..old });
                let made = attach::recover(&parts.staging, &namespace, &addressing).map_err(|e| e.to_string())?;
                Ok((made, process))
            });
            let found = found.await;
            move |shell: &mut Self| {
                let taken = found.map_err(|refusal| refusal.error).map(|(Made { queue, seen }, process)| {
                    shell.seen.insert(namespace, seen);
                    let port = mesh_lifecycle::Port(shell.parts.dataplane.attach(queue, instance).0);
                    let watch = process.and_then(|process| shell.watches.add(process).ok());
                    TakenUp { port, mark, watch }
                });
                shell.done(op, Outcome::TakenUp(taken));
            }
        });
    }

    fn watch_process(&mut self, op: OpId, pid: i32, namespace: NamespaceId) {
        let turns = self.steps.clone();
        self.spawn(async move {
            let found = in_turn(turns, move || Ok::<_, AttachError>(process_in(pid, namespace)));
            let found = found.await.unwrap_or_default();
            move |shell: &mut Self| {
                let watch = found.map(|process| {
                    shell.watches.add(process).unwrap_or_else(|error| {
                        tracing::warn!(pid, %error, "a container's process can't be watched: only its runtime can tell of its end");
                        shell.watches.unseen()
                    })
                });
                shell.done(op, Outcome::Watching(watch));
            }
        });
    }

    fn mend(&mut self, op: OpId, attachment: Attachment, nsid: Option<Nsid>) {
        let (parts, turns, at) = (Arc::clone(&self.parts), self.chores.clone(), attachment.namespace);
        let mut seen = self.seen.remove(&at).unwrap_or_default();
        self.spawn(async move {
            let looked = in_turn(turns, move || {
                let Some(ns) = reopen(&attachment) else { return Ok::<_, AttachError>(None) };
                // From here on changes are heard of, so that none is missed between this and the look.
                let nsid = nsid.or_else(|| {
                    let number = attach::number(&parts.staging, &ns);
                    number.inspect_err(|error| tracing::debug!(%error, "changes in a namespace can't be heard of")).ok()
                });
                let mended = attach::mend(&ns, &addressing(&attachment), &mut seen).map_err(|e| e.to_string());
                Ok(Some((seen, Look { nsid, mended })))
            });
            let looked = looked.await.ok().flatten();
            move |shell: &mut Self| {
                let look = looked.map(|(seen, look)| {
                    shell.seen.insert(at, seen);
                    look
                });
                shell.done(op, Outcome::Looked(look));
            }
        });
    }
}

fn readdress(attachment: &Attachment, new_range: bool) -> Result<(), AttachError> {
    let (Some(namespace), addressing) = (reopen(attachment), addressing(attachment)) else { return Ok(()) };
    match if new_range { attach::clash_in(&namespace, addressing.range)? } else { None } {
        Some(clash) => Err(AttachError::Clash(clash)),
        None => attach::readdress(&namespace, &addressing),
    }
}
