//! Why a connection may be opened and is answered, or not: step by step. The one implementation, for the agent's view and
//! the coordinator's state.
//!
//! The verdict answers whether a SYN would be answered by a runner: the rule lets it pass, a live instance is there, and
//! nothing that is known says that the path to it is broken.

use std::net::{Ipv4Addr, SocketAddr};

use crate::{
    DeploymentId, Label, ServiceId, ServicePath,
    message::Step,
    rules::{Denial, Rules, may_open},
    view::{InstanceState, TrustSource},
};

mod words;

/// One end of the connection in question.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// Its name.
    pub path: &'a ServicePath,
    /// Its service.
    pub service: ServiceId,
    /// Its deployment.
    pub deployment: DeploymentId,
    /// Its service address.
    pub address: Ipv4Addr,
}

/// What is known, for the verdict's rules aside.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// Who calls.
    pub caller: End<'a>,
    /// Whom.
    pub callee: End<'a>,
    /// On which port.
    pub port: u16,
    /// What rules the callee's trust, as far as that is known.
    pub trust_source: Option<TrustSource>,
    /// Whether the callee's address may be named where the rule refuses the connection.
    pub discloses: bool,
    /// The callee's instances.
    pub instances: Vec<Place<'a>>,
}

/// Where an instance of the callee is.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    /// The runner's name.
    pub runner: &'a Label,
    /// What the instance takes.
    pub state: InstanceState,
    /// Whether the runner is heard, and holds the instance.
    pub presence: Presence,
    /// How packets go there from the runner that is asked; `None` if that isn't for the teller to say.
    pub path: Option<Path>,
}

/// What is known of the runner of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// The coordinator hears it.
    Heard,
    /// The coordinator doesn't hear it.
    Silent,
    /// It is the runner that is asked, and the instance's interface is there.
    Here,
    /// The same, and the interface isn't there (yet).
    Missing,
}

/// How packets go to a runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Path {
    /// They don't leave the machine.
    Local,
    /// There is a session.
    Direct {
        /// Where the runner is.
        endpoint: SocketAddr,
        /// The age of the session.
        handshake_seconds: u64,
    },
    /// A handshake is made when there is something to send, and none was.
    Untried {
        /// Where the first packet will try.
        endpoints: Vec<SocketAddr>,
    },
    /// Handshakes go unanswered.
    NoAnswer {
        /// How many.
        tries: u64,
        /// For how long.
        seconds: u64,
        /// Where they were sent to.
        endpoints: Vec<SocketAddr>,
    },
    /// The runner has named no address.
    NoAddress,
}

impl Path {
    /// The way to a runner of that name, in words.
    #[must_use]
    pub fn in_words(&self, runner: &Label) -> String {
        words::way(runner, self)
    }

    const fn is_open(&self) -> bool {
        matches!(self, Self::Local | Self::Direct { .. } | Self::Untried { .. })
    }
}

/// The verdict and what led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Whether a SYN would be answered.
    pub allowed: bool,
    /// Step by step.
    pub steps: Vec<Step>,
}

/// Explains a connection.
#[must_use]
pub fn explain(rules: &impl Rules, facts: &Facts<'_>) -> Explanation {
    let Facts { caller, callee, port, .. } = facts;
    let ruling = may_open(rules, caller.service, callee.service, *port);
    let mut steps = vec![words::names(facts, ruling), words::rule(rules, facts, ruling)];
    if let Err(denial) = ruling {
        steps.push(words::denied(caller.path, callee.path, *port, denial));
        return Explanation { allowed: false, steps };
    }
    let live: Vec<&Place<'_>> = facts.instances.iter().filter(|place| place.state == InstanceState::Live).collect();
    let runner = words::runner(facts, &live);
    let mut allowed = runner.ok;
    steps.push(runner);
    let mut paths: Vec<(&Label, &Path)> =
        live.iter().filter_map(|place| Some((place.runner, place.path.as_ref()?))).collect();
    paths.dedup();
    if !paths.is_empty() {
        let path = words::path(&paths);
        allowed &= path.ok;
        steps.push(path);
    }
    steps.push(words::verdict(caller.path, callee.path, *port, allowed));
    Explanation { allowed, steps }
}

impl Explanation {
    /// Adds how this runner reaches those that the callee is on, to what the coordinator has said of the rest. Only for a
    /// verdict that is in favour: else nothing would be sent.
    #[must_use]
    pub fn with_paths(
        mut self,
        caller: &ServicePath,
        callee: &ServicePath,
        port: u16,
        paths: &[(&Label, &Path)],
    ) -> Self {
        if !self.allowed || paths.is_empty() {
            return self;
        }
        let path = words::path(paths);
        self.allowed = path.ok;
        self.steps.pop();
        self.steps.push(path);
        self.steps.push(words::verdict(caller, callee, port, self.allowed));
        self
    }
}

/// The reason for a refusal as `denied` and `why` name it.
#[must_use]
pub const fn code(denial: Denial) -> &'static str {
    match denial {
        Denial::UnknownService => "unknown-service",
        Denial::AnotherTeam => "another-team",
        Denial::NoTrust => "no-trust",
        Denial::PortNotTrusted => "port-not-trusted",
        Denial::WrongWay => "wrong-way",
    }
}

/// A word as a shell has to be given it.
#[must_use]
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests;
