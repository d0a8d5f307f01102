//! Which runners are connected, which view each one was sent and has confirmed, and who waits for that. Pure: inputs in,
//! effects out.
//!
//! The writer of the coordinator owns a [`Sessions`] beside the [`mesh_model::State`]. It hands every commit to
//! [`Sessions::absorb`], calls the other methods for what the runners' streams report, and carries out what
//! [`Sessions::poll_effect`] returns. It calls [`Sessions::handle_timeout`] when [`Sessions::next_timeout`] is reached.
//! There is no clock in here: the time comes in with each call that needs it.
//!
//! The words, each for one idea:
//!
//! * **affected**: a runner whose view a commit may change.
//! * **outdated**: a view that such a commit may have changed and that hasn't been worked out again yet.
//! * **sent**: the view that a stream has sent last ([`Sent`]).
//! * **confirmed**: the agent has reported that it has applied the view of a revision.
//! * **unconfirmed**: a runner that hasn't confirmed all that changed for it up to a revision. One that isn't connected
//!   can't confirm anything.
//! * **current**: a connected runner that has confirmed all that changed for it.

mod effect;
mod newcomer;
mod report;
mod sent;
mod session;
mod sessions;
mod silence;
mod wait;

pub use effect::Effect;
pub use newcomer::Predecessor;
pub use report::Report;
pub use sent::{News, Sent};
pub use session::{Peer, StreamId};
pub use sessions::{Opened, Sessions};
pub use wait::{Absent, WaitId};
