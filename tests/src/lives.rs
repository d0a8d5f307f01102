//! The lives of instances on one runner. The agent's real rules ([`mesh_lifecycle`]) run between a played machine, coordinator and
//! callers. Namespaces end and their identities are given again, processes end, hosts files are replaced, mounted over and removed, the
//! state directory can't be written, the coordinator is away at any answer or refuses the runner, and the agent is killed at any effect.
//! The next agent goes on from what was written.
//!
//! Two things are checked: *safety* at every effect ([`effects`], [`kernel`]), and, whenever all is calm, that what is there is what
//! callers were told, and nothing else ([`checks`]).

mod agent;
mod checks;
mod coordinator;
mod effects;
mod hosts;
mod kernel;
mod machine;
mod operations;
mod stream;
mod world;

pub use world::{Count, run, run_and_kill};

/// A planted mistake of what surrounds the rules, for the tests of the simulation itself.
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
    /// A file that could not be written is not written later.
    LaterForgotten,
    /// The file does not hold the hosts files that are still to be cleared.
    HostsLeftForgotten,
    /// That another file has taken the place of a hosts file is not heard.
    MoveUnheard,
    /// Changes in namespaces are not heard.
    ChangeUnheard,
}
