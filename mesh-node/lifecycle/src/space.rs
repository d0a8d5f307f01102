//! The state of one namespace: one enum with data. What may happen next follows from it alone.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Instant,
};

use mesh_proto::{
    InstanceId, View,
    message::{Have, Held, Refusal},
};

use crate::{
    AttachRequest, Attachment, CallId, ContainerId, EndReason, Error, Farewell, HostsLeft, HostsPlace, Nsid, OpId,
    Port, SaveId, Shown, WatchId, effect::KeptHosts, pace::Pace,
};

/// A namespace, and what waits for its turn there: one change at a time.
#[derive(Debug, Default)]
pub(crate) struct Space {
    pub(crate) state: State,
    pub(crate) jobs: VecDeque<Job>,
}

/// What a namespace is in.
#[derive(Debug, Default)]
pub(crate) enum State {
    /// No instance, and nothing under way.
    #[default]
    Free,
    /// An earlier agent left an instance here, which is looked for.
    TakingUp(Box<Attachment>),
    /// An instance is being made.
    Attaching(Box<Attaching>),
    /// An instance is there.
    Standing(Box<Standing>),
    /// An instance is being taken out.
    Ending(Box<Ending>),
}

/// A change that waits for its turn.
#[derive(Debug)]
pub(crate) enum Job {
    Attach(Box<Attach>),
    Detach(CallId, InstanceId),
    DetachForAll,
    SetDraining(CallId, InstanceId, bool),
    ProcessEnded(WatchId),
    TunGone(Port),
    LetGo {
        container: ContainerId,
        run: Option<u64>,
        caller: LetGoCaller,
    },
    /// The view has changed.
    Reconcile,
    /// A hosts file of an earlier agent, or one that was replaced, is open.
    KeepOpened(HostsPlace, OpId),
}

/// Who hears that a container has let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LetGoCaller {
    Call(CallId),
    /// Its process has ended, or it starts elsewhere.
    None,
    /// The agent that starts.
    Start,
}

/// A request to attach on its way.
#[derive(Debug, Clone)]
pub(crate) struct Attach {
    pub(crate) call: CallId,
    pub(crate) request: AttachRequest,
    /// Its container holds the namespace since this request.
    pub(crate) fresh: bool,
    /// The end of the instance shows without that of the namespace.
    pub(crate) watched: bool,
}

/// Waiting for a hosts file that another service keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HostsWait {
    pub(crate) since: Instant,
    /// When it is tried again at the latest. `None`: an answer is awaited.
    pub(crate) retry: Option<Instant>,
}

/// An instance that is being made.
#[derive(Debug)]
pub(crate) struct Attaching {
    pub(crate) attach: Attach,
    pub(crate) hosts: Option<KeptHosts>,
    pub(crate) step: Step,
    pub(crate) prepared: Prepared,
    pub(crate) grant: Option<Grant>,
    /// Known once the view holds the instance; remembered from then on.
    pub(crate) attachment: Option<Attachment>,
    /// The view that said so.
    pub(crate) seen: Option<Have>,
}

/// What the coordinator gave.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    pub(crate) held: Held,
    /// The view that holds it first; `None`: any.
    pub(crate) since: Option<Have>,
}

/// What the kernel has made ahead.
#[derive(Debug)]
pub(crate) enum Prepared {
    Unasked,
    Pending(OpId),
    Ready,
    Failed(Refusal),
    /// It has gone into the interface.
    Used,
}

/// How far the making of an instance is.
#[derive(Debug)]
pub(crate) enum Step {
    /// Its hosts file is being had.
    Hosts(HostsWait),
    /// The namespace is searched for addresses of the range.
    FindingClash(OpId),
    /// An instance that is about to end is to be taken over, since the coordinator is away; if it doesn't end, this is why.
    TakingOver {
        until: Instant,
        why: Option<Refusal>,
    },
    /// The coordinator is waited for.
    Connecting {
        until: Instant,
    },
    /// It was asked.
    Asking,
    /// It did not answer: whether it is away shows soon.
    FindingOut {
        until: Instant,
        why: Refusal,
    },
    /// It gave an instance; the view with it, and the kernel, are waited for. `until` runs once the kernel is ready.
    Granted {
        until: Option<Instant>,
    },
    /// What is to be made is being written down, so that an agent that is killed from here on finds it.
    Saving(SaveId),
    Creating,
    Naming,
    Serving,
    /// It can't be: what has been done is taken back.
    Undoing {
        error: Error,
        left: BTreeMap<OpId, Option<HostsPlace>>,
    },
}

/// An instance that is there.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) attachment: Attachment,
    pub(crate) port: Port,
    pub(crate) watch: Option<WatchId>,
    pub(crate) hosts: Vec<KeptHosts>,
    /// The view that holds it first: earlier ones can't be expected to.
    pub(crate) since: Option<Have>,
    pub(crate) said: Said,
    pub(crate) upkeep: Option<Upkeep>,
    pub(crate) doing: Doing,
}

