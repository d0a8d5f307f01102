//! A runner's view: the records of the mesh that it knows, kept current by deltas.
//!
//! A view holds the services that the runner's own services may call or be called by, the runners that they are on,
//! and nothing else. Absence grants nothing.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    Abilities, DeploymentId, Epoch, InstanceId, Label, Ports, PublicKey, Range, Release, Revision, RunnerId, ServiceId,
    ServiceName, relay::Relayed,
};

/// What all runners of a mesh share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The range of overlay addresses.
    pub range: Range,
    /// The MTU of every `mesh0`, in bytes.
    pub mtu: u16,
}

/// A machine that runs the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runner {
    /// Its identifier.
    pub id: RunnerId,
    /// Its name, unique at any time.
    pub name: Label,
    /// A label for people: who owns the machine.
    pub provider: Label,
    /// Its WireGuard public key.
    pub public_key: PublicKey,
    /// Its UDP endpoints. Peers try all of them.
    pub endpoints: Vec<SocketAddr>,
    /// Whether it has no stream to the coordinator. Then other runners are preferred, with no further effect.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub silent: bool,
    /// What its agent can do; absent for one of version 0.2 or older.
    #[serde(default, skip_serializing_if = "Abilities::is_none")]
    pub can: Abilities,
    /// Its addresses as relays see them: peers try them in a meeting, in step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reflexive: Vec<SocketAddr>,
    /// Its addresses at relays, for peers that have an allocation at the same relay.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relayed: Vec<Relayed>,
}

/// A deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Its identifier.
    pub id: DeploymentId,
    /// Its name.
    pub name: Label,
    /// Its team. Deployments of different teams never reach each other.
    pub team: Label,
    /// What sets its trust list, for hints only. `None` from a coordinator of version 0.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_source: Option<TrustSource>,
}

/// What sets a deployment's trust list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrustSource {
    /// The `trust` command.
    Command,
    /// The `trust` key of a deployment file, so that the command is refused.
    File,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its identifier.
    pub id: ServiceId,
    /// Its deployment.
    pub deployment: DeploymentId,
    /// Its name.
    pub name: ServiceName,
    /// Its address, which it keeps until it is deleted.
    pub address: Ipv4Addr,
    /// Whether host names and variables are made from its name. `names = "manual"` turns that off.
    pub automatic_names: bool,
}

/// A service's names within its deployment, and what its own instances see. Only views of runners that host the
/// deployment contain it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Naming {
    /// The service.
    pub service: ServiceId,
    /// More host names, used bare and with `.warp`.
    pub aliases: Vec<String>,
    /// The value of `PORT` in its instances.
    pub port: Option<u16>,
    /// Names that its instances see, each for a service of the same deployment.
    pub ist: Vec<Ist>,
}

/// An entry of a service's `ist` section (inter-service traffic).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Ist {
    /// The service that the names lead to, in the same deployment.
    pub service: ServiceName,
    /// Environment variables with its address.
    #[serde(default)]
    pub variables: Vec<String>,
    /// Host names that lead to it.
    #[serde(default)]
    pub hostnames: Vec<String>,
}

/// The connections that an instance gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InstanceState {
    /// New and open ones.
    Live,
    /// Only open ones.
    Draining,
    /// None, because it only calls.
    Client,
}

/// An instance: one running copy of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its identifier.
    pub id: InstanceId,
    /// Its service.
    pub service: ServiceId,
    /// Its runner.
    pub runner: RunnerId,
    /// Its address, the source of the connections that it opens.
    pub address: Ipv4Addr,
    /// The connections that it gets.
    pub state: InstanceState,
    /// The release that it runs, if it was told: its calls within its deployment prefer instances of the same one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
}

/// A permission for all services of another deployment to call a service. Services of one deployment may always call
/// each other, without a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The calling deployment.
    pub caller: DeploymentId,
    /// The called service.
    pub callee: ServiceId,
    /// The callee's ports.
    pub ports: Ports,
}

/// A record of a view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[expect(missing_docs, reason = "each variant is documented at the type that it holds")]
pub enum Record {
    Runner(Arc<Runner>),
    Deployment(Arc<Deployment>),
    Service(Arc<Service>),
    Naming(Arc<Naming>),
    Instance(Arc<Instance>),
    Grant(Arc<Grant>),
}

/// The key of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[expect(missing_docs, reason = "each variant is documented at the record that it names")]
pub enum Key {
    Runner { id: RunnerId },
    Deployment { id: DeploymentId },
    Service { id: ServiceId },
    Naming { id: ServiceId },
    Instance { id: InstanceId },
    Grant { caller: DeploymentId, callee: ServiceId },
}

impl Record {
    /// The record's key.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Runner(r) => Key::Runner { id: r.id },
            Self::Deployment(d) => Key::Deployment { id: d.id },
            Self::Service(s) => Key::Service { id: s.id },
            Self::Naming(n) => Key::Naming { id: n.service },
            Self::Instance(i) => Key::Instance { id: i.id },
            Self::Grant(g) => Key::Grant { caller: g.caller, callee: g.callee },
        }
    }

    /// Whether both are equal. Records are shared, so most are the same allocation.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let shared = match (self, other) {
            (Self::Runner(a), Self::Runner(b)) => Arc::ptr_eq(a, b),
            (Self::Deployment(a), Self::Deployment(b)) => Arc::ptr_eq(a, b),
            (Self::Service(a), Self::Service(b)) => Arc::ptr_eq(a, b),
            (Self::Naming(a), Self::Naming(b)) => Arc::ptr_eq(a, b),
            (Self::Instance(a), Self::Instance(b)) => Arc::ptr_eq(a, b),
            (Self::Grant(a), Self::Grant(b)) => Arc::ptr_eq(a, b),
            _ => return false,
        };
        shared || self == other
    }
}

