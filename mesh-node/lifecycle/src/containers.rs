//! Containers come and go: of each one change at a time. Several can share a network namespace, and so an instance; it ends with the
//! last of them.

use std::collections::{BTreeMap, VecDeque};

use mesh_proto::message::Refusal;

use crate::{
    CallId, ContainerId, Effect, Holder, HostsPlace, KernelStep, Lifecycle, NamespaceId, Outcome, Reply, Shown,
    WatchId,
    lifecycle::{Context, Owner},
    space::{Attach, Doing, Job, LetGoCaller, State, Then},
};

/// The containers of this runner.
#[derive(Debug, Default)]
pub(crate) struct Containers {
    holding: BTreeMap<ContainerId, Container>,
    /// Those of which a change is under way, and what waits for its turn.
    busy: BTreeMap<ContainerId, Turns>,
    /// Those that run without the mesh though they ask for it, and why.
    waiting: BTreeMap<ContainerId, Refusal>,
    runs: u64,
}

#[derive(Debug)]
struct Container {
    holder: Holder,
    /// Which of the runs since this agent started: a container starts again under the same identifier.
    run: u64,
    watch: Option<WatchId>,
    /// Its instance is there; before that nothing shows that the container is.
    begun: bool,
}

/// What waits for a container.
#[derive(Debug, Default)]
struct Turns {
    /// What goes on when it has let go of what it held before.
    next: Option<Box<Attach>>,
    waiting: VecDeque<IdJob>,
}

/// A change of a container.
#[derive(Debug)]
pub(crate) enum IdJob {
    Attach(Box<Attach>),
    Detach(CallId),
    Ended(WatchId),
}

/// What is to be done when a container has let go of its instance.
#[derive(Debug, PartialEq, Eq)]
struct Released {
    /// No other container holds it: it ends.
    ends: bool,
    /// A hosts file that no other container has.
    hosts: Option<HostsPlace>,
}

impl Containers {
    pub(crate) fn waits(&mut self, id: ContainerId, why: Option<Refusal>) {
        match why {
            Some(why) => drop(self.waiting.insert(id, why)),
            None => drop(self.waiting.remove(&id)),
        }
    }

    pub(crate) fn is_queued(&self, call: CallId) -> bool {
        let is_it = |attach: &Attach| attach.call == call;
        self.busy.values().any(|turns| {
            turns.next.as_deref().is_some_and(is_it)
                || turns.waiting.iter().any(|job| matches!(job, IdJob::Attach(attach) if is_it(attach)))
        })
    }

    pub(crate) fn remembered(&self) -> BTreeMap<ContainerId, Holder> {
        self.holding.iter().map(|(id, container)| (id.clone(), container.holder.clone())).collect()
    }

    pub(crate) fn watched_by(&self, watch: WatchId) -> Option<ContainerId> {
        let mut watched = self.holding.iter().filter(|(_, container)| container.watch == Some(watch));
        watched.next().map(|(id, _)| id.clone())
    }

    /// Whether the instance of this namespace came with a container; `None` if none holds it.
    fn owned(&self, namespace: NamespaceId) -> Option<bool> {
        let mut holders = self.holding.values().map(|container| &container.holder);
        holders.find(|holder| holder.namespace == namespace).map(|holder| holder.owned)
    }

    /// Returns the watch over a former run.
    fn hold(&mut self, id: ContainerId, holder: Holder, watch: Option<WatchId>) -> Option<WatchId> {
        self.runs += 1;
        let container = Container { holder, run: self.runs, watch, begun: false };
        self.holding.insert(id, container)?.watch
    }

    /// With a number: that run of it, and no later one.
    fn release(&mut self, id: &ContainerId, run: Option<u64>) -> Option<(Container, Released)> {
        self.holding.get(id).filter(|container| run.is_none_or(|run| run == container.run))?;
        let container = self.holding.remove(id)?;
        let Holder { namespace, hosts, owned, .. } = &container.holder;
        let all = self.holding.values().map(|container| &container.holder);
        let mut others = all.filter(|other| other.namespace == *namespace);
        let ends = *owned && others.clone().next().is_none();
        let hosts = hosts.clone().filter(|place| others.all(|other| other.hosts.as_ref() != Some(place)));
        Some((container, Released { ends, hosts }))
    }

    /// Forgets containers of which only the namespace was known, and that `is_there` no longer: their runtime has not told.
    fn prune(&mut self, is_there: impl Fn(NamespaceId) -> bool) -> bool {
        let before = self.holding.len();
        let stays = |container: &Container| {
            !container.begun || container.holder.pid.is_some() || is_there(container.holder.namespace)
        };
        self.holding.retain(|_, container| stays(container));
        self.holding.len() < before
    }
}

