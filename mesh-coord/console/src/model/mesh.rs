//! The mesh as a whole, its runners and its relays.

use std::collections::BTreeMap;

use serde::Deserialize;

/// `GET overview`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Overview {
    /// The last commit.
    pub revision: u64,
    /// Whether commands can be carried out.
    pub ready: bool,
    /// Runners by provider.
    pub providers: Vec<Provider>,
    /// The number of deployments.
    pub deployments: usize,
    /// The number of services.
    pub services: usize,
    /// Instances by their state.
    pub instances: BTreeMap<String, usize>,
    /// What needs the operator.
    pub needs: Vec<Need>,
}

/// The runners of a provider.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Provider {
    /// Its name.
    pub provider: String,
    /// Connected runners.
    pub online: usize,
    /// Runners without a stream.
    pub silent: usize,
    /// Their instances.
    pub instances: usize,
}

/// Something that needs the operator.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Need {
    /// `error`, `warning` or `note`.
    pub level: String,
    /// In words.
    pub text: String,
    /// What to try next.
    pub hint: String,
}

/// `GET nodes`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Nodes {
    /// The runners.
    pub nodes: Vec<Node>,
}

/// A runner.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Node {
    /// Its identifier.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its provider.
    pub provider: String,
    /// `online`, `silent` or `removed`.
    pub state: String,
    /// Its addresses.
    pub endpoints: Vec<String>,
    /// When it was last heard.
    pub last_seen_seconds: Option<u64>,
    /// What it may host.
    pub scope: String,
    /// The number of its instances.
    pub instances: usize,
    /// The agent's version.
    pub agent: String,
    /// Whether it gets no new connections.
    #[serde(default)]
    pub drained: bool,
    /// The offloads that are off.
    #[serde(default)]
    pub off: Vec<String>,
}

/// `GET relays`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Relays {
    /// The relays.
    pub relays: Vec<Relay>,
}

/// A relay.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Relay {
    /// Its name.
    pub name: String,
    /// `own` or `turn`.
    pub kind: String,
    /// `online`, `silent`, `added` or `no-secret`.
    pub state: String,
    /// Where it takes datagrams.
    pub udp: Vec<String>,
    /// How many runners have an address there.
    pub nodes: usize,
    /// An own relay's version.
    pub agent: Option<String>,
}
