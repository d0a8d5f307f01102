//! The file by which the next agent finds its instances and containers.

use std::collections::{BTreeMap, BTreeSet};

use mesh_proto::{InstanceId, ServicePath, message::Held};
use serde::{Deserialize, Serialize};

use crate::{Attachment, ContainerId, Holder, HostsPlace, NamespaceId};

/// The version that is written. Version 1 kept the containers in a file of their own, [`OldContainers`].
const VERSION: u32 = 2;

/// What the next agent needs. Reading a file refuses what no agent wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "File")]
pub struct Remembered {
    /// 2, or 1 for what versions before 0.2 wrote.
    pub version: u32,
    /// Which start of the machine. No namespace or container outlives it, and their identities are given again.
    pub boot: String,
    /// The instances, also those that are being made or taken out.
    pub attachments: Vec<Attachment>,
    /// Instances whose end the coordinator does not know yet.
    pub ended: Vec<Held>,
    /// The containers that hold instances.
    pub containers: BTreeMap<ContainerId, Holder>,
    /// Hosts files out of which names are still to be taken.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts_left: Vec<HostsLeft>,
}

/// The file, before it is known to be one that an agent wrote.
#[derive(Deserialize)]
struct File {
    version: u32,
    boot: String,
    attachments: Vec<Attachment>,
    ended: Vec<Held>,
    #[serde(default)]
    containers: BTreeMap<ContainerId, Holder>,
    #[serde(default)]
    hosts_left: Vec<HostsLeft>,
}

/// Why a file is none that an agent of this version or an earlier one wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Odd {
    #[error(
        "it has version {0}, and this agent reads versions 1 to {VERSION}: start the newer mesh-node that wrote it"
    )]
    Version(u32),
    #[error("it has two instances in the namespace {}:{}: attach them anew", .0.dev, .0.ino)]
    Namespace(NamespaceId),
    #[error("it has the instance {0} twice: attach it anew")]
    Instance(InstanceId),
}

impl TryFrom<File> for Remembered {
    type Error = Odd;

    fn try_from(file: File) -> Result<Self, Odd> {
        let File { version, boot, attachments, ended, containers, hosts_left } = file;
        if !(1..=VERSION).contains(&version) {
            return Err(Odd::Version(version));
        }
        let (mut namespaces, mut instances) = (BTreeSet::new(), BTreeSet::new());
        for attachment in &attachments {
            if !namespaces.insert(attachment.namespace) {
                return Err(Odd::Namespace(attachment.namespace));
            }
            if !instances.insert(attachment.instance) {
                return Err(Odd::Instance(attachment.instance));
            }
        }
        Ok(Self { version, boot, attachments, ended, containers, hosts_left })
    }
}

/// A hosts file that could not be opened before its instance ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostsLeft {
    /// The namespace of the instance.
    pub namespace: NamespaceId,
    /// Its service.
    pub service: ServicePath,
    /// Where the file was found.
    pub place: HostsPlace,
}

/// The file of containers, as versions before 0.2 wrote it beside the one of instances. It is read once.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct OldContainers {
    /// Which start of the machine.
    boot: String,
    /// The containers that hold instances.
    containers: BTreeMap<ContainerId, Holder>,
}

impl Remembered {
    /// Nothing, since this start of the machine.
    #[must_use]
    pub const fn nothing(boot: String) -> Self {
        Self {
            version: VERSION,
            boot,
            attachments: vec![],
            ended: vec![],
            containers: BTreeMap::new(),
            hosts_left: vec![],
        }
    }

