//! The instances of this runner: put into namespaces, kept through restarts of the agent and absences of the
//! coordinator, and taken out again.

mod begin;
mod end;
mod hosts;
#[cfg(test)]
pub(crate) mod lab;
mod manager;
mod probe;
mod reconcile;
mod recover;
mod store;
mod table;
mod upkeep;
mod watch;

pub(crate) use begin::Wish;
pub(crate) use manager::{Instances, Parts};
pub(crate) use recover::process_in;
pub(crate) use store::{FILE, boot, load};
pub(crate) use watch::Watch;

/// What the interface in every instance's namespace is called.
const INTERFACE: &str = "mesh0";

#[cfg(test)]
mod tests;