/// What has been said of an instance, and is not to be said again.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// The warnings about names in the log.
    pub(crate) names: BTreeSet<String>,
    /// That there are more names than a hosts file takes.
    pub(crate) beyond: Option<String>,
    /// Its addresses are not those of the view.
    pub(crate) addresses: Option<String>,
    /// Something else changes its network.
    pub(crate) network: Option<String>,
}

impl Said {
    /// Which warnings about names are new in the log. That names don't fit is said once, however many they are, until they do.
    pub(crate) fn news(&mut self, warnings: Vec<String>, beyond: Option<String>) -> Vec<String> {
        let (counted, all): (BTreeSet<_>, BTreeSet<_>) =
            warnings.into_iter().partition(|warning| Some(warning) == beyond.as_ref());
        let others = all.difference(&self.names).cloned();
        let news = counted.into_iter().filter(|_| self.beyond.is_none()).chain(others).collect();
        (self.names, self.beyond) = (all, beyond);
        news
    }
}

/// What keeps a namespace as it was set up.
#[derive(Debug, Default)]
pub(crate) struct Upkeep {
    pub(crate) pace: Pace,
    /// The number by which changes are heard of. The first look asks for it, and changes are heard from then on, before it is
    /// known here: a namespace without a number may be any.
    pub(crate) nsid: Option<Nsid>,
}

/// What is being done with an instance that is there.
#[derive(Debug, Default)]
pub(crate) enum Doing {
    #[default]
    Nothing,
    /// Before another attachment: whether it really is there. Identities of namespaces are given again.
    Checking(Box<Attach>),
    /// The hosts file of a further attachment is being had.
    KeepingHosts(Box<Attach>, HostsWait),
    /// The place is written down, so that an agent that is killed from here on takes the names out again. Whether it is a new one.
    SavingHosts(Box<Attach>, HostsPlace, bool, SaveId),
    /// The names are written there.
    Naming(Box<Attach>, HostsPlace, bool),
    /// A further attachment is written down.
    Saving(Box<Attach>, SaveId),
    AskingDrain(CallId, bool),
    SavingDrain(CallId, SaveId, Option<Have>),
    Readdressing(Box<Attachment>),
    /// The coordinator doesn't have it, and was asked for another one.
    AskingAnew,
    /// The view with the other one is waited for.
    AwaitingAnew {
        grant: Grant,
        until: Instant,
    },
    /// The interface is given to the other one. The port was closed.
    Replacing {
        next: Box<Attachment>,
        since: Option<Have>,
    },
    ServingAnew {
        next: Box<Attachment>,
        since: Option<Have>,
    },
    /// The other one is to be drained as the first was.
    DrainingAnew(InstanceId),
    /// Its last container is gone: whether a process is left.
    FindingProcesses(Then),
    /// A container has ended, and the names are taken out of its hosts file.
    LettingGo {
        left: BTreeMap<OpId, HostsPlace>,
        container: ContainerId,
        caller: LetGoCaller,
    },
    /// The names are written into a file that was found again.
    Renaming(HostsPlace),
    /// It is looked at, and what has changed is put back.
    Mending,
}

/// An instance that is being taken out: first out of everybody's map, so that the ends of its connections hear of it while it can
/// still be reached, then out of its namespace.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) shown: Shown,
    pub(crate) hosts: Vec<KeptHosts>,
    pub(crate) port: Option<Port>,
    pub(crate) reason: EndReason,
    pub(crate) farewell: Farewell,
    pub(crate) step: EndStep,
    pub(crate) then: Then,
}

/// How far an end is.
#[derive(Debug)]
pub(crate) enum EndStep {
    /// It is being written down.
    Saving(SaveId),
    /// The coordinator is told, now or when it is back.
    Telling,
    /// The view without it comes into force.
    Applying {
        since: Have,
        until: Instant,
    },
    EndingConnections,
    /// Another one can take its place from here on. Left are steps in the kernel, and hosts files that are cleared.
    Removing(BTreeMap<OpId, Option<HostsPlace>>),
}

/// What comes after an end.
#[derive(Debug)]
pub(crate) enum Then {
    Nothing,
    Detached(CallId),
    DetachedForAll,
    LetGo(ContainerId, LetGoCaller),
    /// The attachment for which there was to be room.
    Attach(Box<Attach>),
}

impl Space {
    /// Whether another change can begin.
    pub(crate) fn is_at_rest(&self) -> bool {
        match &self.state {
            State::Free => true,
            State::Standing(standing) => matches!(standing.doing, Doing::Nothing),
            State::TakingUp(_) | State::Attaching(_) | State::Ending(_) => false,
        }
    }

    /// The instance that is there or remembered to be, also while it is made or taken out.
    pub(crate) fn attachment(&self) -> Option<&Attachment> {
        match &self.state {
            State::Free => None,
            State::TakingUp(attachment) => Some(attachment),
            State::Attaching(attaching) => attaching.attachment.as_ref(),
            State::Standing(standing) => Some(&standing.attachment),
            State::Ending(ending) => match ending.step {
                EndStep::Removing(_) => None,
                _ => Some(&ending.shown.attachment),
            },
        }
    }

