//! What one runner knows of the mesh: its view, made of records, kept current by deltas.
//!
//! By least knowledge a view holds the services that the runner's own services may call or be called by, the runners
//! they are on, and nothing else. Every state has a type of its own: what is absent grants nothing.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    DeploymentId, Epoch, InstanceId, Label, Ports, PublicKey, Range, Revision, RunnerId, ServiceId, ServiceName,
};

/// What all runners of a mesh share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The range of overlay addresses.
    pub range: Range,
    /// The MTU of every `mesh0`, in octets.
    pub mtu: u16,
}

/// A machine that runs the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runner {
    /// Its identifier.
    pub id: RunnerId,
    /// Its name, unique at any time.
    pub name: Label,
    /// Whose machine it is: a label, without effect.
    pub provider: Label,
    /// Its WireGuard public key.
    pub public_key: PublicKey,
    /// Where it may be reached by UDP; peers try them all.
    pub endpoints: Vec<SocketAddr>,
    /// The coordinator doesn't hear it: it loses preference where others do the same, and nothing else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub silent: bool,
}

/// A set of services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Its identifier.
    pub id: DeploymentId,
    /// Its name.
    pub name: Label,
    /// Whose it is. Deployments of different teams never reach each other.
    pub team: Label,
    /// What rules who may call it: for hints, without effect. `None` from a coordinator of version 0.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_source: Option<TrustSource>,
}

/// What rules a deployment's trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrustSource {
    /// The `trust` command.
    Command,
    /// The `trust` key of a deployment file; the command is refused.
    File,
}

/// A service of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its identifier.
    pub id: ServiceId,
    /// Its deployment.
    pub deployment: DeploymentId,
    /// Its name.
    pub name: ServiceName,
    /// Its address, kept until it is deleted.
    pub address: Ipv4Addr,
    /// Whether host names and variables are made from its name (`names = "manual"`: they are not).
    pub automatic_names: bool,
}

/// How a service is called within its own deployment, and what its own instances are given. Only in the views of
/// runners that host that deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Naming {
    /// The service.
    pub service: ServiceId,
    /// Further host names, bare and with `.warp`.
    pub aliases: Vec<String>,
    /// `PORT` in its own instances.
    pub port: Option<u16>,
    /// Names that its own instances see, a service of the same deployment each.
    pub ist: Vec<Ist>,
}

/// An entry of a service's `ist` section (inter-service traffic).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ist {
    /// Whom the names lead to: a service of the same deployment.
    pub service: ServiceName,
    /// Environment variables that hold its address.
    #[serde(default)]
    pub variables: Vec<String>,
    /// Host names that lead to it.
    #[serde(default)]
    pub hostnames: Vec<String>,
}

/// Which connections an instance takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InstanceState {
    /// New ones and standing ones.
    Live,
    /// Standing ones only.
    Draining,
    /// None: it only calls.
    Client,
}

/// One running copy of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its identifier.
    pub id: InstanceId,
    /// The service that it is a copy of.
    pub service: ServiceId,
    /// Where it runs.
    pub runner: RunnerId,
    /// Its own address: the source of the connections that it opens.
    pub address: Ipv4Addr,
    /// Which connections it takes.
    pub state: InstanceState,
}

/// A service's permission, to all services of another deployment, to call it. There is none between services of one
/// deployment: they always may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Who may call.
    pub caller: DeploymentId,
    /// Whom.
    pub callee: ServiceId,
    /// On which of the callee's ports.
    pub ports: Ports,
}

/// One thing that a view holds.
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

/// What a record is known by.
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
    /// What it is known by.
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
}

/// What one runner knows, as of one revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Snapshot", from = "Snapshot")]
pub struct View {
    /// Which life of the coordinator's database.
    pub epoch: Epoch,
    /// Which commit.
    pub revision: Revision,
    /// Whose view this is.
    pub runner: RunnerId,
    /// What all runners share.
    pub network: Network,
    records: BTreeMap<Key, Record>,
}