impl Lifecycle {
    /// The containers that hold instances.
    #[must_use]
    pub fn containers(&self) -> Vec<ContainerId> {
        self.containers.holding.keys().cloned().collect()
    }

    /// Those that hold the instance of a namespace.
    #[must_use]
    pub fn holding(&self, namespace: NamespaceId) -> Vec<ContainerId> {
        let all = self.containers.holding.iter().filter(|(_, container)| container.holder.namespace == namespace);
        all.map(|(id, _)| id.clone()).collect()
    }

    /// The containers that run without the mesh though they ask for it.
    #[must_use]
    pub const fn waiting(&self) -> &BTreeMap<ContainerId, Refusal> {
        &self.containers.waiting
    }

    /// Of each container one change at a time.
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
            // It has started again before its last end was heard of.
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

    /// A container holds the namespace from now on, if one asks. Remembered before anything is made: an agent that is killed in between
    /// knows that nothing else will end it.
    pub(crate) fn hold(&mut self, attach: &mut Attach, cx: &mut Context<'_>) {
        let Some(start) = attach.request.container.clone() else { return };
        self.prune(cx);
        let namespace = attach.request.namespace;
        let owned = self.containers.owned(namespace).unwrap_or_else(|| !self.holds(namespace));
        let hosts = attach.request.hosts.clone();
        attach.fresh = !self.containers.holding.contains_key(&start.id);
        // An instance that was attached otherwise doesn't end with its containers.
        attach.watched = owned && start.watch.is_some();
        let id = start.id;
        let former = self.containers.hold(id.clone(), Holder { namespace, pid: start.pid, hosts, owned }, start.watch);
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
        let clears = released.hosts.is_some_and(|place| self.drop_hosts(namespace, &place, (&id, caller), cx));
        self.save(cx);
        if !clears {
            self.has_let_go(&id, caller, None, cx);
        }
    }

    /// Takes the names out of one of the hosts files of a namespace's instance, and keeps that no longer. Returns whether it takes time.
    fn drop_hosts(
        &mut self,
        namespace: NamespaceId,
        place: &HostsPlace,
        (id, caller): (&ContainerId, LetGoCaller),
        cx: &mut Context<'_>,
    ) -> bool {
        let Some(mut standing) = self.standing_if(namespace, |_| true) else { return false };
        let dropped = standing.drop_hosts(place);
        let left: BTreeMap<_, _> = self.let_go_of(&standing, dropped, cx).into_iter().collect();
        let clears = !left.is_empty();
        if clears {
            standing.doing = Doing::LettingGo { left, container: id.clone(), caller };
        }
        self.put(namespace, State::Standing(Box::new(standing)));
        clears
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
            LetGoCaller::Start => self.starting.one_let_go(),
        }
        self.container_free(id, cx);
    }

    /// Forgets those that went with their namespace, without a word of their runtime.
    pub(crate) fn prune(&mut self, cx: &mut Context<'_>) {
        if self.starting.is_over() {
            let there: Vec<NamespaceId> = self
                .spaces
                .iter()
                .filter(|(_, space)| space.attachment().is_some())
                .map(|(namespace, _)| *namespace)
                .collect();
            if self.containers.prune(|namespace| there.binary_search(&namespace).is_ok()) {
                self.save(cx);
            }
        }
    }

    /// Takes up a container of an earlier agent, after the instances. One that has ended since lets go.
    pub(crate) fn take_up_container(&mut self, id: &ContainerId, holder: Holder, cx: &mut Context<'_>) {
        let (pid, namespace) = (holder.pid, holder.namespace);
        self.containers.hold(id.clone(), holder, None);
        if let Some(container) = self.containers.holding.get_mut(id) {
            container.begun = true;
        }
        match pid {
            Some(pid) => {
                let op = self.op(Owner::Container(id.clone()));
                cx.push(Effect::Kernel(op, KernelStep::WatchProcess(pid, namespace)));
            }
            None if self.holds(namespace) => self.starting.one_let_go(),
            None => self.lets_go_at_start(id, namespace),
        }
    }

    pub(crate) fn container_found(&mut self, id: ContainerId, outcome: Outcome, _cx: &mut Context<'_>) {
        let Outcome::Watching(watch) = outcome else { return };
        let Some(container) = self.containers.holding.get_mut(&id) else { return self.starting.one_let_go() };
        let namespace = container.holder.namespace;
        container.watch = watch;
        match watch {
            Some(_) => self.starting.one_let_go(),
            None => self.lets_go_at_start(&id, namespace),
        }
    }

    fn lets_go_at_start(&mut self, id: &ContainerId, namespace: NamespaceId) {
        self.containers.busy.entry(id.clone()).or_default();
        self.queue(namespace, Job::LetGo { container: id.clone(), run: None, caller: LetGoCaller::Start });
    }
}