    /// As callers see it, with what is wrong with it, unless it is being made or taken out.
    pub(crate) fn listed(&self) -> Option<Shown> {
        let State::Standing(standing) = &self.state else { return None };
        let mut shown = standing.shown();
        let troubles: Vec<&str> =
            [&standing.said.addresses, &standing.said.network].into_iter().flatten().map(String::as_str).collect();
        shown.warnings.extend((!troubles.is_empty()).then(|| troubles.join("; ")));
        Some(shown)
    }

    /// What the file says of it.
    pub(crate) fn remembered(&self) -> Option<Attachment> {
        let (attachment, ending) = match &self.state {
            State::Free => return None,
            State::TakingUp(attachment) => (attachment.as_ref(), attachment.ending),
            State::Attaching(attaching) => {
                let undone = matches!(attaching.step, Step::Undoing { .. });
                (attaching.attachment.as_ref()?, undone.then_some(Farewell::Restored))
            }
            // Its last container has let go: an agent that is killed now must not find it as if nothing had happened.
            State::Standing(standing) => {
                let is_left = matches!(standing.doing, Doing::FindingProcesses(_));
                (&standing.attachment, is_left.then_some(Farewell::Barred))
            }
            State::Ending(ending) => (&ending.shown.attachment, Some(ending.farewell)),
        };
        Some(Attachment { ending, ..attachment.clone() })
    }

    /// What a stream that begins is told: also what the coordinator gave and is not made yet.
    pub(crate) fn held(&self) -> Vec<Held> {
        match &self.state {
            State::Free | State::Ending(_) => vec![],
            State::TakingUp(attachment) => attachment.ending.is_none().then(|| attachment.held()).into_iter().collect(),
            State::Attaching(attaching) if matches!(attaching.step, Step::Undoing { .. }) => vec![],
            State::Attaching(attaching) => attaching.grant.iter().map(|grant| grant.held.clone()).collect(),
            State::Standing(standing) => {
                let next = match &standing.doing {
                    Doing::AwaitingAnew { grant, .. } => Some(grant.held.clone()),
                    Doing::Replacing { next, .. } | Doing::ServingAnew { next, .. } => Some(next.held()),
                    _ => None,
                };
                [standing.attachment.held()].into_iter().chain(next).collect()
            }
        }
    }

    /// The hosts files in which the names of its instance stand.
    pub(crate) fn hosts(&self) -> &[KeptHosts] {
        match &self.state {
            State::Standing(standing) => &standing.hosts,
            State::Attaching(attaching) if attaching.attachment.is_some() => attaching.hosts.as_slice(),
            _ => &[],
        }
    }

    /// The hosts files of ended containers that are being cleared.
    pub(crate) fn clearings(&self) -> Vec<HostsLeft> {
        let State::Standing(standing) = &self.state else { return vec![] };
        let Doing::LettingGo { left, .. } = &standing.doing else { return vec![] };
        let Attachment { namespace, service, .. } = &standing.attachment;
        let left_at =
            |place: &HostsPlace| HostsLeft { namespace: *namespace, service: service.clone(), place: place.clone() };
        left.values().map(left_at).collect()
    }

    /// Whether it is being taken out, and another one can't take its place yet.
    pub(crate) fn leaving(&self) -> Option<&Attachment> {
        match &self.state {
            State::Ending(ending) if !matches!(ending.step, EndStep::Removing(_)) => Some(&ending.shown.attachment),
            _ => None,
        }
    }
}

impl Standing {
    /// Whether a view is older than the instance.
    pub(crate) fn is_new_to(&self, view: &View) -> bool {
        self.since.is_some_and(|since| since.epoch == view.epoch && view.revision < since.revision)
    }

    /// As callers see it, with what its names lack.
    pub(crate) fn shown(&self) -> Shown {
        let mut shown = Shown::of(self.attachment.clone());
        shown.warnings.extend(self.said.beyond.iter().filter(|_| !self.hosts.is_empty()).cloned());
        shown
    }

    /// From now on its names are kept in this hosts file as well. One that stood at the same place before may be mounted somewhere:
    /// the first one stays beside the last one. Returns those that don't.
    pub(crate) fn keep_hosts(&mut self, hosts: KeptHosts) -> Vec<KeptHosts> {
        let mut there = self.drop_hosts(&hosts.place);
        let mut others: Vec<KeptHosts> = there.extract_if(.., |kept| kept.file == hosts.file).collect();
        others.extend(there.split_off(there.len().min(1)));
        self.attachment.hosts.push(hosts.place.clone());
        self.hosts.extend(there);
        self.hosts.push(hosts);
        others
    }

    /// From now on its names are not kept at this place any more.
    pub(crate) fn drop_hosts(&mut self, place: &HostsPlace) -> Vec<KeptHosts> {
        self.attachment.hosts.retain(|kept| kept != place);
        self.hosts.extract_if(.., |kept| kept.place == *place).collect()
    }

    /// The file that its names were put into last, of those at a place.
    pub(crate) fn latest(&self, place: &HostsPlace) -> Option<OpId> {
        self.hosts.iter().rfind(|hosts| hosts.place == *place).map(|hosts| hosts.handle)
    }
}
