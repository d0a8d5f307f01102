//! The runners' streams. Which view each runner should have, and what it has confirmed, is decided in `mesh-sessions`;
//! here are the tasks that carry messages between that and the agents.

mod asks;
mod newcomer;
mod report;
pub(crate) mod silence;
pub(crate) mod stream;

#[cfg(test)]
mod tests;
