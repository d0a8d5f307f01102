//! The coordinator's state machine: commands in, changes or a refusal out.
//!
//! The coordinator's writer calls [`State::decide`], commits the changes to the store, and then calls
//! [`State::absorb`]. There is no clock and no randomness here: the time and every secret come with the command.

pub mod command;
pub mod declare;
pub mod limits;
pub mod outcome;
pub mod record;
pub mod refusal;
pub mod tables;
#[cfg(any(test, feature = "count"))]
pub mod work;

mod alloc;
mod audit;
mod auth;
mod calls;
mod concern;
mod decide;
mod deploy;
mod draft;
mod drain;
mod effect;
mod enrol;
mod expect;
mod host;
mod owed;
mod relay;
mod rights;
mod role;
mod session;
mod share;
mod state;
mod switch;
#[cfg(test)]
mod testing;
mod time;
mod token;
mod trust;
mod view;
mod why;
mod words;
#[cfg(not(any(test, feature = "count")))]
mod work;

pub use audit::AuditQuery;
pub use command::{
    Admin, AdminCommand, Apply, Command, Enrolment, NewPurpose, NewRelay, NewToken, Offload, Owing, RelayEnrolment,
    RunnerCommand, TrustChange, Via,
};
pub use concern::{Changed, Concern, List};
pub use effect::{Cut, Effect, Ended, InUse, Preview, Usage, Used};
pub use expect::{Judgement, Knowledge};
pub use outcome::{Decision, Outcome};
pub use record::{Change, Key, Noted, Record, hour_of};
pub use refusal::{Class, Refusal};
pub use relay::credential_until;
pub use role::Role;
pub use state::{Affected, LoadError, Lost, State};
pub use time::{Now, RunningSeconds, UnixSeconds};
pub use view::{Part, Slice, Sliced, Slices};
pub use words::{Candidates, nearest};
