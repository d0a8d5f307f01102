//! Explains step by step whether a connection is allowed and answered. The agent uses it with its view, the
//! coordinator with its state.
//!
//! The verdict says whether a SYN would be answered: the rule allows it, a live instance exists, and no known fault
//! breaks the path to its runner.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
};

use crate::{
    DeploymentId, Label, Release, ServiceId, ServicePath,
    message::Step,
    rules::{Denial, Rules, may_open},
    view::{InstanceState, TrustSource},
};

mod words;

/// An end of the connection.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// Its path.
    pub path: &'a ServicePath,
    /// Its service.
    pub service: ServiceId,
    /// Its deployment.
    pub deployment: DeploymentId,
    /// The service's address.
    pub address: Ipv4Addr,
}

/// The facts, in addition to the rules.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// The calling end.
    pub caller: End<'a>,
    /// The called end.
    pub callee: End<'a>,
    /// The callee's port.
    pub port: u16,
    /// What sets the callee's trust list, if that is known.
    pub trust_source: Option<TrustSource>,
    /// Whether to name the callee's address even if the rule refuses the connection.
    pub discloses: bool,
    /// The callee's instances.
    pub instances: Vec<Place<'a>>,
    /// The releases of the caller's instances.
    pub calling: BTreeSet<&'a Release>,
}

/// The place of an instance.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    /// The runner's name.
    pub runner: &'a Label,
    /// The connections that the instance gets.
    pub state: InstanceState,
    /// The release that it runs.
    pub release: Option<&'a Release>,
    /// Whether the runner is heard and has the instance.
    pub presence: Presence,
    /// The path of packets from the asking runner; `None` if the explaining side doesn't know it.
    pub path: Option<Path>,
}

/// What is known about an instance's runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is connected to the coordinator.
    Heard,
    /// It is not connected to the coordinator.
    Silent,
    /// It is the asking runner, and the instance's interface exists.
    Here,
    /// It is the asking runner, and the instance's interface doesn't exist (yet).
    Missing,
}

/// The path of packets to a runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Path {
    /// They stay on the machine.
    Local,
    /// A session exists.
    Direct {
        /// The runner's current endpoint.
        endpoint: SocketAddr,
        /// The age of the session.
        handshake_seconds: u64,
    },
    /// A session exists, by a relay.
    Relayed {
        /// The relay's name.
        relay: String,
        /// The age of the session.
        handshake_seconds: u64,
    },
    /// No session exists, and no handshake was tried: the first packet will start one.
    Untried {
        /// The endpoints that the handshake will try.
        endpoints: Vec<SocketAddr>,
    },
    /// Handshakes are not answered.
    NoAnswer {
        /// How many there were.
        tries: u64,
        /// For how many seconds.
        seconds: u64,
        /// The endpoints that were tried.
        endpoints: Vec<SocketAddr>,
    },
    /// The runner has no endpoint.
    NoAddress,
}

impl Path {
    /// The path to the runner with this name, in words.
    #[must_use]
    pub fn in_words(&self, runner: &Label) -> String {
        words::way(runner, self)
    }

    const fn is_open(&self) -> bool {
        matches!(self, Self::Local | Self::Direct { .. } | Self::Relayed { .. } | Self::Untried { .. })
    }
}

/// A verdict with its steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Whether a SYN would be answered.
    pub allowed: bool,
    /// The steps.
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
    steps.extend(words::release(facts, &live));
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
    /// Adds the paths from this runner to the callee's runners, to an explanation by the coordinator. Only for an
    /// allowed connection, because otherwise no packet would be sent.
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

/// The code of a denial, as in `denied` and `why`.
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

/// A word, quoted for a shell if needed.
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
