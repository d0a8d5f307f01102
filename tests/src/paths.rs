//! How far paths reach, simulated: two runners' real engines, transfers both ways between their instances by a small TCP,
//! and between the runners a link whose MTU changes at any time in either direction. What is too long for the link is lost:
//! it sends no ICMP, and its fragments arrive nowhere. Time is virtual and randomness comes from a seed.
//!
//! Three promises are checked. *Completeness*: every byte of every transfer arrives. *Liveness*: where nothing else is
//! lost, a transfer stands still for at most 1.5 s and two round trips. *Fitness*: from then on no datagram with data is
//! longer than the link carries.

mod world;

use std::time::Duration;

use crate::{Failure, failure};
use world::World;

/// A mistake to be planted, for the tests of the simulation itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The runners don't tell that they can answer pings: packets go as in version 0.1.
    Untold,
    /// Pings arrive in fragments, as without the DF bit.
    PingsFragmented,
    /// Pings are not sent.
    PingsLost,
}

/// A life in which the link changes some times, from `seed`, with a `bug` planted or none. Returns how often a transfer
/// was cut in pieces by a change, as far as the link tells: how many datagrams it has lost by their length.
///
/// # Errors
/// The first thing that was not as it should be.
pub fn run(seed: u64, bug: Option<Bug>) -> Result<u32, Failure> {
    let life = || {
        let mut world = World::new(seed, bug);
        world.connect()?;
        for _ in 0..6 {
            world.change();
            if world.chance(15) {
                world.pause(Duration::from_secs(200))?;
            }
            let time = world.some_time(3..8);
            world.transfer(time)?;
        }
        world.complete()?;
        Ok(world.too_long())
    };
    failure::watched(life, |_| vec![])
}
