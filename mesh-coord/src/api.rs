//! What the admin API and `--json` show: version 1. Fields may be added; a renamed or dropped one is a new version.

use std::net::{Ipv4Addr, SocketAddr};

use mesh_model::{
    Admin, Offload, Outcome, TrustChange, UnixSeconds,
    declare::Trust as Entry,
    outcome::BothWays,
    record::{self, TrustSource, Verdict},
    tables::{InstanceRow, RunnerRow},
};
use mesh_proto::{
    DeploymentId, InstanceId, Label, Ports, Revision, RunnerId, ServiceName, ServicePath, TokenId, view::InstanceState,
};
use serde::{Deserialize, Serialize};

use crate::coordinator::{Core, Failure};

/// The version of every shape in here.
pub(crate) const VERSION: u32 = 1;

/// The answer to an administrator's command.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    /// The commit that holds what it changed.
    pub(crate) revision: Revision,
    /// What came of it.
    pub(crate) outcome: Outcome,
}

/// A new token.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NewToken {
    pub(crate) version: u32,
    pub(crate) id: TokenId,
    /// What its holder shows: a secret.
    pub(crate) token: String,
    /// From when on it is no longer good, in unix seconds.
    pub(crate) expires: UnixSeconds,
    /// What the operator may not have expected.
    pub(crate) warnings: Vec<String>,
    /// Where runners reach the coordinator, as it was told (`serve --advertise`); the token says it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) urls: Vec<String>,
    /// Where they may reach it, by its own guess.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) guess: Option<String>,
}

/// The runners.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Nodes {
    pub(crate) version: u32,
    pub(crate) nodes: Vec<Node>,
}

/// A runner.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Node {
    pub(crate) id: RunnerId,
    pub(crate) name: Label,
    pub(crate) provider: Label,
    pub(crate) state: NodeState,
    pub(crate) endpoints: Vec<SocketAddr>,
    /// Of the view that it says is in force; null if it isn't connected or hasn't said so.
    pub(crate) revision: Option<Revision>,
    /// How long ago it was last heard; null if never since the coordinator started.
    pub(crate) last_seen_seconds: Option<u64>,
    /// What it may host, in words.
    pub(crate) scope: String,
    pub(crate) instances: usize,
    /// The agent's version; empty before it first connected.
    pub(crate) agent: String,
    /// It is removed when it was not heard for ten minutes.
    #[serde(default)]
    pub(crate) ephemeral: bool,
    /// The offloads that are switched off there.
    #[serde(default)]
    pub(crate) off: Vec<Offload>,
    /// All that it hosts is drained, what it attaches later as well.
    #[serde(default)]
    pub(crate) drained: bool,
}

/// Whether a runner is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NodeState {
    /// Its stream stands.
    Online,
    /// It doesn't; what it hosts stays as it is.
    Silent,
    /// It was removed, and can't come back.
    Removed,
}

/// The deployments.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Deployments {
    pub(crate) version: u32,
    pub(crate) deployments: Vec<Deployment>,
}

/// A deployment.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Deployment {
    pub(crate) id: DeploymentId,
    pub(crate) deployment: Label,
    pub(crate) team: Label,
    pub(crate) services: usize,
    pub(crate) instances: usize,
    /// The patterns that a trust without services opens; null: all services.
    pub(crate) expose: Option<Vec<String>>,
    /// The deployments that may call it.
    pub(crate) trusts: Vec<Label>,
    /// The file that rules its trust; null: the `trust` command.
    pub(crate) trust_file: Option<String>,
}

/// The services.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Services {
    pub(crate) version: u32,
    pub(crate) services: Vec<Service>,
}

/// A service.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Service {
    pub(crate) deployment: Label,
    pub(crate) service: ServiceName,
    pub(crate) team: Label,
    pub(crate) address: Ipv4Addr,
    pub(crate) public_port: Option<u16>,
    pub(crate) instances: Vec<ServiceInstance>,
}

/// An instance, within its service.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ServiceInstance {
    pub(crate) id: InstanceId,
    pub(crate) address: Ipv4Addr,
    pub(crate) runner: Label,
    pub(crate) state: Reachable,
}

