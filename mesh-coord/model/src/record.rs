//! Records: all that the coordinator keeps. Each has its own key, so any engine that maps keys to texts and can
//! compare and swap (SQLite, memory, etcd) can hold them. The engine keeps the revision of the last write with each.

mod audit;
mod calls;
mod hex;
mod key;
mod owed;
mod relay;
mod session;

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use mesh_proto::{
    Abilities, DeploymentId, InstanceId, Label, PublicKey, RunnerId, SecretHash, ServiceId, ServiceName, TokenId,
    message::Switches, view::Network,
};
use serde::{Deserialize, Serialize};

pub use audit::{ACTIONS, Audit, By, Verdict};
pub use calls::{Callee, Calls, Hour, Noted, Passed, hour_of};
pub use hex::ParseHandleError;
pub use key::{Change, Key, ParseKeyError};
pub use mesh_proto::view::Instance;
pub use owed::{Owed, Owes};
pub use relay::{Outside, Relay, RelayKind, SecretHandle};
pub use session::{MemberId, Session, StreamKey};

use crate::{
    Role, RunningSeconds, UnixSeconds,
    declare::{Declared, Pattern, Trust},
    limits,
};

/// A record.
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
    Relay(Arc<Relay>),
    Session(Arc<Session>),
    Owed(Arc<Owed>),
    Calls(Arc<Calls>),
}

impl Record {
    /// The record's key.
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
            Self::Relay(r) => Key::Relay(r.id),
            Self::Session(s) => Key::Session(s.runner),
            Self::Owed(o) => Key::Owed(o.of),
            Self::Calls(c) => Key::Calls(c.caller),
        }
    }
}

/// The single record about the mesh itself. Every commit that assigns a number or an address rewrites it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The range and the MTU.
    pub network: Network,
    /// The quarantine of freed addresses, in seconds.
    pub quarantine: u64,
    /// The numbers to assign next.
    pub next: Next,
    /// The mesh's switches. An offload is on where the runner's switch is on as well.
    #[serde(default, skip_serializing_if = "is_default")]
    pub switches: Switches,
}

/// An MTU that `mesh0` can't have.
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

/// The numbers to assign next. None is assigned twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Next {
    /// Of a runner.
    pub runner: u64,
    /// Of a token.
    pub token: u64,
    /// Of a deployment.
    pub deployment: u64,
    /// Of a service.
    pub service: u64,
    /// Of an instance.
    pub instance: u64,
    /// Of an audit entry.
    pub audit: u64,
    /// Of a freed address: its place in the order of reuse.
    pub freed: u64,
    /// Of a relay.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub relay: u64,
    /// The first address that no service has had. Services use the range upwards.
    pub service_address: Ipv4Addr,
    /// The last address that no instance has had. Instances use the range downwards.
    pub instance_address: Ipv4Addr,
}

const fn first() -> u64 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_first(number: &u64) -> bool {
    *number == first()
}

impl Meta {
    /// The record to commit at the coordinator's first start.
    ///
    /// # Errors
    /// If `mesh0` can't have that MTU.
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
                relay: 1,
                service_address: Ipv4Addr::from_bits(first + 1),
                instance_address: Ipv4Addr::from_bits(last - 1),
            },
        })
    }
}

/// A machine that runs the agent, or ran it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runner {
    /// Its identifier.
    pub id: RunnerId,
    /// Its name, unique among runners that are not removed.
    pub name: Label,
    /// A label for people: who owns the machine.
    pub provider: Label,
    /// Its WireGuard public key.
    pub public_key: PublicKey,
    /// The hash of its credential's secret.
    pub credential: SecretHash,
    /// When it enrolled first.
    pub enrolled: UnixSeconds,
    /// The token with which it enrolled last.
    pub token: TokenId,
    /// The scope of that token.
    pub scope: Scope,
    /// The agent's version, from its last hello; empty before the first.
    pub version: String,
    /// Its UDP endpoints, as it reports them.
    pub endpoints: Vec<SocketAddr>,
    /// Its address as the coordinator sees it, with its UDP port; `None` if the operator set the endpoints.
    pub seen: Option<SocketAddr>,
    /// When it was removed, which is final.
    pub removed: Option<UnixSeconds>,
    /// Whether it is removed after [`limits::EPHEMERAL`] seconds of silence.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ephemeral: bool,
    /// Whether it is silent, so that others are preferred.
    #[serde(default, skip_serializing_if = "is_default")]
    pub silent: bool,
    /// What its agent can do, as told at the last stream.
    #[serde(default, skip_serializing_if = "is_default")]
    pub can: Abilities,
    /// Its own switches.
    #[serde(default, skip_serializing_if = "is_default")]
    pub switches: Switches,
    /// The team whose token it enrolled with; `None`: the operator's.
    #[serde(default, skip_serializing_if = "is_default")]
    pub team: Option<Label>,
    /// Whether all its instances are drained, also later ones.
    #[serde(default, skip_serializing_if = "is_default")]
    pub drained: bool,
    /// Instances that were undrained, whatever the agent remembers.
    #[serde(default, skip_serializing_if = "is_default")]
    pub undrained: BTreeSet<InstanceId>,
    /// Instances of a drained runner that were also drained individually. They stay drained when the runner is
    /// undrained.
    #[serde(default, skip_serializing_if = "is_default")]
    pub drained_apart: BTreeSet<InstanceId>,
    /// What it has last told of its addresses outside.
    #[serde(default, skip_serializing_if = "is_default")]
    pub outside: Outside,
}

