//! How containers come and go: one change of each container at a time. Containers can share a network namespace, and so
//! an instance. It ends with the last of them.

use std::collections::BTreeMap;

use crate::{
    ContainerId, Effect, FileKind, Holder, HostsPlace, KernelStep, Lifecycle, NamespaceId, OpId, Outcome, Reply, Shown,
    state::{
        Context, Owner,
        containers::Turns,
        ending::Then,
        request::{Attach, IdJob, LetGoCaller},
        space::Job,
        standing::{Doing, Standing},
    },
};

impl Lifecycle {
    /// Of each container, one change at a time.
    pub(crate) fn container_job(&mut self, id: &ContainerId, job: IdJob, cx: &mut Context<'_>) {
        if let Some(turns) = self.containers.busy.get_mut(id) {
            return turns.waiting.push_back(job);
        }
        self.containers.busy.insert(id.clone(), Turns::default());
        self.begin_container_job(id, job, cx);
    }

    fn begin_container_job(&mut self, id: &ContainerId, job: IdJob, cx: &mut Context<'_>) {
        let there = self.containers.holding.get(id);
        let (namespace, run) = (there.map(|there| there.holder.namespace), there.map(|there| there.run));
        let let_go = |run, caller| Job::LetGo { container: id.clone(), run, caller };
        match (job, namespace) {
            // It has started again before its last end was heard.
            (IdJob::Attach(attach), Some(namespace)) if namespace != attach.request.namespace => {
                self.containers.busy.entry(id.clone()).or_default().next = Some(attach);
                self.queue(namespace, let_go(None, LetGoCaller::None));
            }
            (IdJob::Attach(attach), _) => self.submit(*attach),
            (IdJob::Detach(call), Some(namespace)) => self.queue(namespace, let_go(None, LetGoCaller::Call(call))),
            (IdJob::Ended(watch), Some(namespace)) if self.containers.watched_by(watch).as_ref() == Some(id) => {
                self.queue(namespace, let_go(run, LetGoCaller::None));
            }
            (IdJob::Detach(call), None) => {
                self.reply(call, Ok(Reply::ContainerDetached(None)), cx);
                self.container_free(id, cx);
            }
            (IdJob::Ended(_), _) => self.container_free(id, cx),
        }
    }

    /// A change of a container is over: the next one begins.
    fn container_free(&mut self, id: &ContainerId, cx: &mut Context<'_>) {
        let Some(turns) = self.containers.busy.get_mut(id) else { return };
        if let Some(attach) = turns.next.take() {
            return self.submit(*attach);
        }
        match turns.waiting.pop_front() {
            Some(job) => self.begin_container_job(id, job, cx),
            None => drop(self.containers.busy.remove(id)),
        }
    }

    /// From now on the container that asks, if one does, holds the namespace. That is remembered before anything is
    /// made: the next agent must know that the instance ends with the container.
    pub(crate) fn hold(&mut self, attach: &mut Attach, cx: &mut Context<'_>) {
        let Some(start) = attach.request.container.clone() else { return };
        self.prune(cx);
        let namespace = attach.request.namespace;
        let owned = self.containers.owned(namespace).unwrap_or_else(|| !self.holds(namespace));
        // The resolv.conf of a container comes after its hosts file, in a request of its own.
        let former = self.containers.holding.get(&start.id).map(|there| &there.holder);
        let former = former.filter(|holder| holder.namespace == namespace).and_then(|holder| holder.hosts.clone());
        let (hosts, resolv) = match attach.request.hosts.clone() {
            Some(place) if place.kind() == FileKind::Resolv => (former, Some(place)),
            place => (place, None),
        };
        attach.fresh = !self.containers.holding.contains_key(&start.id);
        // An instance that was attached in another way does not end with its containers.
        attach.watched = owned && start.watch.is_some();
        let id = start.id;
        let former =
            self.containers.hold(id.clone(), Holder { namespace, pid: start.pid, hosts, resolv, owned }, start.watch);
        if let Some(watch) = former.filter(|former| Some(*former) != start.watch) {
            self.unwatch(watch, cx);
        }
        self.save(cx);
        if let Some(watch) = start.watch.filter(|watch| self.ended_processes.remove(watch)) {
            self.container_job(&id, IdJob::Ended(watch), cx);
        }
    }

    pub(crate) fn container_begun(&mut self, attach: &Attach, cx: &mut Context<'_>) {
        let Some(start) = &attach.request.container else { return };
        if let Some(container) = self.containers.holding.get_mut(&start.id) {
            container.begun = true;
        }
        self.container_free(&start.id, cx);
    }

    pub(crate) fn container_refused(&mut self, attach: &Attach, cx: &mut Context<'_>) {
        let Some(start) = attach.request.container.clone() else { return };
        if attach.fresh {
            self.containers.release(&start.id, None);
            self.save(cx);
            start.watch.into_iter().for_each(|watch| self.unwatch(watch, cx));
        }
        self.container_begun(attach, cx);
    }

    pub(crate) fn begin_letting_go(
        &mut self,
        namespace: NamespaceId,
        id: ContainerId,
        run: Option<u64>,
        caller: LetGoCaller,
        cx: &mut Context<'_>,
    ) {
        let Some((container, released)) = self.containers.release(&id, run) else {
            return self.has_let_go(&id, caller, None, cx);
        };
        if let Some(watch) = container.watch {
            self.unwatch(watch, cx);
        }
        if released.ends {
            let found = self.release(namespace, Then::LetGo(id.clone(), caller), cx);
            self.save(cx);
            if found.is_err() {
                self.has_let_go(&id, caller, None, cx);
            }
            return;
        }
        let clears = self.drop_hosts(namespace, &released.hosts, (&id, caller), cx);
        self.save(cx);
        if !clears {
            self.has_let_go(&id, caller, None, cx);
        }
    }

