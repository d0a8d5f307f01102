//! How an attachment gets its turn, and the order of its steps.

use mesh_proto::message::Have;

use crate::{
    AttachRequest, Birthplace, CallId, Effect, Error, HostsAnswer, HostsSource, KernelStep, Lifecycle, NamespaceId,
    Notice, OpId, Outcome, Shown,
    effect::KeptHosts,
    state::{
        Context, Owner,
        attaching::{Attaching, Prepared, Step},
        request::{Attach, HostsWait, IdJob},
        settling::Subject,
        space::{Job, State},
        standing::Doing,
    },
};

impl Lifecycle {
    pub(crate) fn attach(&mut self, call: CallId, request: AttachRequest, cx: &mut Context<'_>) {
        let watched = request.watch.is_some();
        let attach = Attach { call, request, fresh: false, watched };
        match attach.request.container.as_ref().map(|container| container.id.clone()) {
            Some(id) => self.container_job(&id, IdJob::Attach(Box::new(attach)), cx),
            None => self.submit(attach),
        }
    }

    /// Puts it into the queue of its namespace, unless all instances are being taken out.
    pub(crate) fn submit(&mut self, attach: Attach) {
        match self.clearing.holds_back(attach) {
            None => {}
            Some(attach) => self.queue(attach.request.namespace, Job::Attach(Box::new(attach))),
        }
    }

    pub(crate) fn begin_attach(&mut self, namespace: NamespaceId, mut attach: Attach, cx: &mut Context<'_>) {
        if self.hung.contains(&attach.call) {
            return self.refuse_attach(attach, Error::HungUp, cx);
        }
        self.hold(&mut attach, cx);
        let state = self.spaces.get_mut(&namespace).map(|space| std::mem::take(&mut space.state));
        match state {
            Some(State::Standing(mut standing)) => {
                let step = KernelStep::Holds(attach.call, standing.attachment.mark);
                self.kernel(namespace, step, cx);
                standing.doing = Doing::Checking(Box::new(attach));
                self.put(namespace, State::Standing(standing));
            }
            _ => self.attach_to_free(namespace, attach, cx),
        }
    }

    /// The namespace holds no instance.
    pub(crate) fn attach_to_free(&mut self, namespace: NamespaceId, attach: Attach, cx: &mut Context<'_>) {
        Self::say_unkept(&attach.request, cx);
        let has_hosts = attach.request.hosts.is_some();
        let step = Step::Hosts(HostsWait::begun(cx.now));
        let attaching = Attaching {
            attach,
            hosts: None,
            step,
            prepared: Prepared::Unasked,
            grant: None,
            attachment: None,
            seen: None,
        };
        if has_hosts {
            self.try_hosts(namespace, &attaching.attach, cx);
            self.put(namespace, State::Attaching(Box::new(attaching)));
        } else {
            self.prepare(namespace, attaching, cx);
        }
    }

    pub(crate) fn say_unkept(request: &AttachRequest, cx: &mut Context<'_>) {
        if let Some(why) = request.unkept.clone() {
            cx.push(Effect::Log(Notice::Unkept { service: request.service.clone(), why }));
        }
    }

    pub(crate) fn try_hosts(&mut self, namespace: NamespaceId, attach: &Attach, cx: &mut Context<'_>) {
        let op = self.op(Owner::Space(namespace));
        cx.push(Effect::KeepHosts(op, HostsSource::Call(attach.call), attach.request.service.clone()));
    }

    /// The kernel prepares the interface while the coordinator is asked.
    fn prepare(&mut self, namespace: NamespaceId, mut attaching: Attaching, cx: &mut Context<'_>) {
        let (call, watched) = (attaching.attach.call, attaching.attach.watched);
        let at = if watched { Birthplace::There } else { Birthplace::Staging };
        attaching.prepared = Prepared::Pending(self.kernel(namespace, KernelStep::Prepare(call, at), cx));
        match self.view.as_ref().map(|view| view.network.range) {
            Some(range) => {
                let op = self.kernel(namespace, KernelStep::FindClash(call, range), cx);
                attaching.step = Step::FindingClash(op);
                self.put(namespace, State::Attaching(Box::new(attaching)));
            }
            None => self.obtain(namespace, attaching, cx),
        }
    }

