//! Black-box tests of mesh: the built programs in network namespaces, with the kernel's own TCP. This is the harness; the
//! tests are in `tests/it/`, a file a behaviour. Nothing of mesh's own libraries is used: what the programs say is read
//! as the literal JSON that is promised to users.
//!
//! A test makes a [`World`]: a router (the test's own namespace), a [`Coordinator`] and [`Runner`]s on underlay networks
//! of their own behind it, and [`Instance`]s, each a namespace with `mesh0` in it. [`isolated`] gives every test a
//! process and namespaces of its own, so that nothing has to be cleaned up and no test disturbs another one.

mod capture;
mod census;
mod coordinator;
pub mod crowd;
mod faults;
mod held;
mod instance;
mod isolate;
mod load;
mod named;
mod netns;
mod outlaw;
pub mod packet;
mod pattern;
mod process;
mod rogue;
mod runner;
mod speech;
mod sys;
pub mod traffic;
pub mod wait;
mod weather;
mod world;

pub use capture::{Capture, Injector};
pub use census::Census;
pub use coordinator::Coordinator;
pub use crowd::{Condition, Crowd, Member};
pub use faults::{Faults, Offload};
pub use held::Held;
pub use instance::Instance;
pub use isolate::{furnish, isolated, isolated_for};
pub use load::{Failure, Load, Tally, Transfer};
pub use named::{Ended, NamedServer};
pub use netns::{Namespace, Network, ip_batch};
pub use outlaw::{Control, Flood, Identity, Kind, Outlaw};
pub use process::{Daemon, Outcome, run, run_for};
pub use rogue::Rogue;
pub use runner::Runner;
pub use speech::Pace;
pub use sys::Frame;
pub use weather::{Storm, Weather};
pub use world::{Stack, World};
