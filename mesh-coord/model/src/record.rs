//! What the coordinator keeps: records, each with a key of its own, so that any engine that maps keys to texts and can
//! compare and swap (SQLite, memory, etcd) can hold them. The engine notes with each the revision that wrote it.

mod key;

use std::{
    collections::BTreeSet,
    fmt,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use mesh_proto::{
    DeploymentId, InstanceId, Label, PublicKey, RunnerId, SecretHash, ServiceId, ServiceName, TokenId,
    message::Switches, view::Network,
};
use serde::{Deserialize, Serialize};

pub use key::{Change, Key, ParseKeyError};
pub use mesh_proto::view::Instance;

use crate::{
    RunningSeconds, UnixSeconds,
    declare::{Declared, Pattern, Trust},
    limits,
};

/// One thing that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[expect(missing_docs, reason = "each variant is documented at the type that it holds")]
pub enum Record {
    Meta(Arc<Meta>),
    Runner(Arc<Runner>),
    Token(Arc<Token>),
    Deployment(Arc<Deployment>),
    Service(Arc<Service>),
    Instance(Arc<Instance>),
    Freed(Arc<Freed>),
    Audit(Arc<Audit>),
}

impl Record {
    /// What it is kept under.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Meta(_) => Key::Meta,
            Self::Runner(r) => Key::Runner(r.id),
            Self::Token(t) => Key::Token(t.id),
            Self::Deployment(d) => Key::Deployment(d.id),
            Self::Service(s) => Key::Service(s.id),
            Self::Instance(i) => Key::Instance(i.id),
            Self::Freed(f) => Key::Freed(f.address),
            Self::Audit(a) => Key::Audit(a.number),
        }
    }
}

/// What there is one of. It is rewritten by every commit that assigns a number or an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The range and the MTU, chosen at the coordinator's first start.
    pub network: Network,
    /// How long a freed address rests, in seconds.
    pub quarantine: u64,
    /// The numbers that are given next.
    pub next: Next,
    /// The offloads that are on where the runner's own switches leave them on.
    #[serde(default, skip_serializing_if = "is_default")]
    pub switches: Switches,
}

/// An MTU that no `mesh0` can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an MTU of {mtu} bytes is not between {} and {}: choose another with --mtu; 1344 suits most networks",
    limits::MTU.start(),
    limits::MTU.end()
)]
pub struct MtuError {
    /// The MTU, in bytes.
    pub mtu: u16,
}

/// The numbers that are given next, once each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Next {
    /// To a runner.
    pub runner: u64,
    /// To a token.
    pub token: u64,
    /// To a deployment.
    pub deployment: u64,
    /// To a service.
    pub service: u64,
    /// To an instance.
    pub instance: u64,
    /// To an entry of the audit.
    pub audit: u64,
    /// To a freed address: its place in the order of reuse.
    pub freed: u64,
    /// The first address that no service has had; they are given upwards.
    pub service_address: Ipv4Addr,
    /// The last address that no instance has had; they are given downwards.
    pub instance_address: Ipv4Addr,
}

impl Meta {
    /// The record to commit at the coordinator's first start.
    ///
    /// # Errors
    /// If no `mesh0` can have that MTU.
    pub fn new(network: Network) -> Result<Self, MtuError> {
        if !limits::MTU.contains(&network.mtu) {
            return Err(MtuError { mtu: network.mtu });
        }
        let (first, last) = (network.range.first().to_bits(), network.range.last().to_bits());
        Ok(Self {
            network,
            quarantine: limits::QUARANTINE,
            switches: Switches::default(),
            next: Next {
                runner: 1,
                token: 1,
                deployment: 1,
                service: 1,
                instance: 1,
                audit: 1,
                freed: 1,
                service_address: Ipv4Addr::from_bits(first + 1),
                instance_address: Ipv4Addr::from_bits(last - 1),
            },
        })
    }
}

/// A machine that runs, or ran, the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runner {
    /// Its identifier.
    pub id: RunnerId,
    /// Its name, unique among those that are not removed.
    pub name: Label,
    /// Whose machine it is: a label, without effect.
    pub provider: Label,
    /// Its WireGuard public key.
    pub public_key: PublicKey,
    /// The hash of its credential's secret.
    pub credential: SecretHash,
    /// When it enrolled first.
    pub enrolled: UnixSeconds,
    /// The token with which it enrolled (last).
    pub token: TokenId,
    /// That token's scope: what it may ever host.
    pub scope: Scope,
    /// The agent's version, as told at the last stream; empty before the first.
    pub version: String,
    /// Where it may be reached by UDP, as it told.
    pub endpoints: Vec<SocketAddr>,
    /// Where the coordinator saw it, with its UDP port; `None` where the operator gave the endpoints.
    pub seen: Option<SocketAddr>,
    /// When it was removed: it can't come back.
    pub removed: Option<UnixSeconds>,
    /// It is removed after [`limits::EPHEMERAL`] seconds of silence.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ephemeral: bool,
    /// It is silent: others are preferred.
    #[serde(default, skip_serializing_if = "is_default")]
    pub silent: bool,
    /// Its own switches.
    #[serde(default, skip_serializing_if = "is_default")]
    pub switches: Switches,
    /// The team whose token it enrolled with: it counts for that team. `None`: an operator's.
    #[serde(default, skip_serializing_if = "is_default")]
    pub team: Option<Label>,
    /// All that it hosts is drained, what it attaches later as well.
    #[serde(default, skip_serializing_if = "is_default")]
    pub drained: bool,
    /// Instances that were drained and are so no longer, whatever the agent remembers.
    #[serde(default, skip_serializing_if = "is_default")]
    pub undrained: BTreeSet<InstanceId>,
    /// Of a drained runner: the instances that were drained by themselves, before it or since. They stay drained with it
    /// undrained.
    #[serde(default, skip_serializing_if = "is_default")]
    pub drained_apart: BTreeSet<InstanceId>,
}