    /// Takes the names of an instance out of the files at these places, which are not kept any more. Returns whether the
    /// answer waits for that.
    fn drop_hosts(
        &mut self,
        namespace: NamespaceId,
        places: &[HostsPlace],
        (id, caller): (&ContainerId, LetGoCaller),
        cx: &mut Context<'_>,
    ) -> bool {
        let Some(mut standing) = self.standing_if(namespace, |_| true) else { return false };
        let dropped = places.iter().flat_map(|place| standing.drop_hosts(place)).collect();
        let left: BTreeMap<_, _> = self.let_go_of(&standing, dropped, cx).into_iter().collect();
        let clears = !left.is_empty();
        if clears {
            standing.doing = Doing::LettingGo { left, container: id.clone(), caller };
        }
        self.stand(namespace, standing);
        clears
    }

    /// The names are out of a hosts file of an ended container.
    pub(crate) fn one_cleared(
        &mut self,
        namespace: NamespaceId,
        mut standing: Standing,
        (mut left, container, caller): (BTreeMap<OpId, HostsPlace>, ContainerId, LetGoCaller),
        (op, outcome): (OpId, Outcome),
        cx: &mut Context<'_>,
    ) {
        if let Some(place) = left.remove(&op) {
            Self::say_not_cleared(place, outcome, cx);
        }
        let is_over = left.is_empty();
        if !is_over {
            standing.doing = Doing::LettingGo { left, container: container.clone(), caller };
        }
        self.stand(namespace, standing);
        if is_over {
            self.save(cx);
            self.has_let_go(&container, caller, None, cx);
        }
    }

    pub(crate) fn has_let_go(
        &mut self,
        id: &ContainerId,
        caller: LetGoCaller,
        shown: Option<Shown>,
        cx: &mut Context<'_>,
    ) {
        match caller {
            LetGoCaller::Call(call) => self.reply(call, Ok(Reply::ContainerDetached(shown)), cx),
            LetGoCaller::None => {}
            LetGoCaller::Start => self.starting.one_less(),
        }
        self.container_free(id, cx);
    }

    /// Forgets containers that ended with their namespace, and of whose end their runtime did not tell.
    pub(crate) fn prune(&mut self, cx: &mut Context<'_>) {
        let spaces = &self.spaces;
        let holds = |namespace| spaces.get(&namespace).is_some_and(|space| space.attachment().is_some());
        if self.starting.is_over() && self.containers.prune(holds) {
            self.save(cx);
        }
    }

    /// The namespace of an instance is gone, and its identity is given again: its containers hold nothing any more, and
    /// must not end the next instance. A container that asks to attach there holds that one.
    pub(super) fn forget_containers(&mut self, namespace: NamespaceId, then: &mut Then, cx: &mut Context<'_>) {
        let mut asks = match then {
            Then::Attach(attach) => Some(attach),
            _ => None,
        };
        let start = asks.as_ref().and_then(|attach| attach.request.container.clone());
        for id in self.containers.of(namespace) {
            if start.as_ref().is_some_and(|start| start.id == id) {
                continue;
            }
            let watch = self.containers.release(&id, None).and_then(|(container, _)| container.watch);
            watch.into_iter().for_each(|watch| self.unwatch(watch, cx));
        }
        if let (Some(attach), Some(start)) = (&mut asks, start)
            && let Some(container) = self.containers.holding.get_mut(&start.id)
        {
            container.holder.owned = true;
            attach.watched = start.watch.is_some();
        }
    }

    /// Takes up a container of an earlier agent, after the instance that it holds. A container that has ended since lets
    /// go.
    pub(crate) fn take_up_container(&mut self, id: &ContainerId, cx: &mut Context<'_>) {
        // A call that came early may have started it again.
        let Some(there) = self.containers.holding.get(id).filter(|there| there.watch.is_none()) else { return };
        let (run, namespace) = (there.run, there.holder.namespace);
        match there.holder.pid {
            Some(pid) => {
                let op = self.op(Owner::Container(id.clone(), run));
                cx.push(Effect::Kernel(op, KernelStep::WatchProcess(pid, namespace)));
                self.starting.one_more();
            }
            None if self.holds(namespace) => {}
            None => {
                self.starting.one_more();
                self.lets_go_at_start(id, namespace);
            }
        }
    }

    pub(crate) fn container_found(&mut self, id: &ContainerId, run: u64, outcome: &Outcome, cx: &mut Context<'_>) {
        let Outcome::Watching(watch) = *outcome else { return };
        let there = self.containers.holding.get_mut(id).filter(|there| there.run == run);
        match (there, watch) {
            (Some(there), Some(watch)) => there.watch = Some(watch),
            (Some(there), None) => {
                let namespace = there.holder.namespace;
                return self.lets_go_at_start(id, namespace);
            }
            (None, Some(watch)) => self.unwatch(watch, cx),
            (None, None) => {}
        }
        self.starting.one_less();
    }

    fn lets_go_at_start(&mut self, id: &ContainerId, namespace: NamespaceId) {
        if self.containers.busy.contains_key(id) {
            // A call that came early ends it, or starts it again.
            return self.starting.one_less();
        }
        self.containers.busy.insert(id.clone(), Turns::default());
        let job = Job::LetGo { container: id.clone(), run: None, caller: LetGoCaller::Start };
        self.queue_first(namespace, job);
    }
}