/// What leads from one view to a later one of the same epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// The revision of the view that it applies to.
    pub from: Revision,
    /// The revision of the view that it leads to.
    pub to: Revision,
    /// Records that are new or changed.
    pub put: Vec<Record>,
    /// Records that are gone.
    pub remove: Vec<Key>,
}

impl Delta {
    /// Whether it changes nothing but the revision.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.put.is_empty() && self.remove.is_empty()
    }
}

/// A delta that doesn't follow on the view: ask for a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the delta leads from revision {from} to {to}, but this view is of revision {have}")]
pub struct Gap {
    /// Where the delta starts.
    pub from: Revision,
    /// Where it leads.
    pub to: Revision,
    /// Where the view is.
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
    /// A view with nothing in it: nobody is known, and nobody may call anybody.
    #[must_use]
    pub const fn empty(epoch: Epoch, revision: Revision, runner: RunnerId, network: Network) -> Self {
        Self { epoch, revision, runner, network, records: BTreeMap::new() }
    }

    /// Puts a record into a view that is being built, in the place of the one with its key.
    pub fn put(&mut self, record: Record) {
        self.records.insert(record.key(), record);
    }

    /// Every record, by key.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// Applies a delta, whole or not at all.
    ///
    /// # Errors
    /// If it doesn't follow on this view; the view is then as it was.
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

    /// What leads from this view to `next`, a view of the same runner and epoch.
    #[must_use]
    pub fn delta_to(&self, next: &Self) -> Delta {
        let same = |a: &Record, b: &Record| match (a, b) {
            // Records are shared: most are the very same allocation.
            (Record::Service(a), Record::Service(b)) if Arc::ptr_eq(a, b) => true,
            (Record::Instance(a), Record::Instance(b)) if Arc::ptr_eq(a, b) => true,
            _ => a == b,
        };
        Delta {
            from: self.revision,
            to: next.revision,
            put: next
                .records
                .iter()
                .filter(|(key, record)| !self.records.get(key).is_some_and(|old| same(old, record)))
                .map(|(_, record)| record.clone())
                .collect(),
            remove: self.records.keys().filter(|key| !next.records.contains_key(key)).copied().collect(),
        }
    }

    lookups! {
        /// A runner that this one may exchange packets with, or this one itself.
        runner, runners, Runner(RunnerId) -> Runner;
        /// A deployment.
        deployment, deployments, Deployment(DeploymentId) -> Deployment;
        /// A service.
        service, services, Service(ServiceId) -> Service;
        /// How a service of an own deployment is called.
        naming, namings, Naming(ServiceId) -> Naming;
        /// An instance.
        instance, instances, Instance(InstanceId) -> Instance;
    }

    /// The permission of `callee` to all services of `caller`.
    #[must_use]
    pub fn grant(&self, caller: DeploymentId, callee: ServiceId) -> Option<&Arc<Grant>> {
        match self.records.get(&Key::Grant { caller, callee }) {
            Some(Record::Grant(grant)) => Some(grant),
            _ => None,
        }
    }

    /// All permissions, by caller.
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

/// A view on the wire and on disk.
#[derive(Serialize, Deserialize)]
struct Snapshot {
    epoch: Epoch,
    revision: Revision,
    runner: RunnerId,
    network: Network,
    records: Vec<Record>,
}

impl From<View> for Snapshot {
    fn from(view: View) -> Self {
        Self {
            epoch: view.epoch,
            revision: view.revision,
            runner: view.runner,
            network: view.network,
            records: view.records.into_values().collect(),
        }
    }
}

impl From<Snapshot> for View {
    fn from(snapshot: Snapshot) -> Self {
        Self {
            epoch: snapshot.epoch,
            revision: snapshot.revision,
            runner: snapshot.runner,
            network: snapshot.network,
            records: snapshot.records.into_iter().map(|record| (record.key(), record)).collect(),
        }
    }
}

mod sift;

#[cfg(test)]
mod tests;
