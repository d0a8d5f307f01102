//! The admin API and `--json` output, version 1. Fields may be added. A renamed or removed field needs a new version.

mod fill;
mod happened;
mod lacking;
mod members;
mod objects;
mod overview;
mod page;
mod series;
mod traffic;
mod why;

use std::net::{Ipv4Addr, SocketAddr};

use mesh_model::{Effect, Offload, Outcome, Role, TrustChange, UnixSeconds, outcome::BothWays, record::Verdict};
use mesh_proto::{
    DeploymentId, InstanceId, Label, RelayId, Release, Revision, RunnerId, ServiceName, ServicePath, TokenId,
    relay::{Nat, Place},
    token::Fingerprint,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub(crate) use happened::{Applied, EventsQuery, Happened, Kind, Reports};
pub(crate) use lacking::Lacking;
pub(crate) use members::{Member, MemberState, Members};
pub(crate) use objects::{DeploymentPage, ForceQuery, Me, NewDeployment, RevokeQuery, TrustAll, WithPrune, WriteQuery};
pub(crate) use overview::{BEHIND, Level, Overview};
pub(crate) use page::{ListQuery, Listed};
pub(crate) use series::{Series, SeriesQuery};
pub(crate) use traffic::{Coverage, Edge, Edges, LOOKED_AT, Refusals, Refused as RefusedRow, Reported, TrafficQuery};
pub(crate) use why::{Answered, Probed, Why, WhyQuery};

/// The version of all these shapes.
pub(crate) const VERSION: u32 = 1;
/// How a coordinator answers at a path that it doesn't know. Clients tell earlier versions by it.
pub(crate) const NOTHING_THERE: &str = "the coordinator has nothing at this path";

/// The answer to an administrator's command.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Done {
    /// The commit with its changes.
    pub(crate) revision: Revision,
    /// Its outcome.
    pub(crate) outcome: Outcome,
}

/// The answer to `apply`, and to a command that was only tried.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Previewed {
    /// The commit with its changes, or the one on which it was tried.
    pub(crate) revision: Revision,
    /// Its outcome.
    pub(crate) outcome: Outcome,
    /// What it would take away, if it was only tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) effect: Option<Effect>,
}

/// A new token.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
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

/// The answer to a request for a token.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum MadeOrTried {
    /// The token was made.
    Made(NewToken),
    /// It was a dry run.
    Tried(Previewed),
}

/// The runners.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Nodes {
    pub(crate) version: u32,
    pub(crate) nodes: Vec<Node>,
    /// The `cursor` of the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
    /// Coordinators that don't answer, so that `revision` and `last_seen_seconds` of their runners are not of now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) lacking: Vec<Lacking>,
}

/// A runner.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Node {
    pub(crate) id: RunnerId,
    pub(crate) name: Label,
    pub(crate) provider: Label,
    pub(crate) state: NodeState,
    #[schema(value_type = Vec<String>)]
    pub(crate) endpoints: Vec<SocketAddr>,
    /// The revision of the view that it has confirmed; null if it isn't connected or hasn't confirmed any.
    pub(crate) revision: Option<Revision>,
    /// How long ago it was last heard; null if not since the start of any coordinator.
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
    /// Its addresses as relays see them.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub(crate) reflexive: Vec<SocketAddr>,
    /// Its addresses at relays.
    #[serde(default)]
    pub(crate) relayed: Vec<RelayedAt>,
    /// What is between it and the outside; null if it hasn't told.
    #[serde(default)]
    pub(crate) nat: Option<Nat>,
}

/// A runner's address at a relay.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct RelayedAt {
    /// The relay's name.
    pub(crate) relay: Label,
    #[schema(value_type = String)]
    pub(crate) address: SocketAddr,
}

/// Whether a runner is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NodeState {
    /// Connected.
    Online,
    /// Not connected. Its instances stay.
    Silent,
    /// Removed for good.
    Removed,
}

/// A TURN server to add, with its secret.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct NewRelay {
    #[serde(flatten)]
    pub(crate) relay: mesh_model::NewRelay,
    /// The text of its secret.
    pub(crate) secret: String,
}

/// The relays.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Relays {
    pub(crate) version: u32,
    pub(crate) relays: Vec<Relay>,
    /// Coordinators that don't answer, so that own relays with a stream there are shown as silent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) lacking: Vec<Lacking>,
}

