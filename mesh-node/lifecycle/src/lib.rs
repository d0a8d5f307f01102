//! The rules by which instances live on a runner: from "an instance is requested" to "the coordinator knows that it
//! ended", containers included. The crate opens nothing, reads no clock, spawns nothing and locks nothing. One task of
//! the agent owns a [`Lifecycle`], carries out what it wants done ([`Effect`]), and tells it what came of that
//! ([`Input`]).
//!
//! The state of a namespace is one enum with data (`state/space.rs`). A change that would disturb another change of the
//! same namespace waits in its queue. Every patience is in `patience.rs`, and [`Lifecycle::poll_timeout`] says what is
//! waited for. The rules are in `rules/`, one subject a file: a rule reads and changes the state, and never imports
//! another rule.
//!
//! # Callers that hang up
//!
//! [`Input::HungUp`] is the one way to stop waiting. What it does depends on how far the call is:
//!
//! | how far the call is | what happens |
//! |---|---|
//! | it waits for its turn (of its container, of its namespace, of the end of all instances) | it is not carried out |
//! | it waits for a hosts file, for the search for clashes, for an instance that ends, or for the coordinator | what was prepared is taken back |
//! | the coordinator was asked, or a later step is under way | it is carried out to its end, and the answer goes nowhere: an instance that was given is made, or given back |
//! | an end is under way | it is carried out to its end |
//! | it waits for other runners | nothing is left to do |
//!
//! The agent itself may be killed at any effect: by what is remembered the next agent knows what to finish and what to
//! take back.

mod attachment;
mod effect;
mod error;
mod id;
mod input;
mod lifecycle;
mod pace;
mod patience;
mod remembered;
mod rules;
mod state;

pub use attachment::{
    Attachment, ContainerStart, Farewell, FileKind, Holder, HostsPlace, NamespacePlace, Places, Shown,
};
pub use effect::{Birthplace, Effect, EndReason, HostLines, HostsSource, KernelStep, Notice, Reply};
pub use error::{AskError, Difference, Error};
pub use id::{CallId, ContainerId, FileId, Mark, NamespaceId, NotAnId, Nsid, OpId, Port, SaveId, WatchId};
pub use input::{AttachRequest, HostsAnswer, Input, Link, Look, Opened, Outcome, TakenUp};
pub use pace::Pace;
pub use remembered::{HostsLeft, OldContainers, Remembered};
pub use state::Lifecycle;

#[cfg(test)]
mod tests;
