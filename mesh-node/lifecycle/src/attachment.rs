//! What is known of an instance in a namespace, and remembered across restarts of the agent.

use std::{net::Ipv4Addr, path::PathBuf};

use mesh_proto::{
    InstanceId, Release, ServicePath, View,
    message::{Held, Refusal},
    view::Network,
};
use serde::{Deserialize, Deserializer, Serialize};

use crate::{ContainerId, Mark, NamespaceId};

/// Where a network namespace was found, to find it again after a restart of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamespacePlace {
    /// By a path.
    Path(PathBuf),
    /// As that of a process.
    Process(i32),
}

/// Where a hosts file was found, to find it again after a restart of the agent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostsPlace {
    /// By a path of the machine's.
    Path(PathBuf),
    /// `/etc/hosts` as this process sees it.
    Process(i32),
    /// The same, as long as it is this file of the runtime. An agent in a container can't follow its path.
    Runtime(i32, PathBuf),
    /// A resolv.conf, at one of these places: it is kept like a hosts file, with the resolver in place of names.
    Resolv(Box<Self>),
}

/// What the agent keeps in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// Names.
    #[default]
    Hosts,
    /// The resolver.
    Resolv,
}

impl FileKind {
    /// The file's name, in words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hosts => "hosts file",
            Self::Resolv => "resolv.conf",
        }
    }

    /// The option of `attach` that names another one.
    #[must_use]
    pub const fn option(self) -> &'static str {
        match self {
            Self::Hosts => "--hosts FILE",
            Self::Resolv => "--resolv FILE",
        }
    }

    /// Where a process has it.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Hosts => "/etc/hosts",
            Self::Resolv => "/etc/resolv.conf",
        }
    }

    /// Whether it is a hosts file.
    #[must_use]
    pub const fn is_hosts(&self) -> bool {
        matches!(self, Self::Hosts)
    }
}

impl HostsPlace {
    /// The process by which the file is found, if it is found by one.
    #[must_use]
    pub const fn pid(&self) -> Option<i32> {
        match self {
            Self::Path(_) => None,
            Self::Process(pid) | Self::Runtime(pid, _) => Some(*pid),
            Self::Resolv(at) => at.pid(),
        }
    }

    /// The place itself, whatever is kept there.
    #[must_use]
    pub fn bare(&self) -> &Self {
        match self {
            Self::Resolv(at) => at.bare(),
            Self::Path(_) | Self::Process(_) | Self::Runtime(..) => self,
        }
    }

    /// What is kept there.
    #[must_use]
    pub const fn kind(&self) -> FileKind {
        match self {
            Self::Resolv(_) => FileKind::Resolv,
            Self::Path(_) | Self::Process(_) | Self::Runtime(..) => FileKind::Hosts,
        }
    }
}

/// How a namespace is left when its instance ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Farewell {
    /// As it was before the instance came: its end was requested.
    Restored,
    /// Without `mesh0`, and with the range still barred: a process that outlives the instance must not reach the range
    /// by another interface.
    Barred,
}

/// An instance in a namespace, as it is remembered across restarts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The instance.
    pub instance: InstanceId,
    /// Its service.
    pub service: ServicePath,
    /// Its own address.
    pub address: Ipv4Addr,
    /// Its service's address.
    pub service_address: Ipv4Addr,
    /// Whether it only calls.
    pub client: bool,
    /// Whether it takes no new connections any more.
    #[serde(default)]
    pub draining: bool,
    /// The release that it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
    /// The range and the MTU of the mesh.
    pub network: Network,
    /// The namespace that it is in.
    pub namespace: NamespaceId,
    /// Where the namespace was found.
    pub place: NamespacePlace,
    /// The mark of its interface; `None`: an earlier version made it.
    #[serde(default)]
    pub mark: Option<Mark>,
    /// Where its hosts files were found, and its resolv.confs: each container of a shared namespace has its own.
    #[serde(flatten)]
    pub hosts: Places,
    /// Why its names are not kept in a hosts file that is there, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unkept: Option<Box<str>>,
    /// How its namespace is to be left, if it is being taken out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Farewell>,
}

