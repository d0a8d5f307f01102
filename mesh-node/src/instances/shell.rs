//! The one task that owns the lifecycle. In each turn it tells the lifecycle what has changed elsewhere, then what has happened, and
//! begins what that wants done. What takes time runs in tasks of its own, and lands here when it ends.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    os::fd::OwnedFd,
    sync::Arc,
};

use mesh_lifecycle::{
    AttachRequest, CallId, ContainerId, ContainerStart, Error, Input, Lifecycle, Link, Mark, NamespaceId, OpId,
    Outcome, Remembered, WatchId,
};
use mesh_proto::{
    View,
    message::{Have, Refusal},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    ears::Ears,
    kept::{Hosts, Moves},
    message::{Asked, Message, Replies},
    request::Wish,
    store::Saving,
    watch::Watches,
};
use crate::{
    attach::{Namespace, Prepared, Seen, Staging},
    control::{self, Control},
    dataplane::Dataplane,
    hosts::{Guards, HostsFile},
    state::StateDir,
    sys::turns::Turns,
};

/// How many steps are in the kernel at a time. It has one lock for the networks of all namespaces, and some of its
/// calls spin for it: more at a time are no quicker, and cost processor time.
const STEPS: usize = 4;

/// What the instances need of the rest of the agent.
#[derive(Debug)]
pub(crate) struct Parts {
    /// Where they are remembered.
    pub(crate) state: StateDir,
    /// The stream to the coordinator.
    pub(crate) control: Control,
    /// What serves their TUNs.
    pub(crate) dataplane: Arc<Dataplane>,
    /// Where their TUNs are made.
    pub(crate) staging: Staging,
    /// What keeps the names in hosts files.
    pub(crate) guards: Guards,
    /// The view that is in force.
    pub(crate) applied: watch::Receiver<Option<Have>>,
}

/// What an ended task does in the shell.
pub(super) type Landing = Box<dyn FnOnce(&mut Shell) + Send>;

/// What is open for a call.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) namespace: Arc<Namespace>,
    pub(super) hosts: Option<HostsFile>,
}

/// The lifecycle, and all that is open for it.
pub(super) struct Shell {
    lifecycle: Lifecycle,
    pub(super) parts: Arc<Parts>,
    messages: mpsc::UnboundedReceiver<Message>,
    news: News,
    pub(super) tasks: JoinSet<Landing>,
    /// When the lifecycle has to be told of the time.
    due: Option<std::time::Instant>,
    /// What is known at once, for the same turn.
    inputs: VecDeque<Input>,
    pub(super) calls: HashMap<CallId, Replies>,
    pub(super) opened: HashMap<CallId, Opened>,
    /// What the kernel has made ahead for calls.
    pub(super) prepared: HashMap<CallId, Prepared>,
    /// TUNs that were made and aren't served yet.
    pub(super) queues: HashMap<NamespaceId, OwnedFd>,
    /// The rules that others had in namespaces at the last look.
    pub(super) seen: HashMap<NamespaceId, Seen>,
    pub(super) hosts: Hosts,
    pub(super) watches: Watches,
    pub(super) saving: Saving,
    /// The turns of steps in the kernel.
    pub(super) steps: Turns,
    /// Those of what is done for all namespaces, as at the start of the agent: one at a time, and it holds up no step
    /// that a caller waits for.
    pub(super) chores: Turns,
    /// Those of looks for hosts files.
    pub(super) searches: Turns,
    /// A step could not even begin.
    has_failed: bool,
}

/// What changes elsewhere.
struct News {
    views: watch::Receiver<Option<Arc<View>>>,
    links: watch::Receiver<control::Link>,
    applied: watch::Receiver<Option<Have>>,
    /// The last link that the lifecycle was told.
    link: Link,
    moves: Moves,
    ends: mpsc::UnboundedReceiver<WatchId>,
    ears: Ears,
}

/// What a turn is about.
enum Event {
    /// A view, the link, or what is in force has changed; or it is time.
    Changed,
    Message(Message),
    Landed(Landing),
    Happened(Vec<Input>),
    /// No part of the agent needs the instances any more, or a step has failed.
    Over,
}

impl Shell {
    pub(super) fn new(
        parts: Parts,
        remembered: Remembered,
        messages: mpsc::UnboundedReceiver<Message>,
        (hosts, moves): (Hosts, Moves),
    ) -> Self {
        let (watches, ends) = Watches::new();
        let (mut views, mut links) = (parts.control.views(), parts.control.links());
        let mut applied = parts.applied.clone();
        views.mark_changed();
        links.mark_changed();
        applied.mark_changed();
        let ears = Ears::open(&parts.staging);
        Self {
            lifecycle: Lifecycle::new(remembered, Instant::now().into_std()),
            inputs: [Input::Hearing(ears.hear())].into(),
            news: News { views, links, applied, link: Link::default(), moves, ends, ears },
            due: None,
            parts: Arc::new(parts),
            messages,
            tasks: JoinSet::new(),
            calls: HashMap::new(),
            opened: HashMap::new(),
            prepared: HashMap::new(),
            queues: HashMap::new(),
            seen: HashMap::new(),
            hosts,
            watches,
            saving: Saving::default(),
            steps: Turns::of(STEPS),
            chores: Turns::of(1),
            searches: Turns::of(STEPS),
            has_failed: false,
        }
    }

    /// Turn after turn, until no part of the agent needs the instances any more, or a step has failed.
    pub(super) async fn run(mut self) {
        loop {
            let event = self.next().await;
            self.news.changes().into_iter().for_each(|input| self.inputs.push_back(input));
            match event {
                Event::Changed => {}
                Event::Message(message) => self.receive(message),
                Event::Landed(landing) => landing(&mut self),
                Event::Happened(inputs) => self.inputs.extend(inputs),
                Event::Over => return,
            }
            self.turn();
            if self.has_failed {
                return;
            }
        }
    }

