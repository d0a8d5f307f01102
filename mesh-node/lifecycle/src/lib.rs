//! The rules by which instances live on a runner: from "an instance is requested" to "the coordinator knows that it ended",
//! containers included. Sans-IO: it opens nothing, reads no clock, spawns nothing and locks nothing. One task of the agent owns a
//! [`Lifecycle`], does what it wants done ([`Effect`]) and tells it what came of that ([`Input`]).
//!
//! What is at most one thing at a time is one enum with data: the state of a namespace. What would have to wait for another change of
//! the same namespace waits in its queue. Every patience is in one file, and [`Lifecycle::poll_timeout`] says what is waited for.
//!
//! # Callers that hang up
//!
//! [`Input::HungUp`] is the one way to stop waiting. What it does depends on how far the call is:
//!
//! | so far | then |
//! |---|---|
//! | waits for its turn (of its container, of its namespace, of the end of all) | it is not done |
//! | its hosts file is waited for; the namespace is searched for clashes; an instance that ends, or the coordinator, is waited for | what was prepared is taken back |
//! | the coordinator was asked, or a later step | it is done to its end, and the answer goes nowhere: an instance that was given is made, or given back |
//! | an end is under way | it is done to its end |
//! | the runners concerned are waited for | nothing is left to do |
//!
//! The agent itself may be killed at any effect: what it remembers tells the next one what to finish and what to take back.

mod attach;
mod attachment;
mod clear;
mod containers;
mod effect;
mod end;
mod error;
mod hosts;
mod id;
mod input;
mod lifecycle;
mod pace;
mod patience;
mod recover;
mod remembered;
mod settle;
mod space;
mod standing;
mod timers;
mod upkeep;

pub use attachment::{Attachment, ContainerStart, Farewell, Holder, HostsPlace, NamespacePlace, Shown};
pub use effect::{Birthplace, Effect, EndReason, HostsSource, KernelStep, Notice, Reply};
pub use error::{AskError, Error};
pub use id::{CallId, ContainerId, FileId, Mark, NamespaceId, NotAnId, Nsid, OpId, Port, SaveId, WatchId};
pub use input::{AttachRequest, HostsAnswer, Input, Link, Look, Opened, Outcome, TakenUp};
pub use lifecycle::Lifecycle;
pub use pace::Pace;
pub use remembered::{HostsLeft, OldContainers, Remembered};

#[cfg(test)]
mod tests;
