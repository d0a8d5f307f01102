//! Questions to the coordinator, each with the type of its answer.

use std::net::Ipv4Addr;

use mesh_proto::{
    InstanceId, Label, Release, Revision, ServicePath, View,
    message::{Answer, Ask, Refusal},
    why::Explanation,
};

use super::Away;
use crate::hint::Hint;

/// A question with a typed answer.
pub(crate) trait Question: Into<Ask> {
    /// What the coordinator answers.
    type Answer;

    /// Reads the answer; `None` if it answers another question.
    fn read(answer: Answer) -> Option<Self::Answer>;
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// There is no stream, or it ended before the answer: whether the coordinator has acted is unknown.
    #[error(transparent)]
    Away(Away),
    /// The coordinator refuses.
    #[error(transparent)]
    Refused(Refusal),
    #[error("the coordinator's answer doesn't fit the question")]
    Mismatch,
}

impl Hint for AskError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Away(away) => away.hint(),
            Self::Refused(refusal) => refusal.hint.clone(),
            Self::Mismatch => Some("do the coordinator and this agent have the same version?".into()),
        }
    }
}

/// An untyped question, for callers that read [`Answer`] themselves.
impl Question for Ask {
    type Answer = Answer;

    fn read(answer: Answer) -> Option<Answer> {
        Some(answer)
    }
}

/// Asks for a new instance on this runner.
#[derive(Debug, Clone)]
pub(crate) struct Attach {
    /// Its service.
    pub(crate) service: ServicePath,
    /// Whether it only opens connections.
    pub(crate) client: bool,
    /// The release that it runs.
    pub(crate) release: Option<Release>,
}

/// A new instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attached {
    /// The instance.
    pub(crate) instance: InstanceId,
    /// Its own address.
    pub(crate) address: Ipv4Addr,
    /// The commit that made it.
    pub(crate) revision: Revision,
}

/// Ends an instance. The answer is the commit that ended it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Detach(pub(crate) InstanceId);

/// Stops new connections to an instance. The answer is the commit that changed it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Drain(pub(crate) InstanceId);

/// Allows new connections to a drained instance. The answer is the commit that changed it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Undrain(pub(crate) InstanceId);

/// Removes this runner and its instances.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leave;

/// Waits up to two seconds until every runner concerned has applied a revision of the current epoch. The answer lists the runners
/// that haven't.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settle(pub(crate) Revision);

/// Asks for the view that a runner with one instance of this service, and nothing else, would have.
#[derive(Debug, Clone)]
pub(crate) struct Lookup(pub(crate) ServicePath);

/// Asks whether a connection is allowed, and why.
#[derive(Debug, Clone)]
pub(crate) struct Why {
    /// The service that opens it.
    pub(crate) caller: ServicePath,
    /// The service that accepts it.
    pub(crate) callee: ServicePath,
    /// Its TCP port.
    pub(crate) port: u16,
}

/// Declares what a question asks and which answer fits it.
macro_rules! question {
    ($question:ty, $this:pat => $ask:expr, $answer:ty, $fits:pat => $read:expr) => {
        impl From<$question> for Ask {
            fn from($this: $question) -> Self {
                $ask
            }
        }

        impl Question for $question {
            type Answer = $answer;

            fn read(answer: Answer) -> Option<$answer> {
                match answer {
                    $fits => Some($read),
                    _ => None,
                }
            }
        }
    };
}

question!(Attach, Attach { service, client, release } => Self::Attach { service, client, release },
    Attached, Answer::Attached { instance, address, revision } => Attached { instance, address, revision });
question!(Detach, Detach(instance) => Self::Detach { instance },
    Revision, Answer::Detached { revision } => revision);
question!(Drain, Drain(instance) => Self::Drain { instance },
    Revision, Answer::Drained { revision } => revision);
question!(Undrain, Undrain(instance) => Self::Undrain { instance },
    Revision, Answer::Undrained { revision } => revision);
question!(Leave, Leave => Self::Leave, (), Answer::Left => ());
question!(Settle, Settle(revision) => Self::Settle { revision },
    Vec<Label>, Answer::Settled { pending } => pending);
question!(Lookup, Lookup(service) => Self::Lookup { service },
    View, Answer::Found { view } => view);
question!(Why, Why { caller, callee, port } => Self::Why { caller, callee, port },
    Explanation, Answer::Why { allowed, steps } => Explanation { allowed, steps });
