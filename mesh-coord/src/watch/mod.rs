//! The tasks of the runners' streams. `mesh-sessions` decides which view each runner should have and what it has
//! confirmed; these tasks carry the messages.

mod ahead;
mod asks;
pub(crate) mod calls;
pub(crate) mod contact;
mod end;
pub(crate) mod members;
pub(crate) mod newcomer;
pub(crate) mod relay;
mod report;
pub(crate) mod silence;
pub(crate) mod stream;

#[cfg(test)]
mod tests;