/// The instances.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Instances {
    pub(crate) version: u32,
    pub(crate) instances: Vec<Instance>,
}

/// An instance.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    pub(crate) service: ServicePath,
    pub(crate) address: Ipv4Addr,
    pub(crate) runner: Label,
    pub(crate) state: Reachable,
}

/// Which connections an instance takes, as far as the coordinator knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Reachable {
    /// New ones and standing ones.
    Live,
    /// Standing ones.
    Draining,
    /// None: it only calls.
    Client,
    /// Its runner isn't heard.
    Unreachable,
}

/// The tokens.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Tokens {
    pub(crate) version: u32,
    pub(crate) tokens: Vec<Token>,
}

/// A token, without its secret.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Token {
    pub(crate) id: TokenId,
    /// `join` or `admin`.
    pub(crate) kind: String,
    /// In words.
    pub(crate) scope: String,
    /// `good`, `expired`, `used up` or `revoked`.
    pub(crate) state: String,
    /// Null for an admin token.
    pub(crate) uses_left: Option<u32>,
    /// How long it is still good.
    pub(crate) expires_seconds: u64,
    /// The runners that it enrolled and that are not removed.
    pub(crate) nodes: Vec<Label>,
    /// What people call it.
    #[serde(default)]
    pub(crate) name: Option<String>,
}

/// What was changed, newest first.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Audit {
    pub(crate) version: u32,
    pub(crate) audit: Vec<AuditEntry>,
}

/// One change.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AuditEntry {
    pub(crate) number: u64,
    /// When, in unix seconds.
    pub(crate) at: UnixSeconds,
    pub(crate) by: String,
    pub(crate) action: String,
    pub(crate) detail: String,
    /// `done` or `refused`.
    #[serde(default)]
    pub(crate) result: Verdict,
    /// The name of the token that was shown.
    #[serde(default)]
    pub(crate) by_name: Option<String>,
    /// The team whose it is that was changed.
    #[serde(default)]
    pub(crate) team: Option<Label>,
    /// What was changed, by name.
    #[serde(default)]
    pub(crate) object: Option<String>,
}

/// Who may call a deployment.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Trust {
    pub(crate) version: u32,
    pub(crate) deployment: Label,
    pub(crate) trust: Vec<TrustEntry>,
    /// The runners concerned that have not confirmed that they apply all of it.
    pub(crate) pending: Vec<Label>,
}

/// Who may call a deployment, and both directions for each caller.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TrustPage {
    pub(crate) listing: Trust,
    pub(crate) directions: Vec<BothWays>,
    /// What the operator may not have expected.
    pub(crate) warnings: Vec<String>,
}

/// A change of a deployment's trust, if any, and how long to wait until all runners concerned have confirmed it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TrustAndWait {
    pub(crate) change: Option<TrustChange>,
    pub(crate) milliseconds: u64,
}

/// One caller's right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TrustEntry {
    pub(crate) caller: Label,
    /// Patterns of services; none: those that the deployment exposes.
    pub(crate) services: Vec<String>,
    /// None: every port.
    pub(crate) ports: Vec<u16>,
}

impl Nodes {
    pub(crate) fn of(core: &Core, reader: &Admin, now: UnixSeconds) -> Self {
        let nodes = core.state.nodes(reader).into_iter().map(|row| node(core, row, now)).collect();
        Self { version: VERSION, nodes }
    }
}

fn node(core: &Core, row: RunnerRow, now: UnixSeconds) -> Node {
    let state = match row.removed {
        Some(_) => NodeState::Removed,
        None if core.sessions.is_connected(row.id) => NodeState::Online,
        None => NodeState::Silent,
    };
    Node {
        id: row.id,
        name: row.name,
        provider: row.provider,
        state,
        endpoints: row.endpoints,
        revision: core.sessions.confirmed(row.id),
        last_seen_seconds: core.links.last_heard(row.id).map(|seen| now.since(UnixSeconds(seen))),
        scope: row.scope,
        instances: row.instances,
        agent: row.version,
        ephemeral: row.ephemeral,
        off: row.off,
        drained: row.drained,
    }
}

