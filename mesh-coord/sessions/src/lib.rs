//! Which runners are connected, which view each was sent and has confirmed, and which callers wait for confirmations.
//! Pure: inputs in, effects out.
//!
//! The coordinator's writer owns a [`Sessions`] beside the [`mesh_model::State`]. It passes every commit to
//! [`Sessions::absorb`], calls the other methods for what the streams report, and carries out what
//! [`Sessions::poll_effect`] returns. It calls [`Sessions::handle_timeout`] at [`Sessions::next_timeout`]. There is
//! no clock here: each call that needs the time gets it.
//!
//! The terms:
//!
//! * **affected**: a runner whose view a commit may change.
//! * **outdated**: a view that a commit may have changed and that hasn't been computed again.
//! * **sent**: the last view that a stream has sent ([`Sent`]).
//! * **confirmed**: the agent has reported that it has applied the view of a revision.
//! * **unconfirmed**: a runner that hasn't confirmed all that changed for it up to a revision. A disconnected runner
//!   can't confirm.
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
pub use sessions::{Ahead, Opened, Sessions, Told};
pub use silence::{Mass, Unheard};
pub use wait::{Absent, WaitId};