/// A runner's view, as of one revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "snapshot::Snapshot", from = "snapshot::Snapshot")]
pub struct View {
    /// The run of the coordinator that it is from.
    pub epoch: Epoch,
    /// The commit that it is from.
    pub revision: Revision,
    /// The runner.
    pub runner: RunnerId,
    /// What all runners share.
    pub network: Network,
    records: BTreeMap<Key, Record>,
}

/// The changes from one view to a later one of the same epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// The revision of the earlier view.
    pub from: Revision,
    /// The revision of the later view.
    pub to: Revision,
    /// New and changed records.
    pub put: Vec<Record>,
    /// Removed records.
    pub remove: Vec<Key>,
}

impl Delta {
    /// Whether only the revision changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.put.is_empty() && self.remove.is_empty()
    }
}

/// A delta that doesn't continue the view. Ask for a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the delta leads from revision {from} to {to}, but this view is of revision {have}")]
pub struct Gap {
    /// The revision at which the delta begins.
    pub from: Revision,
    /// The revision at which the delta ends.
    pub to: Revision,
    /// The revision of the view.
    pub have: Revision,
}

macro_rules! lookups {
    ($($(#[$doc:meta])* $one:ident, $all:ident, $variant:ident($id:ident) -> $record:ty;)*) => {
        $(
            $(#[$doc])*
            #[must_use]
            pub fn $one(&self, id: $id) -> Option<&Arc<$record>> {
                match self.records.get(&Key::$variant { id }) {
                    Some(Record::$variant(record)) => Some(record),
                    _ => None,
                }
            }

            /// All of these, by identifier.
            pub fn $all(&self) -> impl Iterator<Item = &Arc<$record>> {
                let range = Key::$variant { id: $id(0) }..=Key::$variant { id: $id(u64::MAX) };
                self.records.range(range).filter_map(|(_, record)| match record {
                    Record::$variant(record) => Some(record),
                    _ => None,
                })
            }
        )*
    };
}

impl View {
    /// A view without records, which allows nothing.
    #[must_use]
    pub const fn empty(epoch: Epoch, revision: Revision, runner: RunnerId, network: Network) -> Self {
        Self { epoch, revision, runner, network, records: BTreeMap::new() }
    }

    /// Puts a record into a view under construction, in place of the one with its key.
    pub fn put(&mut self, record: Record) {
        self.records.insert(record.key(), record);
    }

    /// Every record, by key.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// Applies a delta completely or not at all.
    ///
    /// # Errors
    /// If it doesn't continue this view, which then stays as it was.
    pub fn apply(&mut self, delta: &Delta) -> Result<(), Gap> {
        if delta.from != self.revision || delta.to < delta.from {
            return Err(Gap { from: delta.from, to: delta.to, have: self.revision });
        }
        for key in &delta.remove {
            self.records.remove(key);
        }
        for record in &delta.put {
            self.put(record.clone());
        }
        self.revision = delta.to;
        Ok(())
    }

    /// The changes from this view to `next`, a view of the same runner and epoch.
    #[must_use]
    pub fn delta_to(&self, next: &Self) -> Delta {
        Delta {
            from: self.revision,
            to: next.revision,
            put: next
                .records
                .iter()
                .filter(|(key, record)| !self.records.get(key).is_some_and(|old| old.is_same(record)))
                .map(|(_, record)| record.clone())
                .collect(),
            remove: self.records.keys().filter(|key| !next.records.contains_key(key)).copied().collect(),
        }
    }

    lookups! {
        /// This runner itself, or one that it may exchange packets with.
        runner, runners, Runner(RunnerId) -> Runner;
        /// A deployment.
        deployment, deployments, Deployment(DeploymentId) -> Deployment;
        /// A service.
        service, services, Service(ServiceId) -> Service;
        /// The names of a service of an own deployment.
        naming, namings, Naming(ServiceId) -> Naming;
        /// An instance.
        instance, instances, Instance(InstanceId) -> Instance;
    }

    /// The grant to all services of `caller` to call `callee`.
    #[must_use]
    pub fn grant(&self, caller: DeploymentId, callee: ServiceId) -> Option<&Arc<Grant>> {
        match self.records.get(&Key::Grant { caller, callee }) {
            Some(Record::Grant(grant)) => Some(grant),
            _ => None,
        }
    }

    /// All grants, by caller.
    pub fn grants(&self) -> impl Iterator<Item = &Arc<Grant>> {
        self.records.values().filter_map(|record| match record {
            Record::Grant(grant) => Some(grant),
            _ => None,
        })
    }
}

impl crate::rules::Rules for View {
    fn deployment_of(&self, service: ServiceId) -> Option<DeploymentId> {
        self.service(service).map(|s| s.deployment)
    }

    fn team_of(&self, deployment: DeploymentId) -> Option<&Label> {
        self.deployment(deployment).map(|d| &d.team)
    }

    fn grant(&self, caller: DeploymentId, callee: ServiceId) -> Option<&Ports> {
        Self::grant(self, caller, callee).map(|g| &g.ports)
    }
}

mod sift;
mod snapshot;

#[cfg(test)]
mod tests;
