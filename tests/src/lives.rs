//! The lives of instances on one runner: the agent's real rules ([`mesh_lifecycle`]) between a machine, a coordinator and callers that are
//! played. Namespaces end and their identities are given again, processes end, the coordinator is away at any answer, and the agent is
//! killed at any effect; the next one goes on from what was written.
//!
//! *Safety* is checked at every effect (see [`machine`]); whenever all is calm it is checked that what is there is what callers were told,
//! and nothing else ([`checks`]).

mod checks;
mod coordinator;
mod machine;
mod operations;
mod world;

pub use world::{Count, run, run_and_kill};

/// A mistake of what surrounds the rules, to be planted for the tests of the simulation itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// One write of the file in four is lost, and said to be done.
    SaveLost,
    /// The file does not hold the containers.
    ContainersForgotten,
    /// The coordinator is not told of ends, and the agent thinks it was.
    EndUntold,
    /// A namespace is taken for the one that it was, whatever its interface bears.
    MarkIgnored,
    /// One end of a process in two is not heard.
    ProcessEndLost,
    /// The end of an interface is not heard.
    TunGoneLost,
    /// Names are not taken out of hosts files.
    ClearLost,
    /// A hosts file is kept for any service.
    HostsShared,
    /// A namespace whose process is gone is left as if that had been requested.
    BarForgotten,
    /// What was prepared for nothing stays.
    DiscardLost,
    /// That the coordinator refuses this runner is taken for its absence.
    RefusalUnheard,
    /// The agent is not told since which view an instance is drained.
    RevisionLost,
}
