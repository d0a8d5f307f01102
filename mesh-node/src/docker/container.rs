//! What Docker knows of a container.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use mesh_proto::message::Refusal;
use serde::Deserialize;
use tokio::time::sleep;

use super::{
    api::Api,
    image::{Configured, Manifest},
};
use crate::{
    attach::Namespace,
    containers::ContainerId,
    hosts::{HostsFile, Place, Unkept},
    local::target,
};

/// How long Docker may take to know that a process has ended, in seconds.
const NOTICED: usize = 10;

/// As much of it as matters here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Container {
    pub(super) id: ContainerId,
    pub(super) state: State,
    pub(super) config: Configured,
    /// The image's digest.
    pub(super) image: String,
    #[serde(default)]
    pub(super) image_manifest_descriptor: Option<Manifest>,
    /// Where its hosts file is, by a path of Docker's; empty if it has none.
    #[serde(default)]
    pub(super) hosts_path: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct State {
    /// The first process; 0 if it doesn't run.
    pub(super) pid: i32,
}

/// What is known of a container; `None`: it is gone.
pub(super) async fn inspect(api: &Api, id: &ContainerId) -> Result<Option<Container>, Refusal> {
    match api.get(&format!("/containers/{id}/json")).await {
        Ok(container) => Ok(Some(container)),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(Refusal::new(format!("Docker doesn't say what it is: {e}"), "its own log may say why")),
    }
}

/// Whether a container that has not been attached is one to speak of: one that has ended perhaps had the mesh, by its runtime,
/// for as long as it ran.
pub(super) async fn runs(api: &Api, id: &ContainerId) -> bool {
    let process = async || inspect(api, id).await.map(|container| container.map_or(0, |container| container.state.pid));
    let Ok(pid) = process().await else { return true };
    if pid > 0 && has_ended(pid) {
        // An agent in a container of its own may be unable to see anybody's processes, but Docker knows soon.
        for _ in 0..NOTICED {
            sleep(Duration::from_secs(1)).await;
            if process().await != Ok(pid) {
                return false;
            }
        }
    }
    pid > 0
}

/// Whether there is no process of this number (any more): one that nobody has waited for yet has no namespaces either.
fn has_ended(pid: i32) -> bool {
    let namespace = std::fs::read_link(format!("/proc/{pid}/ns/net"));
    namespace.is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
}

/// What is opened of a container: its namespace, its hosts file, its first process.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) namespace: Namespace,
    pub(super) hosts: Option<(Place, HostsFile)>,
    pub(super) unkept: Option<Refusal>,
    pub(super) process: std::os::fd::OwnedFd,
}

/// Opens what a container is attached by.
pub(super) fn open(pid: i32, hosts: PathBuf) -> Result<Opened, Refusal> {
    let (_, namespace, process) = target::process(pid)?;
    let namespace = Namespace::from_fd(namespace).map_err(|e| Refusal::bare(e.to_string()))?;
    let (hosts, unkept) = match hosts == Path::new("") {
        true => (None, None),
        false => {
            let (place, found) = target::hosts(place(pid, hosts))?;
            match place.open(&found) {
                Ok(file) => (Some((place, file)), None),
                Err(Unkept::Barred(why)) => (None, Some(why)),
                Err(Unkept::Refused(refusal)) => return Err(refusal),
            }
        }
    };
    Ok(Opened { namespace, hosts, unkept, process })
}

/// Where Docker's own file is: it is mounted over the container's `/etc/hosts`, and an agent in a container of its own, which
/// sees the machine's processes but not its files, finds it there.
fn place(pid: i32, hosts: PathBuf) -> Place {
    match std::fs::symlink_metadata(&hosts) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Place::Runtime(pid, hosts),
        _ => Place::Path(hosts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::Scratch;

    #[test]
    fn what_has_ended_is_told_from_what_runs() {
        assert!(!has_ended(nix::unistd::getpid().as_raw()));
        let mut child = std::process::Command::new("true").stdout(std::process::Stdio::piped()).spawn().unwrap();
        let pid = child.id().cast_signed();
        // It closes its output as it ends, and is not waited for yet.
        std::io::copy(&mut child.stdout.take().unwrap(), &mut std::io::sink()).unwrap();
        while !has_ended(pid) {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(has_ended(pid));
    }

    #[test]
    fn a_hosts_file_is_taken_by_the_process_only_where_its_path_leads_nowhere() {
        let scratch = Scratch::new("docker-hosts");
        let at = |name: &str| scratch.0.join(name);
        std::fs::write(at("hosts"), "").unwrap();
        assert_eq!(place(7, at("hosts")), Place::Path(at("hosts")));
        let elsewhere = at("containers/f00d/hosts");
        assert_eq!(place(7, elsewhere.clone()), Place::Runtime(7, elsewhere));
        // Whatever else is wrong with it is for the error to say.
        assert_eq!(place(7, at("hosts/hosts")), Place::Path(at("hosts/hosts")));
    }

    #[test]
    fn containers_read_the_same_by_every_version() {
        // As Docker 20.10 and 29 answer, in part; containerd's image store names the manifest's digest.
        for text in [
            r#"{"Id":"ID","State":{"Status":"running","Pid":7},"Image":"sha256:1","HostsPath":"/h","Config":{"Labels":{"a":"b"}}}"#,
            r#"{"Id":"ID","State":{"Status":"exited","Pid":0},"Image":"sha256:2","HostsPath":"","Config":{"Labels":null},"ImageManifestDescriptor":{"digest":"sha256:2"}}"#,
            r#"{"Id":"ID","State":{"Pid":7},"Image":"sha256:3","Config":{}}"#,
        ] {
            let text = text.replace("ID", &"f00d".repeat(16));
            let container: Container = serde_json::from_str(&text).unwrap();
            assert!(container.image.starts_with("sha256:"));
        }
    }
}
