//! Lanes, simulated: two or three runners' real engines, each with up to three further lanes, and many connections between
//! their instances by a small TCP. The owner of an engine and its lanes is the one of the agent in miniature: queues of
//! bounded length between threads, packets that wait for room or for the end of a move, maps that are in use once the
//! lanes have sent what was judged before. Here every thread does its work when chance says so. Time is virtual and
//! randomness comes from a seed.
//!
//! Checked are: the *order* of each connection's segments, where nothing is lost; that every byte which is accepted is
//! right and every connection with a right completes; that a *revocation* holds from the moment at which it is said to
//! be applied; that idle lanes end; that a lane which stands still stops nothing but what goes by it.

mod connection;
mod lane;
mod life;
mod network;
mod owner;
mod plan;
mod runner;
mod world;

use crate::{Failure, failure};
use world::World;

/// A mistake to be planted, for the tests of the simulation itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The packet of a move goes at once.
    MoveNotAwaited,
    /// What a lane has received is told in another order.
    NewsShuffled,
    /// Now and then a packet goes by another lane than the rest of its connection.
    LaneChanged,
    /// A map is said to be in use while lanes still send what was judged before.
    StaleAfterApplied,
}

/// What has happened, so that a simulation of nothing is noticed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    /// The packets and super-packets that further lanes have sent, by lane.
    pub by_lane: [u64; 4],
    /// The moves that have ended by the lane, and those that were given up.
    pub moved: u64,
    pub stayed: u64,
    /// The packets that had to wait for room.
    pub waited: u64,
    /// Bytes that were accepted.
    pub bytes: u64,
    /// Revocations that met connections in flow, and restarts.
    pub revoked: u64,
    pub restarts: u64,
    /// How often a TUN was seen to go on beside a lane that stood still.
    pub beside: u64,
    /// The segments that arrived out of order (in lives where that is allowed).
    pub disordered: u64,
}

impl Tally {
    /// The sum.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.by_lane.iter_mut().zip(other.by_lane).for_each(|(sum, more)| *sum += more);
        self.moved += other.moved;
        self.stayed += other.stayed;
        self.waited += other.waited;
        self.bytes += other.bytes;
        self.revoked += other.revoked;
        self.restarts += other.restarts;
        self.beside += other.beside;
        self.disordered += other.disordered;
        self
    }
}

/// A life from `seed`, with a `bug` planted or none.
///
/// # Errors
/// The first thing that was not as it should be.
pub fn run(seed: u64, bug: Option<Bug>) -> Result<Tally, Failure> {
    let life = || {
        let mut world = World::new(seed, bug);
        world.live()?;
        Ok(world.tally)
    };
    failure::watched(life, |_| vec![])
}