    async fn next(&mut self) -> Event {
        self.due = self.lifecycle.poll_timeout().map(|(at, _)| at);
        let due = self.due.map(Instant::from_std);
        tokio::select! {
            message = self.messages.recv() => message.map_or(Event::Over, Event::Message),
            Some(landed) = self.tasks.join_next() => match landed {
                Ok(landing) => Event::Landed(landing),
                Err(error) => {
                    self.fails(&error);
                    Event::Over
                }
            },
            inputs = self.news.next() => Event::Happened(inputs),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Event::Changed,
        }
    }

    /// Tells the lifecycle what has happened, and does what it wants done.
    fn turn(&mut self) {
        let mut effects = vec![];
        let now = Instant::now().into_std();
        if self.due.take_if(|due| *due <= now).is_some() {
            self.lifecycle.handle_timeout(now, &mut effects);
        }
        loop {
            effects.drain(..).for_each(|effect| self.execute(effect));
            let Some(input) = self.inputs.pop_front() else { break };
            self.lifecycle.handle(input, Instant::now().into_std(), &mut effects);
        }
        self.save();
    }

    fn receive(&mut self, message: Message) {
        match message {
            Message::Call(call, replies, asked) => {
                self.calls.insert(call, replies);
                match asked {
                    Asked::Attach(wish, mark, container) => match self.open(call, *wish, mark, container) {
                        Ok(request) => self.inputs.push_back(Input::Attach(call, Box::new(request))),
                        Err(refusal) => self.reply(call, Err(Error::Refused(refusal))),
                    },
                    Asked::Other(input) => self.inputs.push_back(input),
                }
            }
            Message::HungUp(call) => {
                self.calls.remove(&call);
                self.inputs.push_back(Input::HungUp(call));
            }
            Message::Happened(input) => self.inputs.push_back(input),
            // The view and the link that it is told come first.
            Message::Look(look) => {
                self.turn();
                look(&mut self.lifecycle);
            }
        }
    }

    /// Keeps what is open for an attachment.
    fn open(
        &mut self,
        call: CallId,
        wish: Wish,
        mark: Mark,
        container: Option<(ContainerId, Option<i32>)>,
    ) -> Result<AttachRequest, Refusal> {
        let Wish { service, client, release, namespace, place, hosts, unkept, process, resolv: _ } = wish;
        let (hosts, file) = hosts.unzip();
        let watch = process.map(|process| self.watches.add(process)).transpose();
        let (watch, container) = match container {
            None => {
                let refuse = |e| Refusal::bare(format!("the process can't be watched: {e}"));
                (watch.map_err(refuse)?, None)
            }
            Some((id, pid)) => {
                let watch = watch.unwrap_or_else(|error| {
                    tracing::warn!(container = %id, %error, "its process can't be watched: only its runtime can tell of its end");
                    None
                });
                (None, Some(ContainerStart { id, pid, watch }))
            }
        };
        let id = namespace.id();
        self.opened.insert(call, Opened { namespace, hosts: file });
        Ok(AttachRequest { service, client, release, namespace: id, place, hosts, unkept, watch, mark, container })
    }

    /// A step has failed in a way that nothing can be told of. Its namespace would wait for it for ever: the agent
    /// ends, and the next one takes up what is there.
    pub(super) fn fails(&mut self, error: &dyn fmt::Display) {
        tracing::error!(%error, "a step of an instance failed: this is a bug, please report it");
        self.has_failed = true;
    }

    /// What the next agent needs.
    pub(super) fn remembered(&self) -> Remembered {
        self.lifecycle.remembered()
    }

    /// An effect has ended.
    pub(super) fn done(&mut self, op: OpId, outcome: Outcome) {
        self.inputs.push_back(Input::Done(op, outcome));
    }

    /// Something has happened that the lifecycle is told in this turn.
    pub(super) fn happened(&mut self, input: Input) {
        self.inputs.push_back(input);
    }

    /// Runs what takes time. What it returns is done here when it ends.
    pub(super) fn spawn<F, L>(&mut self, work: F)
    where
        F: Future<Output = L> + Send + 'static,
        L: FnOnce(&mut Self) + Send + 'static,
    {
        self.tasks.spawn(async move { Box::new(work.await) as Landing });
    }
}

impl News {
    /// What has changed since the last turn, as far as it has to be told.
    fn changes(&mut self) -> Vec<Input> {
        let mut inputs = vec![];
        if self.links.has_changed().unwrap_or_default() {
            let link = self.links.borrow_and_update();
            let link = Link { connected: link.connected, synced: link.synced, unknown: link.unknown };
            // The stream's link changes with every message.
            if std::mem::replace(&mut self.link, link) != link {
                inputs.push(Input::Link(link));
            }
        }
        if self.views.has_changed().unwrap_or_default() {
            inputs.extend(self.views.borrow_and_update().clone().map(Input::View));
        }
        if self.applied.has_changed().unwrap_or_default() {
            inputs.extend(self.applied.borrow_and_update().map(Input::Applied));
        }
        inputs
    }

    /// The next that happens; nothing: something has changed.
    async fn next(&mut self) -> Vec<Input> {
        tokio::select! {
            Ok(()) = self.views.changed() => {
                self.views.mark_changed();
                vec![]
            }
            Ok(()) = self.links.changed() => {
                self.links.mark_changed();
                vec![]
            }
            Ok(()) = self.applied.changed() => {
                self.applied.mark_changed();
                vec![]
            }
            input = self.moves.next() => vec![input],
            Some(watch) = self.ends.recv() => vec![Input::ProcessEnded(watch)],
            inputs = self.ears.next() => inputs,
        }
    }
}
