//! `trust --wait`, simulated: the coordinator's real model and sessions, and agents that connect, apply and confirm as
//! the real ones do. Streams break and come back, agents apply late or never, write their view late, restart, and are
//! removed; the coordinator restarts, also with an earlier state of its database. Time is virtual and randomness comes from a seed.
//!
//! Three promises are checked. *Safety*, whenever a wait succeeds: no runner acts on a right to call the deployment that
//! was taken back before the wait began, and no host of the deployment knows a runner that was removed before.
//! *Honesty*: a wait that fails names only runners that exist and may still act on what they knew. *Liveness*: no wait
//! lasts longer than its deadline, and one that begins when all is calm succeeds.

pub(crate) mod agent;
mod checks;
mod coordinator;
pub(crate) mod operations;
pub(crate) mod world;

use crate::{Failure, failure};
use world::World;

/// A mistake to be planted, for the tests of the simulation itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A stream confirms a view as soon as it has sent it.
    ConfirmedWhenSent,
    /// Agents confirm a view that is not on their disk yet.
    ConfirmedUnwritten,
    /// Runners that are not connected are not waited for.
    AbsentIgnored,
    /// Only runners whose views hold the deployment after the change are waited for.
    LostSightForgotten,
    /// A wait is for the revision before the change.
    RevisionBefore,
    /// One in four outdated views is not sent.
    NewsLost,
    /// A stream that ended is continued as though all that the coordinator worked out had been sent on it.
    UnsentContinued,
    /// What an agent has applied on an earlier stream counts on this one.
    EarlierConfirmed,
    /// A database that was put back keeps its epoch.
    EpochKept,
    /// The writer's timer does not run.
    TimerStopped,
}

/// Runs `operations` random operations from `seed`, with a `bug` planted or none, and returns how many waits succeeded
/// and how many failed.
///
/// # Errors
/// The first thing that was not as it should be.
pub fn run(seed: u64, operations: u32, bug: Option<Bug>) -> Result<(u32, u32), Failure> {
    let life = || {
        let mut world = World::new(seed, bug);
        for _ in 0..operations {
            world.operate()?;
        }
        world.calm()?;
        Ok(world.outcomes())
    };
    failure::watched(life, |_| vec![])
}