impl Runner {
    /// The team that it counts for.
    #[must_use]
    pub fn owner(&self) -> Option<&Label> {
        self.team.as_ref().or_else(|| self.scope.only_team())
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What a token's runners may host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Everything.
    Any,
    /// The deployments of these teams, also later ones.
    Teams(BTreeSet<Label>),
    /// These deployments, and none made later under a name of theirs.
    Deployments(BTreeSet<DeploymentId>),
}

impl Scope {
    fn only_team(&self) -> Option<&Label> {
        match self {
            Self::Teams(teams) if teams.len() == 1 => teams.first(),
            Self::Any | Self::Teams(_) | Self::Deployments(_) => None,
        }
    }
}

/// A join or admin token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its identifier.
    pub id: TokenId,
    /// The hash of its secret.
    pub secret: SecretHash,
    /// When it was made.
    pub created: UnixSeconds,
    /// From when on it is no longer good.
    pub expires: UnixSeconds,
    /// When it was revoked.
    pub revoked: Option<UnixSeconds>,
    /// What it is good for.
    pub purpose: Purpose,
    /// What people call it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub name: Option<String>,
    /// The team whose administrator made it: it counts for that team. `None`: an operator's.
    #[serde(default, skip_serializing_if = "is_default")]
    pub team: Option<Label>,
}

impl Token {
    /// The team that it counts for.
    #[must_use]
    pub fn owner(&self) -> Option<&Label> {
        self.team.as_ref().or(match &self.purpose {
            Purpose::Admin { team } => team.as_ref(),
            Purpose::Join { scope, .. } => scope.only_team(),
        })
    }
}

/// What a token is good for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// To enrol runners.
    Join {
        /// What they may host.
        scope: Scope,
        /// How many more it can enrol.
        uses_left: u32,
        /// They are [`Runner::ephemeral`].
        #[serde(default, skip_serializing_if = "is_default")]
        ephemeral: bool,
    },
    /// To administer from afar.
    Admin {
        /// Only this team's deployments, tokens and runners.
        team: Option<Label>,
    },
}

/// A set of services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Its identifier.
    pub id: DeploymentId,
    /// Its name, unique at any time.
    pub name: Label,
    /// Whose it is; never changes.
    pub team: Label,
    /// What a trust without services opens; `None`: all services.
    pub expose: Option<Vec<Pattern>>,
    /// Who may call.
    pub trust: Vec<Trust>,
    /// Who says so.
    pub trust_source: TrustSource,
}

/// What rules a deployment's trust.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrustSource {
    /// The `trust` command.
    Command,
    /// A deployment file's `trust` key; the file's name as it was given.
    File(String),
}

/// A service of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its identifier.
    pub id: ServiceId,
    /// Its deployment.
    pub deployment: DeploymentId,
    /// Its name, unique in its deployment.
    pub name: ServiceName,
    /// Its address.
    pub address: Ipv4Addr,
    /// As it was declared.
    pub declared: Declared,
}

/// An address that was in use: it rests, and is used again last of all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freed {
    /// The address.
    pub address: Ipv4Addr,
    /// Who had it.
    pub from: Holder,
    /// When it was freed.
    pub at: RunningSeconds,
    /// Its place in the order of reuse: lower ones first.
    pub order: u64,
    /// Whose it was: it counts for that team while it rests.
    #[serde(default, skip_serializing_if = "is_default")]
    pub team: Option<Label>,
}

/// What kind of thing holds an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Holder {
    /// A service.
    Service,
    /// An instance.
    Instance,
}

/// An entry of the audit: who changed what, when. Only the last [`limits::AUDIT`] of a kind are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Its number: one more than the entry before.
    pub number: u64,
    /// When.
    pub at: UnixSeconds,
    /// Who.
    pub by: By,
    /// What, in a word: `apply`, `delete`, `trust`, `token-create`, `token-revoke`, `node-remove`, `node-leave`,
    /// `node-expire`, `node-drain`, `node-undrain`, `drain`, `undrain`, `switch`, `enrol`, `host`, `stream-taken-over`.
    pub action: String,
    /// On what, in words.
    pub detail: String,
    /// Whether it was done.
    #[serde(default, skip_serializing_if = "is_default")]
    pub result: Verdict,
    /// The name of the token that was shown.
    #[serde(default, skip_serializing_if = "is_default")]
    pub by_name: Option<String>,
    /// The team that the actor is bound to.
    #[serde(default, skip_serializing_if = "is_default")]
    pub by_team: Option<Label>,
    /// The team whose it is that was changed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub team: Option<Label>,
    /// What was changed, by name.
    #[serde(default, skip_serializing_if = "is_default")]
    pub object: Option<String>,
    /// The runner that it is about, where a runner did it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub runner: Option<RunnerId>,
}

/// What came of what an entry of the audit tells.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It was done.
    #[default]
    Done,
    /// It was refused: nothing has changed.
    Refused,
}

/// Who changed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// A user at the coordinator's own socket.
    Socket {
        /// Their user id there.
        uid: u32,
    },
    /// The holder of this token.
    Token(TokenId),
    /// A runner.
    Runner(RunnerId),
    /// The coordinator itself.
    Coordinator,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket { uid } => write!(f, "uid {uid}"),
            Self::Token(id) => write!(f, "token {id}"),
            Self::Runner(id) => write!(f, "runner {id}"),
            Self::Coordinator => f.write_str("coordinator"),
        }
    }
}

#[cfg(test)]
mod tests;
