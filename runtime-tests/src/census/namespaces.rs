//! Network namespaces, whatever holds them, and the interfaces in them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use nix::sched::{CloneFlags, setns};
use serde_json::Value;

use super::Things;

/// A namespace.
#[derive(Debug, Default)]
struct Found {
    /// A path by which it can be entered, if there is one.
    door: Option<PathBuf>,
    /// Its holders: the processes in it, and its mounts.
    holders: BTreeSet<String>,
    /// Whether anything but an agent's descriptor holds it: those are counted with the agents.
    is_lived_in: bool,
}

/// All namespaces, by their inodes.
type All = BTreeMap<u64, Found>;

pub(super) fn take(things: &mut Things) {
    let all = find();
    for (inode, Found { door, holders, is_lived_in }) in all {
        let holders: Vec<String> = holders.into_iter().collect();
        let holders = holders.join("; ");
        // The number of an agent's staging namespace changes when the agent restarts.
        let name = if is_lived_in { format!("net:[{inode}]") } else { "an agent's own namespace".to_owned() };
        if is_lived_in {
            things.insert(format!("network namespace {name}"), holders.clone());
        }
        for interface in door.map(|door| interfaces(&door)).unwrap_or_default() {
            things.insert(format!("interface {interface} in {name}"), holders.clone());
        }
    }
    // ip(8) and systemd units use these, mounted or not.
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        things.insert(format!("file {}", entry.path().display()), String::new());
    }
}

fn find() -> All {
    let (mut all, mut mounts) = (All::new(), BTreeSet::new());
    let own = fs::metadata("/proc/self/ns/mnt").map(|it| it.ino()).unwrap_or_default();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let process = entry.path();
        let name = || {
            let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
            format!("process {} {}", entry.file_name().to_string_lossy(), name.trim())
        };
        let door = process.join("ns/net");
        let Some(inode) = inode_of(&door) else { continue };
        let found = all.entry(inode).or_default();
        found.holders.insert(name());
        found.door.get_or_insert(door);
        found.is_lived_in = true;
        for descriptor in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
            let Some(inode) = inode_of(&descriptor.path()) else { continue };
            let found = all.entry(inode).or_default();
            found.holders.insert(format!("{} by a descriptor", name()));
            found.door.get_or_insert(descriptor.path());
        }
        let namespace = fs::metadata(process.join("ns/mnt")).map(|it| it.ino()).unwrap_or_default();
        if mounts.insert(namespace) {
            mounted(&process, namespace == own, &mut all);
        }
    }
    all
}

/// The mounted namespaces that a process sees (proc(5), "mountinfo").
fn mounted(process: &Path, is_here: bool, all: &mut All) {
    let text = fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
    for line in text.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let inode = fields.get(3).and_then(|root| number(root));
        let (Some(inode), Some(at)) = (inode, fields.get(4)) else { continue };
        let found = all.entry(inode).or_default();
        found.holders.insert(format!("mounted at {at}"));
        found.is_lived_in = true;
        if is_here {
            found.door.get_or_insert(PathBuf::from(at));
        }
    }
}

/// The namespace that a link of /proc leads to.
fn inode_of(link: &Path) -> Option<u64> {
    number(fs::read_link(link).ok()?.to_str()?)
}

/// The inode in `net:[4026531840]`.
fn number(text: &str) -> Option<u64> {
    text.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

/// The interfaces in a namespace, except for lo and bridges: a bridge belongs to a runtime's network and not to a
/// container. A namespace that is gone has none.
fn interfaces(door: &Path) -> Vec<String> {
    let Ok(door) = File::open(door) else { return vec![] };
    let said = thread::scope(|scope| {
        let inside = scope.spawn(|| {
            setns(door, CloneFlags::CLONE_NEWNET).ok()?;
            Command::new("ip").args(["-json", "-details", "link"]).output().ok()
        });
        inside.join().ok().flatten()
    });
    let all: Value = said.and_then(|said| serde_json::from_slice(&said.stdout).ok()).unwrap_or_default();
    let all = all.as_array().into_iter().flatten();
    let all = all.filter(|link| link["link_type"] != "loopback" && link["linkinfo"]["info_kind"] != "bridge");
    all.filter_map(|link| link["ifname"].as_str().map(str::to_owned)).collect()
}
