//! How an instance begins: given by the coordinator, remembered, made, known to all concerned.

use std::collections::BTreeMap;

use mesh_proto::{
    ServicePath,
    message::{Answer, Ask, Have, Held},
};

use crate::{
    AskError, AttachRequest, Attachment, Birthplace, CallId, Effect, Error, Farewell, HostsAnswer, HostsSource,
    KernelStep, Lifecycle, NamespaceId, Notice, OpId, Outcome, Port, SaveId,
    attachment::service_address,
    effect::KeptHosts,
    lifecycle::{Context, Departed, Owner},
    patience,
    space::{Attach, Attaching, Doing, Grant, HostsWait, Job, Prepared, Said, Standing, State, Step, Then, Upkeep},
};

impl Lifecycle {
    pub(crate) fn attach(&mut self, call: CallId, request: AttachRequest, cx: &mut Context<'_>) {
        let watched = request.watch.is_some();
        let attach = Attach { call, request, fresh: false, watched };
        match attach.request.container.as_ref().map(|container| container.id.clone()) {
            Some(id) => self.container_job(&id, crate::containers::IdJob::Attach(Box::new(attach)), cx),
            None => self.submit(attach),
        }
    }

    /// Into the queue of its namespace, unless all instances are just going.
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

    /// Into a namespace without an instance.
    pub(crate) fn attach_to_free(&mut self, namespace: NamespaceId, attach: Attach, cx: &mut Context<'_>) {
        Self::say_unkept(&attach.request, cx);
        let has_hosts = attach.request.hosts.is_some();
        let step = Step::Hosts(HostsWait { since: cx.now, retry: None });
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

    /// While the coordinator thinks, the kernel works.
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

    /// An instance from the coordinator; while that is away, one that ended here.
    fn obtain(&mut self, namespace: NamespaceId, attaching: Attaching, cx: &mut Context<'_>) {
        if self.link.connected {
            return self.connect(namespace, attaching, cx);
        }
        self.take_over_or(namespace, attaching, None, cx);
    }

    /// Another instance of the service that has ended here, or is about to; without one the coordinator is asked, or the attachment fails
    /// because of `why`. A coordinator that refuses this runner is there, and what it gave is another machine's: nothing is taken over.
    fn take_over_or(
        &mut self,
        namespace: NamespaceId,
        mut attaching: Attaching,
        why: Option<Error>,
        cx: &mut Context<'_>,
    ) {
        let (service, client) = (attaching.attach.request.service.clone(), attaching.attach.request.client);
        if let Some(held) = self.take_over(&service, client) {
            cx.push(Effect::Log(Notice::TakingOver { instance: held.instance, service }));
            return self.granted(namespace, attaching, Grant { held, since: None }, cx);
        }
        let until = match attaching.step {
            Step::TakingOver { until, .. } => until,
            _ => cx.now + patience::TAKE_OVER,
        };
        let may_come = !self.link.unknown && self.view.is_some() && self.is_leaving(&service, client);
        if until > cx.now && may_come {
            let why = why.map(Into::into);
            attaching.step = Step::TakingOver { until, why };
            return self.put(namespace, State::Attaching(Box::new(attaching)));
        }
        match why {
            Some(why) => self.undo(namespace, attaching, why, cx),
            None => self.connect(namespace, attaching, cx),
        }
    }

    /// Takes over an instance of `service` that ended here and that the coordinator never heard of. Only one that the view still
    /// holds is of any use, and one that was drained would get no connections.
    fn take_over(&mut self, service: &ServicePath, client: bool) -> Option<Held> {
        let view = self.view.clone().filter(|_| !self.link.unknown)?;
        let fits = |held: &Held| {
            is_like(held, service, client)
                && view.instance(held.instance).is_some()
                && self.space_of(held.instance).is_none()
        };
        let found = self.departed.iter().position(|departed| fits(&departed.held))?;
        Some(self.departed.remove(found).held)
    }

    fn is_leaving(&self, service: &ServicePath, client: bool) -> bool {
        let mut leaving = self.spaces.values().filter_map(|space| space.leaving());
        leaving.any(|attachment| is_like(&attachment.held(), service, client))
    }

    fn connect(&mut self, namespace: NamespaceId, mut attaching: Attaching, cx: &mut Context<'_>) {
        if self.link.connected {
            return self.ask_for_instance(namespace, attaching, cx);
        }
        cx.push(Effect::HurryStream);
        attaching.step = Step::Connecting { until: cx.now + patience::CONNECT };
        self.put(namespace, State::Attaching(Box::new(attaching)));
    }

    fn ask_for_instance(&mut self, namespace: NamespaceId, mut attaching: Attaching, cx: &mut Context<'_>) {
        let AttachRequest { service, client, .. } = &attaching.attach.request;
        self.ask(namespace, Ask::Attach { service: service.clone(), client: *client }, cx);
        attaching.step = Step::Asking;
        self.put(namespace, State::Attaching(Box::new(attaching)));
    }

    fn granted(&mut self, namespace: NamespaceId, mut attaching: Attaching, grant: Grant, cx: &mut Context<'_>) {
        attaching.grant = Some(grant);
        attaching.step = Step::Granted { until: None };
        self.advance_attaching(namespace, attaching, cx);
    }

    /// Looks whether what it waits for has come.
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

    fn advance_granted(&mut self, namespace: NamespaceId, mut attaching: Attaching, cx: &mut Context<'_>) {
        let (Step::Granted { until }, Some(grant)) = (&mut attaching.step, &attaching.grant) else { return };
        match &attaching.prepared {
            Prepared::Failed(why) => {
                let why = Error::Refused(why.clone());
                return self.undo(namespace, attaching, why, cx);
            }
            Prepared::Pending(_) => return self.put(namespace, State::Attaching(Box::new(attaching))),
            Prepared::Unasked | Prepared::Ready | Prepared::Used => {}
        }
        let until = *until.get_or_insert(cx.now + patience::VIEW);
        let held = &grant.held;
        let seen = self.view.as_ref().and_then(|view| Some((service_address(view, held.instance)?, view.network)));
        let Some((service_address, network)) = seen else {
            let error = Error::Unseen(held.instance);
            return match until <= cx.now {
                true => self.undo(namespace, attaching, error, cx),
                false => self.put(namespace, State::Attaching(Box::new(attaching))),
            };
        };
        attaching.seen = self.view_at();
        let request = &attaching.attach.request;
        attaching.attachment = Some(Attachment {
            instance: held.instance,
            service: held.service.clone(),
            address: held.address,
            service_address,
            client: held.client,
            draining: held.draining,
            network,
            namespace,
            place: request.place.clone(),
            mark: Some(request.mark),
            hosts: attaching.hosts.iter().map(|hosts| hosts.place.clone()).collect(),
            unkept: request.unkept.as_ref().map(one_line),
            ending: None,
        });
        // Remembered before it is made: an agent that is killed in between finds and finishes it.
        attaching.step = Step::Saving(SaveId(u64::MAX));
        self.put(namespace, State::Attaching(Box::new(attaching)));
        let save = self.save(cx);
        self.with_attaching(namespace, |attaching| attaching.step = Step::Saving(save));
    }

    fn with_attaching(&mut self, namespace: NamespaceId, change: impl FnOnce(&mut Attaching)) {
        if let Some(State::Attaching(attaching)) = self.spaces.get_mut(&namespace).map(|space| &mut space.state) {
            change(attaching);
        }
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

    fn given(
        &mut self,
        namespace: NamespaceId,
        mut attaching: Attaching,
        answer: Result<Answer, AskError>,
        cx: &mut Context<'_>,
    ) {
        let AttachRequest { service, client, .. } = attaching.attach.request.clone();
        match answer {
            Ok(Answer::Attached { address, .. }) if !self.is_of_the_mesh(address) => {
                self.undo(namespace, attaching, Error::Foreign(address), cx);
            }
            Ok(Answer::Attached { instance, address, revision }) => {
                let held = Held { instance, service, address, client, draining: false };
                let since = self.view.as_ref().map(|view| Have { epoch: view.epoch, revision });
                self.granted(namespace, attaching, Grant { held, since }, cx);
            }
            Ok(_) => self.undo(namespace, attaching, Error::Unfit, cx),
            // It had fallen silent, and that shows only now. An instance that it may have given ends with the next stream.
            Err(AskError::Away(why)) => {
                attaching.step = Step::FindingOut { until: cx.now + patience::AWAY, why };
                self.advance_attaching(namespace, attaching, cx);
            }
            Err(AskError::Refused(why)) => self.undo(namespace, attaching, why.into(), cx),
        }
    }

    fn created(&mut self, namespace: NamespaceId, mut attaching: Attaching, cx: &mut Context<'_>) {
        let names = match (&attaching.hosts, &attaching.attachment) {
            (Some(hosts), Some(attachment)) => {
                let names = self.names_of(attachment, &mut Said::default(), cx);
                names.map(|names| (hosts.handle, names))
            }
            _ => None,
        };
        let Some((handle, names)) = names else { return self.serve(namespace, attaching, cx) };
        let op = self.op(Owner::Space(namespace));
        cx.push(Effect::PutNames(op, handle, names));
        attaching.step = Step::Naming;
        self.put(namespace, State::Attaching(Box::new(attaching)));
    }

    fn serve(&mut self, namespace: NamespaceId, mut attaching: Attaching, cx: &mut Context<'_>) {
        if let Some(attachment) = &attaching.attachment {
            let op = self.op(Owner::Space(namespace));
            cx.push(Effect::Serve(op, namespace, attachment.instance));
        }
        attaching.step = Step::Serving;
        self.put(namespace, State::Attaching(Box::new(attaching)));
    }

    fn stands(&mut self, namespace: NamespaceId, attaching: Attaching, port: Port, cx: &mut Context<'_>) {
        let Attaching { attach, hosts, grant, attachment: Some(attachment), seen, .. } = attaching else { return };
        let (instance, service, address) = (attachment.instance, attachment.service.clone(), attachment.address);
        cx.push(Effect::Log(Notice::Attached { instance, service, address }));
        let since = grant.and_then(|grant| grant.since);
        let mut said = Said::default();
        // What is left out was said when the names were written.
        let _ = self.names_of(&attachment, &mut said, &mut Context { now: cx.now, out: &mut vec![] });
        let standing = Standing {
            attachment,
            port,
            watch: attach.request.watch,
            hosts: hosts.into_iter().collect(),
            since,
            said,
            upkeep: Some(Upkeep::begun(cx.now)),
            doing: Doing::Nothing,
        };
        let shown = standing.shown();
        if seen != self.view_at() {
            self.queue(namespace, Job::Reconcile);
        }
        if let Some(watch) = standing.watch.filter(|watch| self.ended_processes.remove(watch)) {
            self.queue(namespace, Job::ProcessEnded(watch));
        }
        self.put(namespace, State::Standing(Box::new(standing)));
        self.begun(attach, shown, since, cx);
    }

    /// Takes back what has been done for an attachment that can't be.
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
                // Should the names come to stand there after all, they go again.
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

    fn undone(&mut self, namespace: NamespaceId, mut attaching: Attaching, op: OpId, cx: &mut Context<'_>) {
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

    /// Nothing has changed for the namespace, and the caller is told why.
    pub(crate) fn refuse_attach(&mut self, attach: Attach, error: Error, cx: &mut Context<'_>) {
        if let Some(watch) = attach.request.watch {
            self.unwatch(watch, cx);
        }
        self.container_refused(&attach, cx);
        self.reply(attach.call, Err(error), cx);
        cx.push(Effect::Close(attach.call));
    }

    /// The instance is there, and others may not know it yet.
    pub(crate) fn begun(&mut self, attach: Attach, shown: crate::Shown, since: Option<Have>, cx: &mut Context<'_>) {
        self.container_begun(&attach, cx);
        cx.push(Effect::Close(attach.call));
        self.settle(attach.call, crate::settle::Subject::Attached(shown), since, cx);
    }

    /// A caller doesn't wait any more.
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

impl crate::space::Space {
    /// Whether an attachment of this call waits for the end of what is there.
    fn waits_for(&self, call: CallId) -> bool {
        match &self.state {
            State::Ending(ending) => matches!(&ending.then, Then::Attach(attach) if attach.call == call),
            _ => false,
        }
    }
}

/// A refusal and what to do about it, as one text.
pub(crate) fn one_line(refusal: &mesh_proto::message::Refusal) -> Box<str> {
    let hint = refusal.hint.iter();
    hint.fold(refusal.error.clone(), |text, hint| format!("{text}; {hint}")).into()
}

/// Whether it can take the place of one of `service`: one that was drained would get no connections.
fn is_like(held: &Held, service: &ServicePath, client: bool) -> bool {
    held.service == *service && held.client == client && !held.draining
}
