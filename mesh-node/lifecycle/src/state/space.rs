//! The state of one namespace: one enum with data. It alone decides what may happen next.

use std::{collections::VecDeque, time::Instant};

use mesh_proto::{InstanceId, message::Held};

use super::{
    attaching::{Attaching, Step},
    ending::{EndStep, Ending},
    request::{Attach, LetGoCaller},
    standing::{Doing, Standing},
};
use crate::{
    Attachment, CallId, ContainerId, Farewell, HostsLeft, HostsPlace, OpId, Port, Shown, WatchId, effect::KeptHosts,
};

/// A namespace, and the changes that wait for their turn there: one change at a time.
#[derive(Debug, Default)]
pub(crate) struct Space {
    pub(crate) state: State,
    pub(crate) jobs: VecDeque<Job>,
}

/// The state of a namespace.
#[derive(Debug, Default)]
pub(crate) enum State {
    /// No instance, and nothing under way.
    #[default]
    Free,
    /// An earlier agent left an instance here, and it is looked for.
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

impl Space {
    /// Whether another change can begin.
    pub(crate) fn is_at_rest(&self) -> bool {
        match &self.state {
            State::Free => true,
            State::Standing(standing) => matches!(standing.doing, Doing::Nothing),
            State::TakingUp(_) | State::Attaching(_) | State::Ending(_) => false,
        }
    }

    /// Whether it waits for something that many others wait for as well: that a file is written, a view comes, or time
    /// passes.
    pub(crate) fn waits(&self) -> bool {
        match &self.state {
            State::Free | State::TakingUp(_) => false,
            State::Attaching(_) | State::Ending(_) => true,
            State::Standing(standing) => match standing.doing {
                Doing::KeepingHosts(..)
                | Doing::SavingHosts(..)
                | Doing::Saving(..)
                | Doing::SavingDrain(..)
                | Doing::AwaitingAnew { .. } => true,
                Doing::Nothing
                | Doing::Checking(_)
                | Doing::Naming(..)
                | Doing::AskingDrain(..)
                | Doing::Readdressing(_)
                | Doing::AskingAnew
                | Doing::Replacing { .. }
                | Doing::ServingAnew { .. }
                | Doing::DrainingAnew(_)
                | Doing::FindingProcesses(_)
                | Doing::LettingGo { .. }
                | Doing::Renaming(_)
                | Doing::Mending => false,
            },
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

    /// When its network is looked at.
    pub(crate) fn mends_at(&self) -> Option<Instant> {
        match &self.state {
            State::Standing(standing) => standing.mends_at(),
            _ => None,
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

    /// What the file says of it: the instance, and how its namespace is to be left.
    pub(crate) fn remembered(&self) -> Option<(&Attachment, Option<Farewell>)> {
        Some(match &self.state {
            State::Free => return None,
            State::TakingUp(attachment) => (attachment.as_ref(), attachment.ending),
            State::Attaching(attaching) => {
                let undone = matches!(attaching.step, Step::Undoing { .. });
                (attaching.attachment.as_ref()?, undone.then_some(Farewell::Restored))
            }
            // Its last container has let go: the next agent must not find it as if nothing had happened.
            State::Standing(standing) => {
                let is_left = matches!(standing.doing, Doing::FindingProcesses(_));
                (&standing.attachment, is_left.then_some(Farewell::Barred))
            }
            State::Ending(ending) => (&ending.shown.attachment, Some(ending.farewell)),
        })
    }

    /// What a stream that begins is told, including instances that the coordinator has given and that are not made yet.
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

    /// The hosts files that hold the names of its instance.
    pub(crate) fn hosts(&self) -> &[KeptHosts] {
        match &self.state {
            State::Standing(standing) => &standing.hosts,
            State::Attaching(attaching) if attaching.attachment.is_some() => attaching.hosts.as_slice(),
            _ => &[],
        }
    }

    /// The hosts files of ended containers that are being cleared.
    pub(crate) fn clearings(&self) -> Vec<HostsLeft> {
        match &self.state {
            State::Standing(standing) => standing.clearings(),
            _ => vec![],
        }
    }

    /// The instance that is being taken out, while no other one can take its place yet.
    pub(crate) fn leaving(&self) -> Option<&Attachment> {
        match &self.state {
            State::Ending(ending) if !matches!(ending.step, EndStep::Removing(_)) => Some(&ending.shown.attachment),
            _ => None,
        }
    }
}
