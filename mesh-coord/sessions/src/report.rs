//! What an agent reports of its runner. It isn't asked again: what can't be stored at once (the disk is full) is stored
//! later, and the stream goes on meanwhile.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use mesh_model::{Command, RunnerCommand};
use mesh_proto::{RunnerId, message::Ask};

/// How long after a failure of the store it is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Instances that a hello may name in one turn.
const INSTANCES_A_TURN: usize = 64;
/// The time between two changes of the endpoints: each one is news to all the runner's peers.
const PACE: Duration = Duration::from_secs(1);

/// What one stream has reported and the store doesn't hold yet.
#[derive(Debug)]
pub struct Report {
    runner: RunnerId,
    /// The stream's first message. It ends the instances that it doesn't name, so it is stored before anything else.
    hello: Option<RunnerCommand>,
    /// The last ones reported.
    endpoints: Option<Vec<SocketAddr>>,
    /// When to store it.
    at: Instant,
}

impl Report {
    /// A stream that begins with `hello`.
    #[must_use]
    pub const fn new(runner: RunnerId, hello: RunnerCommand, now: Instant) -> Self {
        Self { runner, hello: Some(hello), endpoints: None, at: now }
    }

    /// The runner's endpoints are these now. `turn` returns when the runner's rate limit allows it to be stored, or
    /// `None` if that is too far off; it is called only where a turn is needed.
    pub fn endpoints(&mut self, endpoints: Vec<SocketAddr>, now: Instant, turn: impl FnOnce() -> Option<Instant>) {
        if self.endpoints.replace(endpoints).is_none() {
            self.at = self.at.max(turn().unwrap_or(now + RETRY));
        }
    }

    /// Whether the first message isn't stored yet.
    #[must_use]
    pub const fn is_behind(&self) -> bool {
        self.hello.is_some()
    }

    /// How many turns it costs to store the first message.
    #[must_use]
    pub fn weight(&self) -> u32 {
        let instances = match &self.hello {
            Some(RunnerCommand::Hello { instances, .. }) => instances.len(),
            _ => 0,
        };
        u32::try_from(instances / INSTANCES_A_TURN).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// Whether the first message has to be stored before this question is answered.
    #[must_use]
    pub const fn precedes(&self, ask: &Ask) -> bool {
        match ask {
            Ask::Settle { .. } | Ask::Lookup { .. } | Ask::Why { .. } => false,
            Ask::Attach { .. } | Ask::Detach { .. } | Ask::Drain { .. } | Ask::Undrain { .. } | Ask::Leave => {
                self.hello.is_some()
            }
        }
    }

    /// When something is to be stored; `None` if all of it is.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        (self.hello.is_some() || self.endpoints.is_some()).then_some(self.at)
    }

    /// What is to be stored first; `None` once all of it is.
    #[must_use]
    pub fn next(&self) -> Option<Command> {
        let endpoints = || Some(RunnerCommand::Endpoints { endpoints: self.endpoints.clone()? });
        let what = self.hello.clone().or_else(endpoints)?;
        Some(Command::Runner { by: self.runner, what })
    }

    /// What [`Self::next`] returned is stored.
    pub fn stored(&mut self, now: Instant) {
        if self.hello.take().is_none() {
            self.endpoints = None;
            self.at = now + PACE;
        }
    }

    /// The store can't take it now.
    pub fn failed(&mut self, now: Instant) {
        self.at = now + RETRY;
    }
}

#[cfg(test)]
mod tests;