impl Runner {
    /// The team whose share it counts for.
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
    /// Any deployment.
    Any,
    /// The deployments of these teams, also later ones.
    Teams(BTreeSet<Label>),
    /// These deployments, but not later ones with the same names.
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

/// A join, admin or relay token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its identifier.
    pub id: TokenId,
    /// The hash of its secret.
    pub secret: SecretHash,
    /// When it was made.
    pub created: UnixSeconds,
    /// When it expires.
    pub expires: UnixSeconds,
    /// When it was revoked.
    pub revoked: Option<UnixSeconds>,
    /// Its purpose.
    pub purpose: Purpose,
    /// A name for people.
    #[serde(default, skip_serializing_if = "is_default")]
    pub name: Option<String>,
    /// The team whose administrator made it; `None`: the operator's.
    #[serde(default, skip_serializing_if = "is_default")]
    pub team: Option<Label>,
}

impl Token {
    /// The team whose share it counts for.
    #[must_use]
    pub fn owner(&self) -> Option<&Label> {
        self.team.as_ref().or(match &self.purpose {
            Purpose::Admin { team } | Purpose::Role { team, .. } => team.as_ref(),
            Purpose::Join { scope, .. } => scope.only_team(),
            Purpose::Relay { .. } => None,
        })
    }
}

/// The purpose of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// To enrol runners.
    Join {
        /// What they may host.
        scope: Scope,
        /// How many more runners it can enrol.
        uses_left: u32,
        /// Whether these runners are [`Runner::ephemeral`].
        #[serde(default, skip_serializing_if = "is_default")]
        ephemeral: bool,
    },
    /// To administer over the network, with all rights.
    Admin {
        /// The team whose deployments, tokens and runners it is limited to.
        team: Option<Label>,
    },
    /// To administer over the network, with a role. An earlier version that knew it as [`Self::Admin`] would give all
    /// rights.
    Role {
        /// The role.
        role: Role,
        /// The team whose deployments, tokens and runners it is limited to.
        team: Option<Label>,
    },
    /// To enrol one relay.
    Relay {
        /// Its name.
        name: Label,
        /// Whether it has enrolled.
        used: bool,
    },
}

/// A deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Its identifier.
    pub id: DeploymentId,
    /// Its name, unique at any time.
    pub name: Label,
    /// Its team, which never changes.
    pub team: Label,
    /// What a trust without services opens; `None`: all services.
    pub expose: Option<Vec<Pattern>>,
    /// Its trust list.
    pub trust: Vec<Trust>,
    /// What set the trust list.
    pub trust_source: TrustSource,
}

/// What sets a deployment's trust list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrustSource {
    /// The `trust` command.
    Command,
    /// The `trust` key of this file, named as it was applied.
    File(String),
}

/// A service.
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
    /// Its declaration.
    pub declared: Declared,
}

/// A freed address in quarantine, or waiting to be reused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freed {
    /// The address.
    pub address: Ipv4Addr,
    /// What kind of holder had it.
    pub from: Holder,
    /// When it was freed.
    pub at: RunningSeconds,
    /// Its place in the order of reuse: lower ones first.
    pub order: u64,
    /// The team that had it. It counts for the team's share during the quarantine.
    #[serde(default, skip_serializing_if = "is_default")]
    pub team: Option<Label>,
}

/// A kind of address holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Holder {
    /// A service.
    Service,
    /// An instance.
    Instance,
}

#[cfg(test)]
mod tests;
