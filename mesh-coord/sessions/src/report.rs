//! What an agent reports about its runner. An agent reports once: what can't be stored now (the disk is full) is
//! stored later, and the stream goes on meanwhile.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use mesh_model::{Command, RunnerCommand, record::Outside};
use mesh_proto::{RunnerId, message::Ask};

/// How long after a failure the store is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How many instances of a hello cost one turn.
const INSTANCES_A_TURN: usize = 64;
/// The minimum time between two changes of the endpoints, because each is sent to all the runner's peers.
const PACE: Duration = Duration::from_secs(1);

/// What a stream has reported and the store doesn't hold yet.
#[derive(Debug)]
pub struct Report {
    runner: RunnerId,
    /// The hello. It ends the instances that it doesn't name, so it is stored first.
    hello: Option<RunnerCommand>,
    /// The endpoints of the last report, and what it told of addresses outside.
    endpoints: Option<(Vec<SocketAddr>, Outside)>,
    /// When to store the next of these.
    at: Instant,
}

impl Report {
    /// The report of a stream that begins with `hello`.
    #[must_use]
    pub const fn new(runner: RunnerId, hello: RunnerCommand, now: Instant) -> Self {
        Self { runner, hello: Some(hello), endpoints: None, at: now }
    }

    /// Replaces the endpoints. `turn` returns when the runner's rate limit allows them to be stored, or `None` if
    /// that is too far off; it is called only if a turn is needed.
    pub fn endpoints(
        &mut self,
        endpoints: Vec<SocketAddr>,
        outside: Outside,
        now: Instant,
        turn: impl FnOnce() -> Option<Instant>,
    ) {
        if self.endpoints.replace((endpoints, outside)).is_none() {
            self.at = self.at.max(turn().unwrap_or(now + RETRY));
        }
    }

    /// Whether the hello is not stored yet.
    #[must_use]
    pub const fn is_behind(&self) -> bool {
        self.hello.is_some()
    }

    /// How many turns storing the hello costs.
    #[must_use]
    pub fn weight(&self) -> u32 {
        let instances = match &self.hello {
            Some(RunnerCommand::Hello { instances, .. }) => instances.len(),
            _ => 0,
        };
        u32::try_from(instances / INSTANCES_A_TURN).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// Whether the hello has to be stored before this question is answered.
    #[must_use]
    pub const fn precedes(&self, ask: &Ask) -> bool {
        match ask {
            Ask::Settle { .. } | Ask::Lookup { .. } | Ask::Why { .. } => false,
            Ask::Attach { .. } | Ask::Detach { .. } | Ask::Drain { .. } | Ask::Undrain { .. } | Ask::Leave => {
                self.hello.is_some()
            }
        }
    }

    /// When to store something next; `None` if all is stored.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        (self.hello.is_some() || self.endpoints.is_some()).then_some(self.at)
    }

    /// What to store next; `None` if all is stored.
    #[must_use]
    pub fn next(&self) -> Option<Command> {
        let endpoints = || {
            let (endpoints, outside) = self.endpoints.clone()?;
            Some(RunnerCommand::Endpoints { endpoints, outside })
        };
        let what = self.hello.clone().or_else(endpoints)?;
        Some(Command::Runner { by: self.runner, what })
    }

    /// The command of [`Self::next`] was stored.
    pub fn stored(&mut self, now: Instant) {
        if self.hello.take().is_none() {
            self.endpoints = None;
            self.at = now + PACE;
        }
    }

    /// The store can't take the command now.
    pub fn failed(&mut self, now: Instant) {
        self.at = now + RETRY;
    }
}

#[cfg(test)]
mod tests;
