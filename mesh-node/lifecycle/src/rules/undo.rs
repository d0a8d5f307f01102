//! How an attachment that fails, or whose caller hangs up, is taken back.

use std::collections::BTreeMap;

use mesh_proto::message::Ask;

use crate::{
    CallId, Effect, Error, Farewell, KernelStep, Lifecycle, NamespaceId, OpId,
    state::{
        Context,
        attaching::{Attaching, Prepared, Step},
        ending::{Departed, Then},
        request::{Attach, HostsWait},
        space::{Job, Space, State},
    },
};

impl Lifecycle {
    /// Takes back what was done for an attachment that has failed.
    pub(crate) fn undo(
        &mut self,
        namespace: NamespaceId,
        mut attaching: Attaching,
        error: Error,
        cx: &mut Context<'_>,
    ) {
        let mut left = BTreeMap::new();
        match attaching.prepared {
            Prepared::Pending(op) => drop(left.insert(op, None)),
            Prepared::Ready => {
                left.insert(self.kernel(namespace, KernelStep::Discard(attaching.attach.call), cx), None);
            }
            Prepared::Unasked | Prepared::Failed(_) | Prepared::Used => {}
        }
        match &attaching.step {
            Step::FindingClash(op) if error == Error::HungUp => drop(left.insert(*op, None)),
            Step::Naming => {
                if let Some(attachment) = attaching.attachment.clone() {
                    let step = KernelStep::Remove(Box::new(attachment), Farewell::Restored);
                    left.insert(self.kernel(namespace, step, cx), None);
                }
            }
            _ => {}
        }
        if let Some(hosts) = attaching.hosts.take() {
            match attaching.attachment {
                // Names that are written late are taken out again.
                Some(_) => left.extend(self.let_go_for(namespace, vec![hosts], cx)),
                None => cx.push(Effect::CloseHosts(hosts.handle)),
            }
        }
        if let Some(grant) = &attaching.grant {
            let instance = grant.held.instance;
            self.departed.push(Departed { held: grant.held.clone(), told: false });
            left.insert(self.ask(namespace, Ask::Detach { instance }, cx), None);
        }
        let was_given = attaching.grant.is_some();
        attaching.step = Step::Undoing { error, left };
        self.put(namespace, State::Attaching(Box::new(attaching)));
        if was_given {
            self.save(cx);
        }
        self.with_taken_attaching(namespace, |this, attaching| this.undone(namespace, attaching, OpId(0), cx));
    }

    fn with_taken_attaching(&mut self, namespace: NamespaceId, go_on: impl FnOnce(&mut Self, Attaching)) {
        let Some(space) = self.spaces.get_mut(&namespace) else { return };
        match std::mem::take(&mut space.state) {
            State::Attaching(attaching) => go_on(self, *attaching),
            other => space.state = other,
        }
    }

    pub(super) fn undone(&mut self, namespace: NamespaceId, mut attaching: Attaching, op: OpId, cx: &mut Context<'_>) {
        let Step::Undoing { error, left } = &mut attaching.step else { return };
        left.remove(&op);
        if !left.is_empty() {
            return self.put(namespace, State::Attaching(Box::new(attaching)));
        }
        let error = error.clone();
        let was_remembered = attaching.grant.is_some();
        self.put(namespace, State::Free);
        if was_remembered {
            self.save(cx);
        }
        self.refuse_attach(attaching.attach, error, cx);
    }

    /// Tells the caller why. Nothing has changed for the namespace.
    pub(crate) fn refuse_attach(&mut self, attach: Attach, error: Error, cx: &mut Context<'_>) {
        if let Some(watch) = attach.request.watch {
            self.unwatch(watch, cx);
        }
        self.container_refused(&attach, cx);
        self.reply(attach.call, Err(error), cx);
        cx.push(Effect::Close(attach.call));
    }

    /// A caller does not wait any more.
    pub(crate) fn hung_up(&mut self, call: CallId, cx: &mut Context<'_>) {
        let is_attaching = |state: &State| match state {
            State::Attaching(attaching) => attaching.attach.call == call,
            _ => false,
        };
        let found = self.spaces.iter().find(|(_, space)| is_attaching(&space.state)).map(|(namespace, _)| *namespace);
        let Some(namespace) = found else {
            if self.is_queued(call) {
                self.hung.insert(call);
            }
            return self.forget_settling(call);
        };
        self.with_taken_attaching(namespace, |this, attaching| match attaching.step {
            Step::Hosts(HostsWait { retry: Some(_), .. })
            | Step::FindingClash(_)
            | Step::TakingOver { .. }
            | Step::Connecting { .. } => this.undo(namespace, attaching, Error::HungUp, cx),
            _ => this.put(namespace, State::Attaching(Box::new(attaching))),
        });
    }

    fn is_queued(&self, call: CallId) -> bool {
        let waits = |job: &Job| matches!(job, Job::Attach(attach) if attach.call == call);
        self.spaces.values().any(|space| space.jobs.iter().any(waits) || space.waits_for(call))
            || self.containers.is_queued(call)
            || self.clearing.is_queued(call)
    }
}

impl Space {
    /// Whether an attachment of this call waits for the end of the instance that is there.
    fn waits_for(&self, call: CallId) -> bool {
        match &self.state {
            State::Ending(ending) => matches!(&ending.then, Then::Attach(attach) if attach.call == call),
            _ => false,
        }
    }
}
