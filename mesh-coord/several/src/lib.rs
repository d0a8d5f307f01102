//! What each of several coordinators on the same records decides about the others and about the store. Pure: what was
//! heard and the time come in, what to do comes out. The programs and the simulation drive the same code.
//!
//! * [`store`]: what a store takes and tells, whichever it is.
//! * [`etcd`]: the records in etcd, and how far its commits are known.
//! * [`attempt`]: a commit, until it is known whether it was made.
//! * [`decide`]: commands that are committed together, and what they take from runners.
//! * [`feed`]: the last commits, for those that follow them.
//! * [`clock`]: the running time, which all coordinators share.
//! * [`contact`]: whether what is known is fresh.
//! * [`members`]: the coordinators, as each knows them.
//! * [`right`]: by what a coordinator commits.
//! * [`settle`]: which coordinator can tell who has confirmed a change.

pub mod attempt;
pub mod clock;
pub mod contact;
pub mod decide;
pub mod etcd;
pub mod feed;
pub mod members;
pub mod right;
pub mod settle;
pub mod store;

#[cfg(test)]
mod testing;
