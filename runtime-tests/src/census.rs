//! A census of the lab before containers start and after their end, which shows what is left of them.

mod agents;
mod namespaces;

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use mesh_netns_tests::wait;
use serde_json::Value;

use crate::{Lab, Stage};

/// How often it is repeated while something is left.
const AGAIN: Duration = Duration::from_millis(20);

/// The marker of our block in a hosts file.
const BLOCK: &str = "# mesh-node";
/// The directories of runtimes and agents, both of the test itself.
const FILES: [&str; 2] = ["/run", "/var/lib"];
/// The directories of hooks and devices for runtimes.
const DIRECTORIES: [&str; 4] =
    ["/run/cdi", "/etc/cdi", "/etc/containers/oci/hooks.d", "/usr/share/containers/oci/hooks.d"];

/// Everything that containers could leave behind: instances at the coordinator and at the agents, the agents' records
/// and descriptors, network namespaces and their interfaces, our blocks in hosts files, files of hooks and devices, our
/// processes, and non-empty control groups.
#[derive(Debug)]
pub struct Census(Things);

/// By the identity of each thing; with more about it.
type Things = BTreeMap<String, String>;

impl Stage {
    /// Takes a census when the runtimes and their networks are there: what exists now may stay.
    ///
    /// # Panics
    /// If the coordinator doesn't answer.
    #[must_use]
    pub fn census(&self) -> Census {
        Census::take(self)
    }

    /// Everything that didn't exist `before`, in words.
    ///
    /// # Panics
    /// If the coordinator doesn't answer.
    #[must_use]
    pub fn left(&self, before: &Census) -> Vec<String> {
        let Census(now) = Census::take(self);
        let new = now.into_iter().filter(|(thing, _)| !before.0.contains_key(thing));
        new.map(|(thing, more)| if more.is_empty() { thing } else { format!("{thing} ({more})") }).collect()
    }

    /// Waits until nothing exists that didn't exist `before`.
    ///
    /// # Panics
    /// If something is left. The message names it.
    #[track_caller]
    pub fn nothing_is_left(&self, before: &Census) {
        let deadline = Instant::now() + wait::PATIENCE;
        loop {
            let left = self.left(before);
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "this is left, {:?} later:\n  {}", wait::PATIENCE, left.join("\n  "));
            std::thread::sleep(AGAIN);
        }
    }
}

impl Census {
    fn take(stage: &Stage) -> Self {
        let mut things = Things::new();
        instances(stage, &mut things);
        agents::take(&mut things);
        namespaces::take(&mut things);
        for root in FILES {
            files(Path::new(root), &mut things);
        }
        for directory in DIRECTORIES {
            entries(Path::new(directory), &mut things);
        }
        groups(&stage.lab, &mut things);
        Self(things)
    }
}

/// Adds one of several equal things: the first, the second.
fn count(things: &mut Things, what: &str, more: String) {
    let number = (1..).find(|number| !things.contains_key(&format!("{what}, no. {number}"))).unwrap_or(0);
    things.insert(format!("{what}, no. {number}"), more);
}

/// The instances that the coordinator knows.
fn instances(stage: &Stage, things: &mut Things) {
    let all = stage.coordinator.json(&["instances"]);
    for instance in all["instances"].as_array().into_iter().flatten() {
        let text = |name: &str| instance[name].as_str().unwrap_or_default().to_owned();
        things.insert(format!("instance {} at the coordinator", text("id")), text("service"));
    }
}

/// Our parts in the files of runtimes.
fn files(directory: &Path, things: &mut Things) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let (Ok(kind), path) = (entry.file_type(), entry.path()) else { continue };
        if kind.is_dir() {
            files(&path, things);
            continue;
        }
        let name = entry.file_name();
        if name == "config.json.mesh" {
            things.insert(format!("file {}", path.display()), String::new());
        }
        // mesh's names are unique, and other files can be large.
        if kind.is_file() && name == "hosts" {
            let text = fs::read(&path).unwrap_or_default();
            if String::from_utf8_lossy(&text).contains(BLOCK) {
                things.insert(format!("our block in {}", path.display()), String::new());
            }
        }
    }
}

/// The files of a directory.
fn entries(directory: &Path, things: &mut Things) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        things.insert(format!("file {}", entry.path().display()), String::new());
    }
}

/// The non-empty control groups of the lab in every hierarchy. Empty ones are the runtimes' own: podman keeps one for
/// all monitors, and forgets a container's when its monitor was killed.
fn groups(lab: &Lab, things: &mut Things) {
    for root in lab.groups() {
        below(&root, things);
    }
}

fn below(group: &Path, things: &mut Things) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let processes = fs::read_to_string(entry.path().join("cgroup.procs")).unwrap_or_default();
        if !processes.is_empty() {
            let processes: Vec<&str> = processes.lines().collect();
            let group = format!("control group {}", entry.path().display());
            things.insert(group, format!("processes in it: {}", processes.join(" ")));
        }
        below(&entry.path(), things);
    }
}

/// The content of a JSON file, if it exists.
fn remembered(file: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}
