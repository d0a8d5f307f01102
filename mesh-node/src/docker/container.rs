//! Containers as Docker describes them.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use mesh_proto::message::Refusal;
use serde::Deserialize;
use tokio::time::sleep;

use super::{
    api::Api,
    error::DockerError,
    image::{Configured, Manifest},
};
use crate::{
    attach::Namespace,
    hosts::{HostsFile, Place, Reach as _, Unkept},
    instances::Resolv,
    local::{ContainerId, target},
};

/// How long Docker may take to notice the end of a process, in seconds.
const NOTICED: usize = 10;

/// The relevant fields of Docker's description.
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
    /// Docker's path of its hosts file; empty if it has none.
    #[serde(default)]
    pub(super) hosts_path: PathBuf,
    /// Docker's path of its resolv.conf.
    #[serde(default)]
    pub(super) resolv_conf_path: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct State {
    /// The first process; 0 if it doesn't run.
    pub(super) pid: i32,
}

/// Asks for a container; `None`: it is gone.
pub(super) async fn inspect(api: &Api, id: &ContainerId) -> Result<Option<Container>, DockerError> {
    match api.get(&format!("/containers/{id}/json")).await {
        Ok(container) => Ok(Some(container)),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(DockerError::Inspect(e)),
    }
}

/// Whether a container that isn't attached still runs. One that has ended may have had the mesh, by its runtime, while it ran.
pub(super) async fn runs(api: &Api, id: &ContainerId) -> bool {
    let process = async || inspect(api, id).await.map(|container| container.map_or(0, |container| container.state.pid));
    let Ok(pid) = process().await else { return true };
    if pid > 0 && has_ended(pid) {
        // An agent in a container may see no processes of the machine; Docker notices the end soon.
        for _ in 0..NOTICED {
            sleep(Duration::from_secs(1)).await;
            if process().await.ok() != Some(pid) {
                return false;
            }
        }
    }
    pid > 0
}

/// Whether no process of this number runs. A zombie counts as ended: it has no namespaces.
fn has_ended(pid: i32) -> bool {
    let namespace = std::fs::read_link(format!("/proc/{pid}/ns/net"));
    namespace.is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
}

/// The open files of a container: its namespace, its hosts file, its first process.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) namespace: Namespace,
    pub(super) hosts: Option<(Place, HostsFile)>,
    pub(super) unkept: Option<Refusal>,
    pub(super) resolv: Resolv,
    pub(super) process: std::os::fd::OwnedFd,
}

/// Opens the files by which a container is attached.
pub(super) fn open(pid: i32, hosts: PathBuf, resolv: Option<PathBuf>) -> Result<Opened, DockerError> {
    let (_, namespace, process) = target::process(pid)?;
    let namespace = Namespace::from_fd(namespace)?;
    let (hosts, unkept) = match hosts == Path::new("") {
        true => (None, None),
        false => {
            let (place, found) = target::hosts(place(pid, hosts))?;
            match place.open(&found) {
                Ok(file) => (Some((place, file)), None),
                Err(Unkept::Barred(why)) => (None, Some(why)),
                Err(Unkept::Refused(refusal)) => return Err(refusal.into()),
            }
        }
    };
    let resolv = match resolv.filter(|path| path != Path::new("")) {
        None => Resolv::Untouched,
        Some(path) => {
            let (at, found) = target::resolv(place(pid, path))?;
            match Place::Resolv(Box::new(at.clone())).open(&found) {
                Ok(file) => Resolv::File(at, file),
                Err(Unkept::Barred(why) | Unkept::Refused(why)) => Resolv::Unkept(why),
            }
        }
    };
    Ok(Opened { namespace, hosts, unkept, resolv, process })
}

/// The place of Docker's hosts file. It is mounted over the container's `/etc/hosts`: an agent in a container, which sees the
/// machine's processes but not its files, finds it there.
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
    fn an_ended_process_is_told_from_a_running_one() {
        assert!(!has_ended(nix::unistd::getpid().as_raw()));
        let mut child = std::process::Command::new("true").stdout(std::process::Stdio::piped()).spawn().unwrap();
        let pid = child.id().cast_signed();
        // It closes its output as it ends, and remains a zombie.
        std::io::copy(&mut child.stdout.take().unwrap(), &mut std::io::sink()).unwrap();
        while !has_ended(pid) {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(has_ended(pid));
    }

    #[test]
    fn a_hosts_file_is_found_by_the_process_only_if_its_path_does_not_exist() {
        let scratch = Scratch::new("docker-hosts");
        let at = |name: &str| scratch.0.join(name);
        std::fs::write(at("hosts"), "").unwrap();
        assert_eq!(place(7, at("hosts")), Place::Path(at("hosts")));
        let elsewhere = at("containers/f00d/hosts");
        assert_eq!(place(7, elsewhere.clone()), Place::Runtime(7, elsewhere));
        // Other errors are reported when it is opened.
        assert_eq!(place(7, at("hosts/hosts")), Place::Path(at("hosts/hosts")));
    }

    #[test]
    fn containers_read_the_same_by_every_version() {
        // Excerpts of Docker 20.10's and 29's answers; with containerd's image store the manifest's digest is included.
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
