//! The records and the open descriptors of agents.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use mesh_netns_tests::run;
use serde_json::Value;

use super::{Things, count, remembered};
use crate::mesh_node;

/// The kinds of an agent's descriptors that belong to instances, by the beginnings of the links in /proc/PID/fd
/// (proc(5)).
const HELD: [(&str, &str); 4] =
    [("net:[", "network namespace"), ("/dev/net/tun", "TUN"), ("pidfd:", "process"), ("anon_inode:[pidfd]", "process")];

pub(super) fn take(things: &mut Things) {
    for state in states() {
        remembers(&state, things);
        answers(&state, things);
    }
    for process in processes() {
        match process.arguments.get(1).map(String::as_str) {
            Some("join") => holds(&process, things),
            // Hooks, commands, and children before exec.
            _ => count(
                things,
                &format!("a process: {}", process.arguments.join(" ")),
                format!("process {}", process.pid),
            ),
        }
    }
}

/// The state directories of the lab's machines: those of the runners, and of machines within these.
fn states() -> Vec<PathBuf> {
    let all = fs::read_dir("/run").into_iter().flatten().flatten().map(|entry| entry.path());
    let all = all.flat_map(|path| [path.join("var/lib/mesh-node"), path]);
    all.filter(|path| path.join("identity.json").exists()).collect()
}

fn remembers(state: &Path, things: &mut Things) {
    if let Some(mut file) = remembered(&state.join("instances.json")) {
        for list in ["attachments", "ended"] {
            for item in file[list].as_array().into_iter().flatten() {
                things.insert(
                    format!("instance {} in {list} of {}", item["instance"], state.display()),
                    item.to_string(),
                );
            }
        }
        if let Value::Object(all) = file["containers"].take() {
            for (id, holder) in all {
                things.insert(format!("container {id} in containers of {}", state.display()), holder.to_string());
            }
        }
    }
    // Unfinished and replaced files.
    for entry in fs::read_dir(state).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.ends_with(".json") && name != "config.toml" {
            things.insert(format!("file {name} in {}", state.display()), String::new());
        }
    }
}

/// The agent's own status, if it runs.
fn answers(state: &Path, things: &mut Things) {
    if !state.join("agent.sock").exists() {
        return;
    }
    let mut ask = Command::new(mesh_node());
    ask.args(["status", "--json", "--state"]).arg(state);
    let said = run(ask);
    if said.code != Some(0) {
        return;
    }
    for instance in said.json()["instances"].as_array().into_iter().flatten() {
        things.insert(
            format!("instance {} of the agent in {}", instance["id"], state.display()),
            instance["service"].to_string(),
        );
    }
}

/// The kinds of an agent's open descriptors, and the number of files that it watches.
fn holds(process: &Process, things: &mut Things) {
    for descriptor in fs::read_dir(process.path("fd")).into_iter().flatten().flatten() {
        let link = fs::read_link(descriptor.path()).unwrap_or_default().display().to_string();
        if let Some((_, kind)) = HELD.iter().find(|(start, _)| link.starts_with(start)) {
            count(things, &format!("{kind} held open by the agent of {}", process.state), link.clone());
        }
        if link.contains("inotify") {
            let watches = fs::read_to_string(process.path("fdinfo").join(descriptor.file_name())).unwrap_or_default();
            for watch in watches.lines().filter(|line| line.starts_with("inotify wd:")) {
                count(things, &format!("file watched over by the agent of {}", process.state), watch.to_owned());
            }
        }
    }
}

/// A process of the program under test.
struct Process {
    pid: String,
    arguments: Vec<String>,
    /// Its state directory, by its environment.
    state: String,
}

impl Process {
    fn path(&self, what: &str) -> PathBuf {
        Path::new("/proc").join(&self.pid).join(what)
    }
}

fn processes() -> impl Iterator<Item = Process> {
    let program = mesh_node();
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(move |entry| {
        let path = entry.path();
        let is_ours =
            fs::read_link(path.join("exe")).is_ok_and(|exe| exe == program || exe.ends_with("opt/mesh/mesh-node"));
        let words = |file: &str| {
            let text = fs::read(path.join(file)).unwrap_or_default();
            let words = text.split(|byte| *byte == 0).filter(|word| !word.is_empty());
            words.map(|word| String::from_utf8_lossy(word).into_owned()).collect::<Vec<_>>()
        };
        let told = |words: Vec<String>| {
            words.into_iter().find_map(|word| word.strip_prefix("MESH_NODE_STATE=").map(str::to_owned))
        };
        is_ours.then(|| Process {
            pid: entry.file_name().to_string_lossy().into_owned(),
            arguments: words("cmdline"),
            state: told(words("environ")).unwrap_or_else(|| "the machine".to_owned()),
        })
    })
}