    /// Goes on if what it waits for has come.
    pub(crate) fn advance_attaching(&mut self, namespace: NamespaceId, mut attaching: Attaching, cx: &mut Context<'_>) {
        match &mut attaching.step {
            Step::Hosts(wait) if wait.retry.is_some_and(|at| at <= cx.now) => {
                wait.retry = None;
                self.try_hosts(namespace, &attaching.attach, cx);
            }
            Step::TakingOver { why, .. } => {
                let why = why.take().map(Error::Refused);
                return self.take_over_or(namespace, attaching, why, cx);
            }
            // If it is still away, the question's answer says why.
            Step::Connecting { until } if self.link.connected || *until <= cx.now => {
                return self.ask_for_instance(namespace, attaching, cx);
            }
            Step::FindingOut { why, .. } if !self.link.connected => {
                let why = Error::Refused(why.clone());
                return self.take_over_or(namespace, attaching, Some(why), cx);
            }
            Step::FindingOut { until, why } if *until <= cx.now => {
                let why = Error::Refused(why.clone());
                return self.undo(namespace, attaching, why, cx);
            }
            Step::Granted { .. } => return self.advance_granted(namespace, attaching, cx),
            Step::Saving(save) if *save <= self.saved => {
                if let Some(attachment) = attaching.attachment.clone() {
                    let step = KernelStep::Create(attaching.attach.call, Box::new(attachment));
                    self.kernel(namespace, step, cx);
                    attaching.prepared = Prepared::Used;
                    attaching.step = Step::Creating;
                }
            }
            _ => {}
        }
        self.put(namespace, State::Attaching(Box::new(attaching)));
    }

    pub(crate) fn attaching_done(
        &mut self,
        namespace: NamespaceId,
        mut attaching: Attaching,
        op: OpId,
        outcome: Outcome,
        cx: &mut Context<'_>,
    ) {
        if matches!(attaching.prepared, Prepared::Pending(pending) if pending == op) {
            return self.prepared(namespace, attaching, op, outcome, cx);
        }
        match (&mut attaching.step, outcome) {
            (Step::Hosts(wait), Outcome::Hosts(HostsAnswer::Taken { hosts, by, there })) => {
                match self.wait_for_hosts(wait, &by, cx) {
                    true => self.put(namespace, State::Attaching(Box::new(attaching))),
                    false => {
                        let error = self.hosts_refused(hosts, by, there);
                        self.refuse_attach(attaching.attach, error, cx);
                        self.put(namespace, State::Free);
                    }
                }
            }
            (Step::Hosts(_), Outcome::Hosts(HostsAnswer::Kept(file))) => {
                let place = attaching.attach.request.hosts.clone();
                attaching.hosts = place.map(|place| KeptHosts { place, handle: op, file });
                match self.hung.contains(&attaching.attach.call) {
                    true => self.undo(namespace, attaching, Error::HungUp, cx),
                    false => self.prepare(namespace, attaching, cx),
                }
            }
            (Step::FindingClash(_), Outcome::Did(Ok(()))) => self.obtain(namespace, attaching, cx),
            (Step::FindingClash(_), Outcome::Did(Err(why))) => self.undo(namespace, attaching, why.into(), cx),
            (Step::Asking, Outcome::Answered(answer)) => self.given(namespace, attaching, answer, cx),
            (Step::Creating, Outcome::Did(Ok(()))) => self.created(namespace, attaching, cx),
            (Step::Creating, Outcome::Did(Err(why))) => self.undo(namespace, attaching, why.into(), cx),
            (Step::Naming, Outcome::Did(Ok(()))) => self.serve(namespace, attaching, cx),
            (Step::Naming, Outcome::Did(Err(why))) => self.undo(namespace, attaching, why.into(), cx),
            (Step::Serving, Outcome::Serving(port)) => self.stands(namespace, attaching, port, cx),
            (Step::Undoing { .. }, outcome) => {
                if let Some(grant) = &attaching.grant {
                    self.told_of_end(grant.held.instance, &outcome);
                }
                self.undone(namespace, attaching, op, cx);
            }
            _ => self.put(namespace, State::Attaching(Box::new(attaching))),
        }
    }

    fn prepared(
        &mut self,
        namespace: NamespaceId,
        mut attaching: Attaching,
        op: OpId,
        outcome: Outcome,
        cx: &mut Context<'_>,
    ) {
        attaching.prepared = match outcome {
            Outcome::Did(Err(why)) => Prepared::Failed(why),
            _ => Prepared::Ready,
        };
        if let Step::Undoing { left, .. } = &mut attaching.step {
            if matches!(attaching.prepared, Prepared::Ready) {
                left.insert(self.kernel(namespace, KernelStep::Discard(attaching.attach.call), cx), None);
            }
            return self.undone(namespace, attaching, op, cx);
        }
        self.advance_attaching(namespace, attaching, cx);
    }

    pub(super) fn with_attaching(&mut self, namespace: NamespaceId, change: impl FnOnce(&mut Attaching)) {
        if let Some(State::Attaching(attaching)) = self.spaces.get_mut(&namespace).map(|space| &mut space.state) {
            change(attaching);
        }
    }

    /// The instance is there. Other runners may not know it yet.
    pub(crate) fn begun(&mut self, attach: Attach, shown: Shown, since: Option<Have>, cx: &mut Context<'_>) {
        self.container_begun(&attach, cx);
        cx.push(Effect::Close(attach.call));
        self.settle(attach.call, Subject::Attached(shown), since, cx);
    }
}