    /// What the files of an earlier agent mean after this start of the machine. Instances of an earlier start have
    /// ended with it.
    #[must_use]
    pub fn taken_over(boot: String, file: Option<Self>, old: Option<OldContainers>) -> Self {
        let mut now = Self::nothing(boot);
        let version = file.as_ref().map_or(1, |file| file.version);
        match file {
            Some(file) if file.boot == now.boot => {
                (now.attachments, now.ended, now.containers) = (file.attachments, file.ended, file.containers);
                now.hosts_left = file.hosts_left;
            }
            Some(file) => {
                now.hosts_left = file.hosts_left;
                let told_already = |attachment: &&Attachment| attachment.ending.is_none();
                let attached = file.attachments.iter().filter(told_already).map(Attachment::held);
                now.ended = file.ended.into_iter().chain(attached).collect();
            }
            None => {}
        }
        // Since version 2 the file itself holds the containers. An old file of containers beside it is out of date.
        if let Some(old) = old.filter(|old| version < VERSION && old.boot == now.boot) {
            now.containers = old.containers;
        }
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by mesh-node 0.1.0 (commit 0a5096a): one instance by path, one of a container, and one that ended while
    /// the coordinator was away.
    const INSTANCES: &str = include_str!("../tests/files/instances-0.1.json");
    const CONTAINERS: &str = include_str!("../tests/files/containers-0.1.json");
    const BOOT: &str = "02af2954-21b3-43e2-be88-65714e890e9c";

    fn old() -> (Option<Remembered>, Option<OldContainers>) {
        (serde_json::from_str(INSTANCES).unwrap(), serde_json::from_str(CONTAINERS).unwrap())
    }

    #[test]
    fn the_files_of_0_1_are_taken_over() {
        let (file, containers) = old();
        let now = Remembered::taken_over(BOOT.to_owned(), file, containers);
        let instances: Vec<u64> = now.attachments.iter().map(|attachment| attachment.instance.0).collect();
        assert_eq!((instances, now.ended.len(), now.version), (vec![2, 3], 1, 2));
        assert_eq!(*now.attachments[0].hosts, [HostsPlace::Path("/tmp/lcold/hosts".into())]);
        let holder = now.containers.values().next().unwrap();
        assert_eq!((holder.namespace, holder.pid, holder.owned), (now.attachments[1].namespace, Some(20401), true));
        let text = serde_json::to_string(&now).unwrap();
        assert_eq!(serde_json::from_str::<Remembered>(&text).unwrap(), now);
    }

    #[test]
    fn a_new_file_is_not_mixed_with_an_old_one_that_was_left() {
        let (_, containers) = old();
        let file = Remembered::nothing(BOOT.to_owned());
        assert!(Remembered::taken_over(BOOT.to_owned(), Some(file), containers).containers.is_empty());
    }

    #[test]
    fn a_restart_of_the_machine_ends_all() {
        let (file, containers) = old();
        let now = Remembered::taken_over("another".to_owned(), file, containers);
        assert!(now.attachments.is_empty() && now.containers.is_empty());
        assert_eq!(now.ended.iter().map(|held| held.instance.0).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn the_one_hosts_file_of_the_first_versions_is_understood() {
        let mut value: serde_json::Value = serde_json::from_str(INSTANCES).unwrap();
        for (hosts, places) in [("null", vec![]), (r#"{"path":"/h"}"#, vec![HostsPlace::Path("/h".into())])] {
            value["attachments"][0]["hosts"] = serde_json::from_str(hosts).unwrap();
            let file: Remembered = serde_json::from_value(value.clone()).unwrap();
            assert_eq!(*file.attachments[0].hosts, places);
        }
        value["attachments"][0].as_object_mut().unwrap().remove("mark");
        let file: Remembered = serde_json::from_value(value).unwrap();
        assert_eq!(
            (file.attachments[0].mark, file.attachments[0].namespace),
            (None, NamespaceId { dev: 4, ino: 4026534676 })
        );
    }

    #[test]
    fn a_resolv_conf_is_written_apart_from_the_hosts_files() {
        let (file, containers) = old();
        let mut now = Remembered::taken_over(BOOT.to_owned(), file, containers);
        let before = serde_json::to_value(&now).unwrap();
        let resolv = HostsPlace::Resolv(Box::new(HostsPlace::Process(7)));
        now.attachments[0].hosts.push(resolv);
        let text = serde_json::to_value(&now).unwrap();
        assert_eq!(text["attachments"][0]["resolv"], serde_json::json!([{"process": 7}]));
        assert_eq!(text["attachments"][0]["hosts"], before["attachments"][0]["hosts"], "as an older agent reads it");
        assert_eq!(serde_json::from_value::<Remembered>(text).unwrap(), now);
    }

    #[test]
    fn what_no_agent_wrote_is_refused_with_what_to_do() {
        let file: serde_json::Value = serde_json::from_str(INSTANCES).unwrap();
        let read = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut changed = file.clone();
            change(&mut changed);
            serde_json::from_value::<Remembered>(changed).map(|_| ()).unwrap_err().to_string()
        };
        let newer = read(&|file| file["version"] = 3.into());
        assert_eq!(
            newer,
            "it has version 3, and this agent reads versions 1 to 2: start the newer mesh-node that wrote it"
        );
        let twice = read(&|file| file["attachments"][1]["instance"] = file["attachments"][0]["instance"].clone());
        assert_eq!(twice, "it has the instance i-2 twice: attach it anew");
        let shared = read(&|file| file["attachments"][1]["namespace"] = file["attachments"][0]["namespace"].clone());
        assert_eq!(shared, "it has two instances in the namespace 4:4026534676: attach them anew");
    }

    /// Damages the files in many ways: whatever can still be read can be taken up.
    #[test]
    fn no_file_makes_the_agent_panic() {
        let boot = || BOOT.to_owned();
        let (file, containers) = old();
        let new = serde_json::to_string(&Remembered::taken_over(boot(), file, containers)).unwrap();
        let mut random = 1_u64;
        let mut below = |bound: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(random >> 33).unwrap() % bound.max(1)
        };
        let mut read = 0;
        for _ in 0..20_000 {
            let source = [INSTANCES, CONTAINERS, &new][below(3)].as_bytes();
            let mut bytes = source.to_vec();
            for _ in 0..=below(4) {
                let at = below(bytes.len());
                match below(5) {
                    0 => bytes[at] = u8::try_from(below(256)).unwrap(),
                    1 => bytes.truncate(at),
                    2 => drop(bytes.splice(at..at, source[below(source.len())..].iter().take(40).copied())),
                    3 => bytes[at] = b"0123456789"[below(10)],
                    _ => drop(bytes.drain(at..(at + below(9)).min(bytes.len()))),
                }
                bytes.push(b' ');
            }
            let file: Option<Remembered> = serde_json::from_slice(&bytes).ok();
            let containers: Option<OldContainers> = serde_json::from_slice(&bytes).ok();
            read += usize::from(file.is_some());
            let now = std::time::Instant::now();
            let mut core = crate::Lifecycle::new(Remembered::taken_over(boot(), file, containers), now);
            core.handle(crate::Input::Start(crate::CallId(1)), now, &mut vec![]);
            let text = serde_json::to_string(&core.remembered()).unwrap();
            assert!(serde_json::from_str::<Remembered>(&text).is_ok(), "{text}");
        }
        assert!(read > 100, "{read} files could be read");
    }
}
