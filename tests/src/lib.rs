//! The whole mesh in one thread: the coordinator's model, a packet engine for each runner, hosts with just enough TCP,
//! and a network that loses, delays, reorders and repeats. Time is virtual and randomness comes from a seed, so that a
//! failed run can be repeated step by step.
//!
//! Two things are checked. *Safety*, at every packet: nothing reaches an instance without the reference verdict's
//! permission or with a forged source. *Liveness*, whenever the network is calm: each instance dials each service, and
//! gets the result that a small independent model ([`reference`]) predicts, with exactly one refusal.

pub mod errors;
pub mod lanes;
pub mod lives;
pub mod pair;
pub mod paths;
pub mod reach;
pub mod reference;
pub mod several;
pub mod waits;

mod bug;
mod checks;
mod control;
mod failure;
mod host;
mod hostile;
mod nat;
mod network;
mod operations;
mod packet;
mod relay;
mod rng;
mod stream;
mod world;

pub use bug::Bug;
pub use failure::{Failure, found_by};
pub use world::World;

/// Runs `operations` random operations from `seed`, with a planted `bug` if there is one, and returns the trace.
///
/// # Errors
/// The first violation.
pub fn run(seed: u64, operations: u32, bug: Option<Bug>) -> Result<Vec<String>, Failure> {
    failure::watched(|| live(seed, operations, bug), Clone::clone)
}

/// Runs in a world in which one service of each deployment, and a whole runner, are hostile.
///
/// # Errors
/// The first violation for the others.
pub fn run_beside_hostile_ones(seed: u64, operations: u32, bug: Option<Bug>) -> Result<(), Failure> {
    let life = || {
        let mut world = World::new(seed, bug);
        world.hostile = true;
        for _ in 0..operations {
            world.operate()?;
        }
        world.settle_and_probe()
    };
    failure::watched(life, |()| vec![])
}

/// Runs for a while, then for a day without the coordinator: agents restart, a runner's address changes, containers are
/// restarted and attached again. Every hour everything is checked as after a calm.
///
/// # Errors
/// The first violation.
pub fn day_away(seed: u64) -> Result<(), Failure> {
    let life = || {
        let mut world = World::new(seed, None);
        for _ in 0..60 {
            world.operate()?;
        }
        world.settle_and_probe()?;
        world.away = true;
        let roams = world.some_runner();
        for _ in 0..24 {
            world.hour_away(roams)?;
        }
        world.away = false;
        world.restart_coordinator();
        world.settle_and_probe()
    };
    failure::watched(life, |()| vec![])
}

fn live(seed: u64, operations: u32, bug: Option<Bug>) -> Result<Vec<String>, Failure> {
    let mut world = World::new(seed, bug);
    for _ in 0..operations {
        world.operate()?;
    }
    world.settle_and_probe()?;
    Ok(world.into_trace())
}