/// A relay.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Relay {
    pub(crate) id: RelayId,
    pub(crate) name: Label,
    pub(crate) kind: RelayWord,
    pub(crate) state: RelayState,
    pub(crate) udp: Vec<Place>,
    pub(crate) tcp: Vec<Place>,
    pub(crate) tls: Vec<Place>,
    /// The fingerprint of its TLS key.
    pub(crate) fingerprint: Option<Fingerprint>,
    /// How many runners have an address there, as they have told.
    pub(crate) nodes: usize,
    /// An own relay's version; null for another.
    pub(crate) agent: Option<String>,
}

/// What a relay is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RelayWord {
    /// `mesh-coord relay`.
    Own,
    /// Another TURN server.
    Turn,
}

/// How a relay stands, as far as the coordinator knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RelayState {
    /// An own one that is connected.
    Online,
    /// An own one that is not. It relays all the same, if it runs.
    Silent,
    /// Another TURN server, which has no connection to the coordinator.
    Added,
    /// Its secret is missing, so no runner uses it.
    NoSecret,
}

/// The deployments.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Deployments {
    pub(crate) version: u32,
    pub(crate) deployments: Vec<Deployment>,
    /// The `cursor` of the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

/// A deployment.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
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
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Services {
    pub(crate) version: u32,
    pub(crate) services: Vec<Service>,
    /// The `cursor` of the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

/// A service.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Service {
    pub(crate) deployment: Label,
    pub(crate) service: ServiceName,
    pub(crate) team: Label,
    #[schema(value_type = String, format = Ipv4)]
    pub(crate) address: Ipv4Addr,
    pub(crate) public_port: Option<u16>,
    pub(crate) instances: Vec<ServiceInstance>,
}

/// An instance of a listed service.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ServiceInstance {
    pub(crate) id: InstanceId,
    #[schema(value_type = String, format = Ipv4)]
    pub(crate) address: Ipv4Addr,
    pub(crate) runner: Label,
    pub(crate) state: Reachable,
    /// The release that it runs; null if it wasn't told.
    #[serde(default)]
    pub(crate) release: Option<Release>,
}

/// The instances.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Instances {
    pub(crate) version: u32,
    pub(crate) instances: Vec<Instance>,
    /// The `cursor` of the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

/// An instance.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    pub(crate) service: ServicePath,
    #[schema(value_type = String, format = Ipv4)]
    pub(crate) address: Ipv4Addr,
    pub(crate) runner: Label,
    pub(crate) state: Reachable,
    /// The release that it runs; null if it wasn't told.
    #[serde(default)]
    pub(crate) release: Option<Release>,
}

/// The connections that an instance gets, as far as the coordinator knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Tokens {
    pub(crate) version: u32,
    pub(crate) tokens: Vec<Token>,
    /// The `cursor` of the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

/// A token, without its secret.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Token {
    pub(crate) id: TokenId,
    /// `join`, `admin` or `relay`.
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
    /// What an admin token allows; null for others.
    #[serde(default)]
    pub(crate) role: Option<Role>,
}

/// The audit, newest entry first.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Audit {
    pub(crate) version: u32,
    pub(crate) audit: Vec<AuditEntry>,
    /// The `before` of the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<u64>,
    /// Whether the coordinator knows filters: earlier versions answer with all entries.
    #[serde(default)]
    pub(crate) filtered: bool,
}

/// An audit entry.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
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
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Trust {
    pub(crate) version: u32,
    pub(crate) deployment: Label,
    pub(crate) trust: Vec<TrustEntry>,
    /// The affected runners that have not confirmed all of it.
    pub(crate) pending: Vec<Label>,
    /// How many runners are affected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) concerned: Option<usize>,
}

/// A deployment's trust list, and both directions for each caller.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct TrustPage {
    pub(crate) listing: Trust,
    pub(crate) directions: Vec<BothWays>,
    /// Effects that the operator may not expect.
    pub(crate) warnings: Vec<String>,
}

/// An optional change of a trust list, and how long to wait for the affected runners' confirmations.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct TrustAndWait {
    pub(crate) change: Option<TrustChange>,
    pub(crate) milliseconds: u64,
}

/// An entry of a trust list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct TrustEntry {
    pub(crate) caller: Label,
    /// The services; empty: those that the deployment exposes.
    pub(crate) services: Vec<String>,
    /// The ports; empty: all.
    pub(crate) ports: Vec<u16>,
}
