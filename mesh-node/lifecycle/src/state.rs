//! What the lifecycle knows, and how rules change it and have effects carried out. The rules are in [`crate::rules`].

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Instant,
};

use mesh_proto::{
    InstanceId, ServiceId, View,
    message::{Ask, Have},
};

use crate::{
    CallId, ContainerId, Effect, Error, HostsLeft, HostsPlace, KernelStep, Link, NamespaceId, OpId, Remembered, Reply,
    SaveId, WatchId,
};

pub(crate) mod attaching;
pub(crate) mod clearing;
pub(crate) mod containers;
pub(crate) mod ending;
pub(crate) mod names;
pub(crate) mod request;
pub(crate) mod rounds;
pub(crate) mod seek;
pub(crate) mod settling;
pub(crate) mod space;
pub(crate) mod standing;
pub(crate) mod starting;

use clearing::Clearing;
use containers::Containers;
use ending::Departed;
use names::ServiceNames;
use rounds::Rounds;
use seek::Seek;
use settling::Settling;
use space::{Job, Space, State};
use standing::Standing;
use starting::Starting;

/// The instances and containers of a runner.
#[derive(Debug)]
pub struct Lifecycle {
    pub(crate) boot: String,
    pub(crate) spaces: BTreeMap<NamespaceId, Space>,
    pub(crate) departed: Vec<Departed>,
    pub(crate) containers: Containers,
    pub(crate) settling: BTreeMap<CallId, Settling>,
    pub(crate) clearing: Clearing,
    pub(crate) seeks: BTreeMap<(NamespaceId, HostsPlace), Seek>,
    pub(crate) starting: Starting,
    pub(crate) rounds: Rounds,
    pub(crate) view: Option<Arc<View>>,
    /// The names of services in this view, as far as they were needed.
    pub(crate) names: BTreeMap<ServiceId, Option<Arc<ServiceNames>>>,
    /// Those in the view before.
    pub(crate) names_before: BTreeMap<ServiceId, Option<Arc<ServiceNames>>>,
    pub(crate) applied: Option<Have>,
    pub(crate) link: Link,
    /// Calls whose callers have hung up.
    pub(crate) hung: BTreeSet<CallId>,
    /// Processes that ended before the instance or container for which they are watched was there.
    pub(crate) ended_processes: BTreeSet<WatchId>,
    ops: BTreeMap<OpId, Owner>,
    next_op: u64,
    asked_save: SaveId,
    pub(crate) saved: SaveId,
    /// Namespaces that may be at rest.
    pub(crate) ready: VecDeque<NamespaceId>,
    /// Something has changed that a state may wait for.
    pub(crate) stirred: bool,
}

/// What an effect belongs to.
#[derive(Debug, Clone)]
pub(crate) enum Owner {
    Space(NamespaceId),
    Settling(CallId),
    Seek(NamespaceId, HostsPlace),
    /// The run of a container.
    Container(ContainerId, u64),
    /// A hosts file is cleared, and nothing waits for it.
    Clear(HostsLeft),
    /// The coordinator is told of the end of an instance that never came into its namespace.
    Departed(InstanceId),
}

/// What time it is, and where effects go.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) out: &'a mut Vec<Effect>,
}

impl Context<'_> {
    pub(crate) fn push(&mut self, effect: Effect) {
        self.out.push(effect);
    }
}

impl Lifecycle {
    /// The lifecycle of an agent that finds this of an earlier one. [`crate::Input::Start`] takes it up.
    #[must_use]
    pub fn new(remembered: Remembered, now: Instant) -> Self {
        Self {
            boot: remembered.boot.clone(),
            spaces: BTreeMap::new(),
            departed: vec![],
            containers: Containers::default(),
            settling: BTreeMap::new(),
            clearing: Clearing::default(),
            seeks: BTreeMap::new(),
            starting: Starting::Remembering(Box::new(remembered)),
            rounds: Rounds::new(now),
            view: None,
            names: BTreeMap::new(),
            names_before: BTreeMap::new(),
            applied: None,
            link: Link::default(),
            hung: BTreeSet::new(),
            ended_processes: BTreeSet::new(),
            ops: BTreeMap::new(),
            next_op: 0,
            asked_save: SaveId(0),
            saved: SaveId(0),
            ready: VecDeque::new(),
            stirred: false,
        }
    }

    /// Whether the file holds what is remembered.
    #[must_use]
    pub fn is_saved(&self) -> bool {
        self.saved == self.asked_save
    }

    pub(crate) fn space_of(&self, instance: InstanceId) -> Option<NamespaceId> {
        let is_it = |space: &Space| space.attachment().is_some_and(|attachment| attachment.instance == instance);
        self.spaces.iter().find(|(_, space)| is_it(space)).map(|(namespace, _)| *namespace)
    }

