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
}

impl HostsPlace {
    /// The process by which the file is found, if it is found by one.
    #[must_use]
    pub const fn pid(&self) -> Option<i32> {
        match self {
            Self::Path(_) => None,
            Self::Process(pid) | Self::Runtime(pid, _) => Some(*pid),
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
    /// Where its hosts files were found: each container of a shared namespace has its own.
    #[serde(deserialize_with = "places")]
    pub hosts: Vec<HostsPlace>,
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
