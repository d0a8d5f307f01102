//! Black-box tests of mesh: the built programs in network namespaces, with the kernel's own TCP. This is the harness;
//! the tests are in `tests/it/`, one file for each behaviour. mesh's own libraries are not used: the output of the
//! programs is parsed as the JSON that users are promised.
//!
//! A test makes a [`World`]: a router (the test's own namespace), a [`Coordinator`] and [`Runner`]s, each on its own
//! underlay network, and [`Instance`]s, each a namespace with `mesh0` in it. [`isolated`] runs every test in its own
//! process and namespaces, so that nothing has to be cleaned up and no test disturbs another one.

mod caller;
mod capture;
mod census;
mod chance;
mod coordinator;
pub mod crowd;
mod etcd;
mod faults;
mod guest;
mod held;
mod instance;
mod isolate;
mod laggard;
mod load;
mod mapper;
mod named;
mod netns;
mod outlaw;
pub mod packet;
mod pattern;
mod process;
mod rogue;
mod router;
mod runner;
pub mod several;
mod shared_port;
mod speech;
mod squid;
mod steady;
mod sys;
mod tls;
pub mod traffic;
mod turn;
pub mod wait;
mod weather;
mod world;

pub use caller::Caller;
pub use capture::{Capture, Injector};
pub use census::Census;
pub use chance::Chance;
pub use coordinator::Coordinator;
pub use crowd::{Condition, Crowd, Member};
pub use etcd::Etcd;
pub use faults::{Faults, Offload};
pub use guest::{Carrier, Guest, Pass, Refusal};
pub use held::Held;
pub use instance::Instance;
pub use isolate::{furnish, isolated, isolated_for};
pub use laggard::Laggard;
pub use load::{Failure, Load, Tally, Transfer};
pub use mapper::Mapper;
pub use named::{Ended, NamedServer};
pub use netns::{Namespace, Network, ip_batch};
pub use outlaw::{Control, Flood, Identity, Kind, Outlaw};
pub use process::{Daemon, Outcome, run, run_for};
pub use rogue::Rogue;
pub use router::{Nat, Router, Udp};
pub use runner::Runner;
pub use shared_port::{SharedPort, Switch};
pub use speech::Pace;
pub use squid::Squid;
pub use steady::Steady;
pub use sys::Frame;
pub use tls::trusting;
pub use turn::{Relay, Turn};
pub use weather::{Storm, Weather};
pub use world::{Stack, World};
