//! The admin API and `--json` output, version 1. Fields may be added. A renamed or removed field needs a new version.

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

/// The version of all these shapes.
pub(crate) const VERSION: u32 = 1;

/// The answer to an administrator's command.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    /// The commit with its changes.
    pub(crate) revision: Revision,
    /// Its outcome.
    pub(crate) outcome: Outcome,
}

/// A new token.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NewToken {
    pub(crate) version: u32,
    pub(crate) id: TokenId,
    /// The token's text, a secret.
    pub(crate) token: String,
    /// When it expires, in Unix seconds.
    pub(crate) expires: UnixSeconds,
    /// Effects that the operator may not expect.
    pub(crate) warnings: Vec<String>,
    /// The URLs of `serve --advertise`, which the token contains.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) urls: Vec<String>,
    /// The coordinator's guess of its URL.
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
    /// The revision of the view that it has confirmed; null if it isn't connected or hasn't confirmed any.
    pub(crate) revision: Option<Revision>,
    /// How long ago it was last heard; null if not since the coordinator's start.
    pub(crate) last_seen_seconds: Option<u64>,
    /// Its scope, in words.
    pub(crate) scope: String,
    pub(crate) instances: usize,
    /// The agent's version; empty before its first hello.
    pub(crate) agent: String,
    /// Whether it is removed after ten minutes of silence.
    #[serde(default)]
    pub(crate) ephemeral: bool,
    /// The offloads that are off.
    #[serde(default)]
    pub(crate) off: Vec<Offload>,
    /// Whether all its instances are drained, also later ones.
    #[serde(default)]
    pub(crate) drained: bool,
}

/// Whether a runner is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NodeState {
    /// Connected.
    Online,
    /// Not connected. Its instances stay.
    Silent,
    /// Removed for good.
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
    /// What a trust without services opens; null: all services.
    pub(crate) expose: Option<Vec<String>>,
    /// The deployments that may call it.
    pub(crate) trusts: Vec<Label>,
    /// The file that sets its trust list; null: the `trust` command.
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

/// An instance of a listed service.
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

/// The connections that an instance gets, as far as the coordinator knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Reachable {
    /// New and open ones.
    Live,
    /// Only open ones.
    Draining,
    /// None, because it only calls.
    Client,
    /// None, because its runner isn't connected.
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
    /// Its purpose, in words.
    pub(crate) scope: String,
    /// `good`, `expired`, `used up` or `revoked`.
    pub(crate) state: String,
    /// Null for an admin token.
    pub(crate) uses_left: Option<u32>,
    /// How long it is still valid.
    pub(crate) expires_seconds: u64,
    /// The runners that it enrolled, without removed ones.
    pub(crate) nodes: Vec<Label>,
    /// A name for people.
    #[serde(default)]
    pub(crate) name: Option<String>,
}

/// The audit, newest entry first.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Audit {
    pub(crate) version: u32,
    pub(crate) audit: Vec<AuditEntry>,
}

/// An audit entry.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AuditEntry {
    pub(crate) number: u64,
    /// When it happened, in Unix seconds.
    pub(crate) at: UnixSeconds,
    pub(crate) by: String,
    pub(crate) action: String,
    pub(crate) detail: String,
    /// `done` or `refused`.
    #[serde(default)]
    pub(crate) result: Verdict,
    /// The name of the actor's token.
    #[serde(default)]
    pub(crate) by_name: Option<String>,
    /// The team that owns the changed object.
    #[serde(default)]
    pub(crate) team: Option<Label>,
    /// The name of the changed object.
    #[serde(default)]
    pub(crate) object: Option<String>,
}

/// A deployment's trust list.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Trust {
    pub(crate) version: u32,
    pub(crate) deployment: Label,
    pub(crate) trust: Vec<TrustEntry>,
    /// The affected runners that have not confirmed all of it.
    pub(crate) pending: Vec<Label>,
}

/// A deployment's trust list, and both directions for each caller.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TrustPage {
    pub(crate) listing: Trust,
    pub(crate) directions: Vec<BothWays>,
    /// Effects that the operator may not expect.
    pub(crate) warnings: Vec<String>,
}

/// An optional change of a trust list, and how long to wait for the affected runners' confirmations.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TrustAndWait {
    pub(crate) change: Option<TrustChange>,
    pub(crate) milliseconds: u64,
}

/// An entry of a trust list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TrustEntry {
    pub(crate) caller: Label,
    /// The services; empty: those that the deployment exposes.
    pub(crate) services: Vec<String>,
    /// The ports; empty: all.
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
    /// The trust list, without pending runners.
    ///
    /// # Errors
    /// If the reader sees no such deployment.
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
