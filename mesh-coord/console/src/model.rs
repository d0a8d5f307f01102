//! What pages show, as the admin API answers it (`docs/reference/json.md`). Other fields are ignored, and ones that an
//! earlier coordinator lacks are empty.

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

/// `GET services`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Services {
    /// The services.
    pub services: Vec<Service>,
}

/// A service.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Service {
    /// Its deployment.
    pub deployment: String,
    /// Its name.
    pub service: String,
    /// Its team.
    pub team: String,
    /// Its address.
    pub address: String,
    /// Its instances.
    pub instances: Vec<ServiceInstance>,
}

impl Service {
    /// `DEPLOYMENT/SERVICE`.
    pub(crate) fn path(&self) -> String {
        format!("{}/{}", self.deployment, self.service)
    }
}

/// An instance of a service.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct ServiceInstance {
    /// Its identifier.
    pub id: String,
    /// Its runner.
    pub runner: String,
    /// `live`, `draining`, `client` or `unreachable`.
    pub state: String,
    /// The release that it runs.
    #[serde(default)]
    pub release: Option<String>,
}

/// `GET deployments`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Deployments {
    /// The deployments.
    pub deployments: Vec<Deployment>,
}

/// A deployment.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Deployment {
    /// Its name.
    pub deployment: String,
    /// Its team.
    pub team: String,
    /// The number of its services.
    #[serde(default)]
    pub services: usize,
    /// The number of their instances.
    #[serde(default)]
    pub instances: usize,
    /// What a trust without services opens; `None`: all services.
    #[serde(default)]
    pub expose: Option<Vec<String>>,
    /// The deployments that may call it.
    pub trusts: Vec<String>,
    /// The file that sets its trust list; `None`: the `trust` command.
    #[serde(default)]
    pub trust_file: Option<String>,
}

/// `GET trust/DEPLOYMENT`, without the sentences.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Trust {
    /// The list.
    pub trust: Vec<TrustEntry>,
    /// The runners concerned that don't apply all of it yet.
    pub pending: Vec<String>,
    /// How many runners it concerns; an earlier coordinator doesn't tell.
    #[serde(default)]
    pub concerned: Option<usize>,
}

/// An entry of a trust list.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct TrustEntry {
    /// Who may call.
    pub caller: String,
    /// The services; empty: those that the deployment exposes.
    pub services: Vec<String>,
    /// The ports; empty: all.
    pub ports: Vec<u16>,
}

/// `GET instances`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Instances {
    /// The instances.
    pub instances: Vec<Instance>,
}

/// An instance.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Instance {
    /// Its identifier.
    pub id: String,
    /// Its service, as `DEPLOYMENT/SERVICE`.
    pub service: String,
    /// Its address.
    pub address: String,
    /// Its runner.
    pub runner: String,
    /// `live`, `draining`, `client` or `unreachable`.
    pub state: String,
}

/// `GET tokens`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Tokens {
    /// The tokens.
    pub tokens: Vec<Token>,
}

/// A token, without its secret.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Token {
    /// Its identifier.
    pub id: String,
    /// `join`, `admin` or `relay`.
    pub kind: String,
    /// Its purpose, in words.
    pub scope: String,
    /// `good`, `expired`, `used up` or `revoked`.
    pub state: String,
    /// How often it can be used still.
    pub uses_left: Option<u32>,
    /// How long it is still valid.
    pub expires_seconds: u64,
    /// The runners that it enrolled.
    pub nodes: Vec<String>,
    /// A name for people.
    #[serde(default)]
    pub name: Option<String>,
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

/// `GET me`: who looks.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Me {
    /// What it may do; a coordinator without roles allows everything.
    #[serde(default)]
    pub role: Role,
    /// The team to which it is limited.
    #[serde(default)]
    pub team: Option<String>,
    /// The token; `None` at the socket.
    #[serde(default)]
    pub token: Option<String>,
    /// The name of the token.
    #[serde(default)]
    pub name: Option<String>,
}

/// What an administrator may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look.
    Viewer,
    /// Also give and take trust, and drain.
    Operator,
    /// Everything.
    #[default]
    Admin,
}

/// How much of the mesh an answer is about.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Coverage {
    /// All runners.
    pub runners: usize,
    /// Those that have reported.
    pub reporting: usize,
    /// The age of the oldest of the last reports.
    pub oldest_seconds: Option<u64>,
    /// Coordinators that don't answer, so that what their runners report is missing or old.
    #[serde(default)]
    pub lacking: Vec<Lacking>,
}

/// A coordinator that doesn't answer.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Lacking {
    /// The name of its machine.
    pub host: String,
}

/// `GET edges`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Edges {
    /// How much of the mesh it is about.
    #[serde(flatten)]
    pub coverage: Coverage,
    /// Pairs of services.
    pub edges: Vec<Edge>,
}

/// What passed between two services.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Edge {
    /// The caller.
    pub from: String,
    /// The callee.
    pub to: String,
    /// Connections that stand.
    pub open: u64,
    /// Connections that were accepted.
    pub opened: u64,
    /// Attempts that the callee has refused.
    pub refused: u64,
    /// Attempts without an answer.
    pub unanswered: u64,
    /// Bytes from the caller.
    pub sent_bytes: u64,
    /// Bytes from the callee.
    pub received_bytes: u64,
    /// How long ago it was in use.
    pub used_seconds: Option<u64>,
}

/// `GET refused`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Refusals {
    /// How much of the mesh it is about.
    #[serde(flatten)]
    pub coverage: Coverage,
    /// The latest first.
    pub refused: Vec<Refused>,
}

/// A kind of refused connections.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Refused {
    /// The caller.
    pub from: String,
    /// The callee.
    pub to: String,
    /// The port; zero: it wasn't TCP.
    pub port: u16,
    /// The reason.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// The runner that refused.
    pub node: String,
    /// How long ago the last one was.
    pub age_seconds: u64,
}

/// `GET audit`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Audit {
    /// The newest first.
    pub audit: Vec<Entry>,
    /// The `before` of the next page.
    #[serde(default)]
    pub next: Option<u64>,
}

/// An entry of the audit.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Entry {
    /// When it happened, in Unix seconds.
    pub at: u64,
    /// Who did it.
    pub by: String,
    /// The name of the actor's token.
    #[serde(default)]
    pub by_name: Option<String>,
    /// What was done.
    pub action: String,
    /// In words.
    pub detail: String,
    /// `done` or `refused`.
    #[serde(default)]
    pub result: String,
}

/// `GET why`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Why {
    /// `allow` or `deny`.
    pub verdict: String,
    /// The steps that led there.
    pub steps: Vec<Step>,
}

/// A step of an explanation.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Step {
    /// Its name.
    pub step: String,
    /// Whether it allows the connection.
    pub ok: bool,
    /// The finding.
    pub detail: String,
}
