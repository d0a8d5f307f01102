//! Several coordinators on one etcd, simulated. What each decides is the shipped code: the model, the sessions, and
//! `mesh-several`, from the bytes of a transaction to who has to confirm a change. Around it is a model: etcd with its
//! revisions, leases, watches and their faults, a network that delays and loses, clients, and agents as in
//! [`crate::waits`]. Coordinators are killed, paused and cut off, clocks differ, and answers of commits are lost.
//!
//! What is checked: commits follow each other, what is confirmed is there once, and what is said not to be there isn't;
//! no answer is of a state before what was confirmed; no number is given twice and no address in its quarantine; no map
//! goes back; no runner acts on a right of which is confirmed that it was taken back; what an earlier stream of a runner
//! asks for has no effect. When nothing is broken any more, all coordinators and agents have the same, and each change is
//! confirmed by all.

mod agents;
mod checks;
mod clients;
mod etcd;
mod event;
mod follow;
mod fresh;
mod life;
mod load;
mod member;
mod operations;
mod requests;
mod settle;
mod streams;
mod truth;
mod world;
mod writer;

use crate::{Failure, failure};
use world::World;

/// A mistake to be planted, for the tests of the simulation itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A commit doesn't compare the head.
    CommitUncompared,
    /// A commit without an answer is decided on again, without a look whether it was made.
    UnknownRepeated,
    /// Commits that a watch has missed are skipped.
    GapIgnored,
    /// A commit of which the watch has lost an event is taken in as it is.
    LossBelieved,
    /// Coordinators don't follow each other's running time.
    ClocksApart,
    /// What a runner asks for counts whichever stream it came by.
    EarlierStreamHeard,
    /// Only runners that see the deployment after the change are waited for, and not those that may still act on it.
    OwedForgotten,
    /// Streams and requests are served from memory, without a look at what was confirmed elsewhere.
    StaleServed,
    /// A commit doesn't compare the right by which it was decided on.
    RightUncompared,
    /// Time for which a coordinator has stood still counts for it.
    StandstillCounted,
}

/// What has happened in a life.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Commits.
    pub commits: u32,
    /// Commits without an answer,
    pub unknown: u32,
    /// and empty commits because of that.
    pub settled: u32,
    /// Commits of which a watch has lost events.
    pub losses: u32,
    /// Commits that etcd has refused because their coordinator had lost its place since it decided on them.
    pub ended: u32,
    /// How often a coordinator has read all.
    pub loads: u32,
    /// Streams that began.
    pub streams: u32,
    /// Addresses that were given again.
    pub reused: u32,
    /// Orders that a coordinator has refused, because it was cut off,
    pub refused: u32,
    /// and those that have failed.
    pub lost: u32,
    /// Waits that all have confirmed.
    pub succeeded: u32,
    /// Waits that some have not confirmed in time.
    pub failed: u32,
}

impl Tally {
    /// What has happened in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            commits: self.commits + other.commits,
            unknown: self.unknown + other.unknown,
            settled: self.settled + other.settled,
            losses: self.losses + other.losses,
            ended: self.ended + other.ended,
            loads: self.loads + other.loads,
            streams: self.streams + other.streams,
            reused: self.reused + other.reused,
            refused: self.refused + other.refused,
            lost: self.lost + other.lost,
            succeeded: self.succeeded + other.succeeded,
            failed: self.failed + other.failed,
        }
    }
}

/// Runs `operations` random operations from `seed`, with a `bug` planted or none.
///
/// # Errors
/// The first thing that was not as it should be.
pub fn run(seed: u64, operations: u32, bug: Option<Bug>) -> Result<Tally, Failure> {
    let life = || {
        let mut world = World::new(seed, bug);
        for _ in 0..operations {
            world.operate()?;
        }
        world.calm()?;
        Ok(Tally { reused: world.truth.reused, ..world.tally })
    };
    failure::watched(life, |_| vec![])
}
