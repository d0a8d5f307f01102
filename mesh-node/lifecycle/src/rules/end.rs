//! How an instance ends: for the other runners first, so that nothing is left to wait for it.

use mesh_proto::{
    InstanceId,
    message::{Answer, Ask, Have},
};

use crate::{
    AskError, Attachment, CallId, Effect, EndReason, Error, Farewell, KernelStep, Lifecycle, NamespaceId, Notice, OpId,
    Outcome, Port, Reply, SaveId, Shown, WatchId, patience,
    state::{
        Context, Owner,
        ending::{Departed, EndStep, Ending, Then},
        request::IdJob,
        space::{Job, State},
        standing::{Doing, Standing},
    },
};

/// How many processes are remembered that ended before the instance or container for which they are watched was there.
const ENDED_PROCESSES: usize = 4096;

impl Lifecycle {
    pub(crate) fn detach(&mut self, call: CallId, instance: InstanceId, cx: &mut Context<'_>) {
        match self.space_of(instance) {
            Some(namespace) => self.queue(namespace, Job::Detach(call, instance)),
            None => self.reply(call, Err(Error::Missing(instance)), cx),
        }
    }

    pub(crate) fn detach_namespace(&mut self, call: CallId, namespace: NamespaceId, cx: &mut Context<'_>) {
        let instance = self.spaces.get(&namespace).and_then(|space| space.attachment()).map(|there| there.instance);
        match instance {
            Some(instance) => self.queue(namespace, Job::Detach(call, instance)),
            None => self.reply(call, Err(Error::Vacant), cx),
        }
    }

    /// The process is that of an instance, of a container, or of an attachment that is under way.
    pub(crate) fn process_ended(&mut self, watch: WatchId, cx: &mut Context<'_>) {
        if let Some(id) = self.containers.watched_by(watch) {
            return self.container_job(&id, IdJob::Ended(watch), cx);
        }
        match self.find_standing(|standing| standing.watch == Some(watch)) {
            Some(namespace) => self.queue(namespace, Job::ProcessEnded(watch)),
            None => {
                self.ended_processes.insert(watch);
                // Left over are watches that ended at the same moment as their process.
                while self.ended_processes.len() > ENDED_PROCESSES {
                    self.ended_processes.pop_first();
                }
            }
        }
    }

    pub(crate) fn unwatch(&mut self, watch: WatchId, cx: &mut Context<'_>) {
        self.ended_processes.remove(&watch);
        cx.push(Effect::Unwatch(watch));
    }

    pub(crate) fn tun_gone(&mut self, port: Port) {
        if let Some(namespace) = self.find_standing(|standing| standing.port == port) {
            self.queue(namespace, Job::TunGone(port));
        }
    }

    pub(crate) fn begin_detach(
        &mut self,
        namespace: NamespaceId,
        call: CallId,
        instance: InstanceId,
        cx: &mut Context<'_>,
    ) {
        match self.standing_if(namespace, |standing| standing.attachment.instance == instance) {
            Some(standing) => {
                self.end(namespace, standing, Farewell::Restored, EndReason::Asked, Then::Detached(call), cx);
            }
            None => self.reply(call, Err(Error::Missing(instance)), cx),
        }
    }

    pub(crate) fn begin_detach_for_all(&mut self, namespace: NamespaceId, cx: &mut Context<'_>) {
        match self.standing_if(namespace, |_| true) {
            Some(standing) => {
                self.end(namespace, standing, Farewell::Restored, EndReason::Unsaid, Then::DetachedForAll, cx);
            }
            None => self.detached_for_all(namespace, None),
        }
    }

    pub(crate) fn begin_process_end(&mut self, namespace: NamespaceId, watch: WatchId, cx: &mut Context<'_>) {
        if let Some(standing) = self.standing_if(namespace, |standing| standing.watch == Some(watch)) {
            self.end(namespace, standing, Farewell::Barred, EndReason::ProcessEnded, Then::Nothing, cx);
        }
    }

    /// Meanwhile the instance may have ended, or the TUN may have gone to another one.
    pub(crate) fn begin_tun_end(&mut self, namespace: NamespaceId, port: Port, cx: &mut Context<'_>) {
        if let Some(standing) = self.standing_if(namespace, |standing| standing.port == port) {
            self.end_served(namespace, standing, None, (Farewell::Barred, EndReason::InterfaceGone), Then::Nothing, cx);
        }
    }

    /// Ends an instance that is served.
    pub(crate) fn end(
        &mut self,
        namespace: NamespaceId,
        standing: Standing,
        farewell: Farewell,
        reason: EndReason,
        then: Then,
        cx: &mut Context<'_>,
    ) {
        let port = Some(standing.port);
        self.end_served(namespace, standing, port, (farewell, reason), then, cx);
    }

    /// Ends an instance. Without a port, its TUN is gone already.
    pub(crate) fn end_served(
        &mut self,
        namespace: NamespaceId,
        standing: Standing,
        port: Option<Port>,
        (farewell, reason): (Farewell, EndReason),
        mut then: Then,
        cx: &mut Context<'_>,
    ) {
        if let Some(watch) = standing.watch {
            self.unwatch(watch, cx);
        }
        if reason == EndReason::InterfaceGone {
            self.forget_containers(namespace, &mut then, cx);
        }
        let shown = Shown::of(standing.attachment);
        let held = shown.attachment.held();
        self.departed.retain(|departed| departed.held.instance != held.instance);
        self.departed.push(Departed { held, told: false });
        let hosts = standing.hosts;
        let step = EndStep::Saving(SaveId(u64::MAX));
        self.put(namespace, State::Ending(Box::new(Ending { shown, hosts, port, reason, farewell, step, then })));
        let save = self.save(cx);
        if let Some(State::Ending(ending)) = self.spaces.get_mut(&namespace).map(|space| &mut space.state) {
            ending.step = EndStep::Saving(save);
        }
    }