    /// Whether an instance is in a namespace, or remembered to be.
    pub(crate) fn holds(&self, namespace: NamespaceId) -> bool {
        self.spaces.get(&namespace).is_some_and(|space| space.attachment().is_some())
    }

    /// Which view there is.
    pub(crate) fn view_at(&self) -> Option<Have> {
        self.view.as_ref().map(|view| Have { epoch: view.epoch, revision: view.revision })
    }

    /// Whether an address can be that of an instance. Any other address would take traffic outside the mesh.
    pub(crate) fn is_of_the_mesh(&self, address: std::net::Ipv4Addr) -> bool {
        self.view.as_ref().is_none_or(|view| view.network.range.holds(address))
    }

    /// The hosts files that are being cleared.
    pub(crate) fn clearings(&self) -> impl Iterator<Item = HostsLeft> {
        let in_spaces = self.spaces.values().flat_map(Space::clearings);
        let others = self.ops.values().filter_map(|owner| match owner {
            Owner::Clear(left) => Some(left.clone()),
            _ => None,
        });
        in_spaces.chain(others)
    }

    pub(crate) fn op(&mut self, owner: Owner) -> OpId {
        self.next_op += 1;
        let op = OpId(self.next_op);
        self.ops.insert(op, owner);
        op
    }

    /// An effect has ended. Returns what it belongs to.
    pub(crate) fn end_op(&mut self, op: OpId) -> Option<Owner> {
        self.ops.remove(&op)
    }

    /// Has the kernel do something for a namespace.
    pub(crate) fn kernel(&mut self, namespace: NamespaceId, step: KernelStep, cx: &mut Context<'_>) -> OpId {
        let op = self.op(Owner::Space(namespace));
        cx.push(Effect::Kernel(op, step));
        op
    }

    /// Asks the coordinator for a namespace.
    pub(crate) fn ask(&mut self, namespace: NamespaceId, ask: Ask, cx: &mut Context<'_>) -> OpId {
        let op = self.op(Owner::Space(namespace));
        cx.push(Effect::Ask(op, ask));
        op
    }

    /// Has everything written down as it is now.
    pub(crate) fn save(&mut self, cx: &mut Context<'_>) -> SaveId {
        self.asked_save.0 += 1;
        cx.push(Effect::Save(self.asked_save));
        self.asked_save
    }

    pub(crate) fn reply(&mut self, call: CallId, reply: Result<Reply, Error>, cx: &mut Context<'_>) {
        self.hung.remove(&call);
        cx.push(Effect::Reply(call, reply));
    }

    /// A change of this namespace waits for its turn.
    pub(crate) fn queue(&mut self, namespace: NamespaceId, job: Job) {
        self.spaces.entry(namespace).or_default().jobs.push_back(job);
        self.ready.push_back(namespace);
    }

    /// What happened to this namespace before the agent started comes ahead of what it has been asked for since.
    pub(crate) fn queue_first(&mut self, namespace: NamespaceId, job: Job) {
        self.spaces.entry(namespace).or_default().jobs.push_front(job);
        self.ready.push_back(namespace);
    }

    pub(crate) fn put(&mut self, namespace: NamespaceId, state: State) {
        self.spaces.entry(namespace).or_default().state = state;
        self.ready.push_back(namespace);
    }

    pub(crate) fn stand(&mut self, namespace: NamespaceId, standing: Standing) {
        self.put(namespace, State::Standing(Box::new(standing)));
    }

    pub(crate) fn standing_mut(&mut self, namespace: NamespaceId) -> Option<&mut Standing> {
        match &mut self.spaces.get_mut(&namespace)?.state {
            State::Standing(standing) => Some(standing),
            _ => None,
        }
    }

    /// Takes what stands out of a namespace, if it is as `is_it` says. The caller puts a state back.
    pub(crate) fn standing_if(
        &mut self,
        namespace: NamespaceId,
        is_it: impl Fn(&Standing) -> bool,
    ) -> Option<Standing> {
        let space = self.spaces.get_mut(&namespace)?;
        match std::mem::take(&mut space.state) {
            State::Standing(standing) if is_it(&standing) => Some(*standing),
            other => {
                space.state = other;
                None
            }
        }
    }

    /// The namespace whose instance is as `is_it` says.
    pub(crate) fn find_standing(&self, is_it: impl Fn(&Standing) -> bool) -> Option<NamespaceId> {
        let found = |space: &Space| matches!(&space.state, State::Standing(standing) if is_it(standing));
        self.spaces.iter().find(|(_, space)| found(space)).map(|(namespace, _)| *namespace)
    }
}