impl Attachment {
    /// The instance as the coordinator is told of it.
    #[must_use]
    pub fn held(&self) -> Held {
        Held {
            instance: self.instance,
            service: self.service.clone(),
            address: self.address,
            client: self.client,
            draining: self.draining,
            release: self.release.clone(),
        }
    }
}

/// An instance as callers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// What is remembered of it.
    pub attachment: Attachment,
    /// What is wrong with it, in words.
    pub warnings: Vec<String>,
}

impl Shown {
    pub(crate) fn of(attachment: Attachment) -> Self {
        let warnings = attachment.unkept.iter().map(ToString::to_string).collect();
        Self { attachment, warnings }
    }
}

/// What is remembered of a container that holds an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The namespace of the instance.
    pub namespace: NamespaceId,
    /// Its first process; `None` if only its namespace is known, and its runtime tells of its end.
    pub pid: Option<i32>,
    /// Its hosts file, where the instance's names are kept.
    pub hosts: Option<HostsPlace>,
    /// Its resolv.conf, where the resolver is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolv: Option<HostsPlace>,
    /// Whether the instance came with a container, and ends with the last one. If not, it was attached in another way.
    pub owned: bool,
}

/// A container that starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerStart {
    /// Which.
    pub id: ContainerId,
    /// Its first process; `None` if its runtime tells of its end.
    pub pid: Option<i32>,
    /// The watch over that process, if it can be watched.
    pub watch: Option<crate::WatchId>,
}

/// A refusal and what to do about it, as one text.
pub(crate) fn one_line(refusal: &Refusal) -> Box<str> {
    let hint = refusal.hint.iter();
    hint.fold(refusal.error.clone(), |text, hint| format!("{text}; {hint}")).into()
}

/// The address of an instance's service.
pub(crate) fn service_address(view: &View, instance: InstanceId) -> Option<Ipv4Addr> {
    view.service(view.instance(instance)?.service).map(|service| service.address)
}

/// Where hosts files and resolv.confs of an instance are. They are written apart: agents that know no resolv.conf read the
/// others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Places(Vec<HostsPlace>);

impl std::ops::Deref for Places {
    type Target = Vec<HostsPlace>;

    fn deref(&self) -> &Vec<HostsPlace> {
        &self.0
    }
}

impl std::ops::DerefMut for Places {
    fn deref_mut(&mut self) -> &mut Vec<HostsPlace> {
        &mut self.0
    }
}

impl FromIterator<HostsPlace> for Places {
    fn from_iter<A: IntoIterator<Item = HostsPlace>>(places: A) -> Self {
        Self(places.into_iter().collect())
    }
}

/// As they are written.
#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(deserialize_with = "places")]
    hosts: Vec<HostsPlace>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    resolv: Vec<HostsPlace>,
}

impl Serialize for Places {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut stored = Stored { hosts: vec![], resolv: vec![] };
        for place in &self.0 {
            match place {
                HostsPlace::Resolv(at) => stored.resolv.push(at.as_ref().clone()),
                other => stored.hosts.push(other.clone()),
            }
        }
        stored.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Places {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Stored { hosts, resolv } = Stored::deserialize(from)?;
        let resolv = resolv.into_iter().map(|at| HostsPlace::Resolv(Box::new(at)));
        Ok(hosts.into_iter().chain(resolv).collect())
    }
}

/// The hosts files. The first versions knew one at most.
fn places<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<HostsPlace>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Places {
        Several(Vec<HostsPlace>),
        AtMostOne(Option<HostsPlace>),
    }
    Ok(match Places::deserialize(from)? {
        Places::Several(places) => places,
        Places::AtMostOne(place) => place.into_iter().collect(),
    })
}