    pub(crate) fn advance_ending(&mut self, namespace: NamespaceId, mut ending: Ending, cx: &mut Context<'_>) {
        match ending.step {
            EndStep::Saving(save) if save <= self.saved => {
                let instance = ending.shown.attachment.instance;
                self.ask(namespace, Ask::Detach { instance }, cx);
                ending.step = EndStep::Telling;
            }
            EndStep::Applying { since, until } if until <= cx.now || self.is_in_force(since) => {
                return self.end_connections(namespace, ending, cx);
            }
            _ => {}
        }
        self.put(namespace, State::Ending(Box::new(ending)));
    }

    pub(crate) fn ending_done(
        &mut self,
        namespace: NamespaceId,
        mut ending: Ending,
        op: OpId,
        outcome: Outcome,
        cx: &mut Context<'_>,
    ) {
        let instance = ending.shown.attachment.instance;
        match (&mut ending.step, outcome) {
            (EndStep::Telling, outcome) => {
                let is_news = self.told_of_end(instance, &outcome);
                let since = match outcome {
                    Outcome::Answered(Ok(Answer::Detached { revision })) => {
                        self.view_at().map(|at| Have { revision, ..at })
                    }
                    _ => None,
                };
                match since.filter(|_| ending.port.is_some()) {
                    Some(since) => {
                        ending.step = EndStep::Applying { since, until: cx.now + patience::APPLY };
                        self.advance_ending(namespace, ending, cx);
                    }
                    None => self.end_connections(namespace, ending, cx),
                }
                if is_news {
                    self.save(cx);
                }
            }
            (EndStep::EndingConnections, Outcome::Did(result)) => {
                if let Err(why) = result {
                    cx.push(Effect::Log(Notice::NotSilenced { instance, why }));
                }
                self.remove(namespace, ending, cx);
            }
            (EndStep::Removing(left), Outcome::Did(result)) => {
                let place = left.remove(&op).flatten();
                let is_over = left.is_empty();
                if let Err(why) = result {
                    cx.push(Effect::Log(match place {
                        Some(place) => Notice::HostsNotCleared { place, why },
                        None => Notice::NotRemoved { instance, why },
                    }));
                }
                match is_over {
                    true => self.ended(namespace, ending, cx),
                    false => self.put(namespace, State::Ending(Box::new(ending))),
                }
            }
            _ => self.put(namespace, State::Ending(Box::new(ending))),
        }
    }

    fn end_connections(&mut self, namespace: NamespaceId, mut ending: Ending, cx: &mut Context<'_>) {
        let attachment = Box::new(ending.shown.attachment.clone());
        self.kernel(namespace, KernelStep::EndConnections(attachment), cx);
        ending.step = EndStep::EndingConnections;
        self.put(namespace, State::Ending(Box::new(ending)));
    }

    /// From here on another instance can take its place.
    fn remove(&mut self, namespace: NamespaceId, mut ending: Ending, cx: &mut Context<'_>) {
        if let Some(port) = ending.port.take() {
            cx.push(Effect::StopServing(port));
        }
        let hosts = std::mem::take(&mut ending.hosts);
        let attachment = Box::new(ending.shown.attachment.clone());
        let removing = self.kernel(namespace, KernelStep::Remove(attachment, ending.farewell), cx);
        let left = self.let_go_for(namespace, hosts, cx).into_iter().chain([(removing, None)]);
        ending.step = EndStep::Removing(left.collect());
        self.put(namespace, State::Ending(Box::new(ending)));
        self.stirred = true;
    }

    fn ended(&mut self, namespace: NamespaceId, ending: Ending, cx: &mut Context<'_>) {
        self.put(namespace, State::Free);
        self.save(cx);
        let Ending { shown, reason, then, .. } = ending;
        let Attachment { instance, service, .. } = shown.attachment.clone();
        if reason != EndReason::Unsaid {
            cx.push(Effect::Log(Notice::Detached { instance, service, reason }));
        }
        match then {
            Then::Nothing => {}
            Then::Detached(call) => self.reply(call, Ok(Reply::Detached(shown)), cx),
            Then::DetachedForAll => self.detached_for_all(namespace, Some(shown)),
            Then::LetGo(id, caller) => self.has_let_go(&id, caller, Some(shown), cx),
            Then::Attach(attach) => self.attach_to_free(namespace, *attach, cx),
        }
    }

    /// The coordinator was told of an end, and knows it unless it was away. Returns whether that is new.
    pub(crate) fn told_of_end(&mut self, instance: InstanceId, outcome: &Outcome) -> bool {
        if !matches!(outcome, Outcome::Answered(answer) if !matches!(answer, Err(AskError::Away(_)))) {
            return false;
        }
        let before = self.departed.len();
        self.departed.retain(|departed| departed.held.instance != instance);
        self.departed.len() != before
    }

    /// The last container of an instance has ended: first looks whether a process is left in the namespace.
    pub(crate) fn release(&mut self, namespace: NamespaceId, then: Then, cx: &mut Context<'_>) -> Result<(), Then> {
        let Some(mut standing) = self.standing_if(namespace, |_| true) else { return Err(then) };
        let op = self.op(Owner::Space(namespace));
        cx.push(Effect::Kernel(op, KernelStep::IsInhabited(namespace)));
        standing.doing = Doing::FindingProcesses(then);
        self.stand(namespace, standing);
        Ok(())
    }
}