impl Deployments {
    pub(crate) fn of(core: &Core, reader: &Admin, _: UnixSeconds) -> Self {
        let row = |row: mesh_model::tables::DeploymentRow| {
            let mut trusts: Vec<Label> = row.trust.into_iter().map(|entry| entry.caller).collect();
            trusts.dedup();
            Deployment {
                id: row.id,
                deployment: row.deployment,
                team: row.team,
                services: row.services,
                instances: row.instances,
                expose: row.expose.map(|patterns| patterns.iter().map(ToString::to_string).collect()),
                trusts,
                trust_file: match row.trust_source {
                    TrustSource::Command => None,
                    TrustSource::File(name) => Some(name),
                },
            }
        };
        Self { version: VERSION, deployments: core.state.deployments(reader).into_iter().map(row).collect() }
    }
}

impl Services {
    pub(crate) fn of(core: &Core, reader: &Admin, _: UnixSeconds) -> Self {
        let instance = |row: InstanceRow| ServiceInstance {
            id: row.id,
            address: row.address,
            state: reachable(core, &row),
            runner: row.runner,
        };
        let services = core.state.services(reader).into_iter().map(|row| Service {
            deployment: row.deployment,
            service: row.service,
            team: row.team,
            address: row.address,
            public_port: row.public_port,
            instances: row.instances.into_iter().map(instance).collect(),
        });
        Self { version: VERSION, services: services.collect() }
    }
}

impl Instances {
    pub(crate) fn of(core: &Core, reader: &Admin, _: UnixSeconds) -> Self {
        let instances = core.state.instances(reader).into_iter().map(|row| Instance {
            id: row.id,
            address: row.address,
            state: reachable(core, &row),
            runner: row.runner,
            service: ServicePath { deployment: row.deployment, service: row.service },
        });
        Self { version: VERSION, instances: instances.collect() }
    }
}

fn reachable(core: &Core, row: &InstanceRow) -> Reachable {
    match row.state {
        _ if !core.sessions.is_connected(row.runner_id) => Reachable::Unreachable,
        InstanceState::Live => Reachable::Live,
        InstanceState::Draining => Reachable::Draining,
        InstanceState::Client => Reachable::Client,
    }
}

impl Tokens {
    pub(crate) fn of(core: &Core, reader: &Admin, now: UnixSeconds) -> Self {
        let tokens = core.state.tokens(reader, now).into_iter().map(|row| Token {
            id: row.id,
            kind: row.kind,
            scope: row.scope,
            state: row.state,
            uses_left: row.uses_left,
            expires_seconds: row.expires.since(now),
            nodes: row.runners,
            name: row.name,
        });
        Self { version: VERSION, tokens: tokens.collect() }
    }
}

impl Audit {
    pub(crate) fn of(core: &Core, reader: &Admin, limit: usize) -> Self {
        let entry = |entry: record::Audit| AuditEntry {
            number: entry.number,
            at: entry.at,
            by: entry.by.to_string(),
            action: entry.action,
            detail: entry.detail,
            result: entry.result,
            by_name: entry.by_name,
            team: entry.team,
            object: entry.object,
        };
        Self { version: VERSION, audit: core.state.audit(reader, limit).into_iter().map(entry).collect() }
    }
}

impl TrustPage {
    /// The page without the runners that are pending.
    ///
    /// # Errors
    /// If there is no such deployment for this reader.
    pub(crate) fn of(core: &Core, reader: &Admin, deployment: &Label) -> Result<Self, Failure> {
        let (deployment, trust, directions, warnings) = match core.state.trust_list(reader, deployment)? {
            Outcome::Trusted { deployment, trust, directions, warnings } => (deployment, trust, directions, warnings),
            other => return Err(Failure::unexpected(&other)),
        };
        let trust = trust.into_iter().map(TrustEntry::from).collect();
        let listing = Trust { version: VERSION, deployment, trust, pending: Vec::new() };
        Ok(Self { listing, directions, warnings })
    }
}

impl From<Entry> for TrustEntry {
    fn from(entry: Entry) -> Self {
        Self {
            caller: entry.caller,
            services: entry.services.unwrap_or_default().iter().map(ToString::to_string).collect(),
            ports: match entry.ports {
                Ports::All => Vec::new(),
                Ports::Only(ports) => ports.into_iter().collect(),
            },
        }
    }
}
