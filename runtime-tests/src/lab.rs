//! The environment of runtimes in the test's namespaces.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use mesh_netns_tests::{Coordinator, Runner, Stack, World, wait};
use nix::{
    mount::{MsFlags, mount},
    sys::wait::{WaitPidFlag, WaitStatus, waitpid},
};

/// Where the kernel's control groups are mounted.
const GROUPS: &str = "/sys/fs/cgroup";
/// The mount point of the second version on a machine with both.
const UNIFIED: &str = "/sys/fs/cgroup/unified";
/// How long the last processes of a control group may take to disappear.
const PATIENCE: Duration = Duration::from_secs(10);

/// The directories of a machine for runtimes, inside [`mesh_netns_tests::isolated`] only.
pub struct Lab {
    group: String,
}

impl Lab {
    /// Mounts them.
    ///
    /// # Panics
    /// If that is refused.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it changes the process's mounts")]
    pub fn new() -> Self {
        copy(Path::new("/etc"), Path::new("/run/etc")).expect("cannot copy /etc");
        bind("/run/etc", "/etc");
        let empty_for = |mode: &str, directory: &str| {
            mount(Some("tmpfs"), directory, Some("tmpfs"), MsFlags::empty(), Some(mode))
                .unwrap_or_else(|e| panic!("cannot mount a tmpfs on {directory}: {e}"));
        };
        let empty = |directory: &str| empty_for("mode=755", directory);
        ["/var/lib", "/opt"].into_iter().for_each(empty);
        // podman keeps the locks of all its storages there, and makes them if they are missing.
        empty_for("mode=1777", "/dev/shm");
        // crun doesn't work on a machine with control groups of both versions: this one has only the first.
        if Path::new(UNIFIED).exists() {
            empty(UNIFIED);
        }
        let unique = fs::read_to_string("/proc/sys/kernel/random/uuid").expect("a random number from the kernel");
        Self { group: format!("mesh-runtime-tests-{}", unique.trim()) }
    }

    /// The control group of this test's containers.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.group
    }

    /// The directory of that group in every hierarchy.
    pub(crate) fn groups(&self) -> impl Iterator<Item = PathBuf> {
        let kinds = fs::read_dir(GROUPS).into_iter().flatten().flatten().map(|entry| entry.path());
        // Everything on the tmpfs disappears with it.
        let kinds = kinds.filter(|kind| kind != Path::new(UNIFIED)).chain([PathBuf::from(GROUPS)]);
        kinds.map(|kind| kind.join(&self.group))
    }
}

impl Drop for Lab {
    /// The test's processes end with its PID namespace, but its control groups are the machine's.
    fn drop(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        for group in self.groups() {
            while group.exists() && remove(&group).is_err() && Instant::now() < deadline {
                // Orphans of the runtimes are children of this process, the first of its PID namespace, and stay in
                // their group until they are waited for. The test's own children have been waited for by now.
                while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|status| status != WaitStatus::StillAlive) {}
                thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// Removes a control group and its descendants.
fn remove(group: &Path) -> io::Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

fn bind(what: &str, at: &str) {
    mount(Some(what), at, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .unwrap_or_else(|e| panic!("cannot mount over {at}: {e}"));
}

/// Copies a directory of configuration files, links as links. Other types aren't needed.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, copied) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &copied)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, copied)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), copied)?;
        }
    }
    Ok(())
}

/// The agent's program, by a path that is valid everywhere.
///
/// # Panics
/// If `MESH_NODE` isn't set.
#[must_use]
pub fn mesh_node() -> PathBuf {
    let path = env::var_os("MESH_NODE").expect("MESH_NODE is not set: it is the path of the program under test");
    fs::canonicalize(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A world with a coordinator and one runner, `aws`.
pub struct Stage {
    /// The underlay.
    pub world: World,
    /// The coordinator.
    pub coordinator: Coordinator,
    /// The runner.
    pub aws: Runner,
    /// The directories of its runtimes.
    pub lab: Lab,
}

impl Stage {
    /// Sets it up, with these deployments declared.
    ///
    /// # Panics
    /// If they are refused.
    #[must_use]
    pub fn new(deployments: &[&str]) -> Self {
        let (lab, world) = (Lab::new(), World::new());
        let coordinator = world.coordinator(&[]);
        for deployment in deployments {
            coordinator.apply(deployment).done();
        }
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        Self { world, coordinator, aws, lab }
    }

    /// Writes the agent's configuration.
    ///
    /// # Panics
    /// If it can't be written.
    pub fn configure(&self, text: &str) {
        fs::write(self.aws.state().join("config.toml"), text).expect("cannot write the agent's configuration");
    }

    /// The services and the states of the instances that the coordinator has.
    ///
    /// # Panics
    /// If the coordinator doesn't answer.
    #[must_use]
    pub fn instances(&self) -> Vec<String> {
        let all = self.coordinator.json(&["instances"]);
        let all = all["instances"].as_array().unwrap_or_else(|| panic!("no instances in {all:#}"));
        all.iter().map(|instance| format!("{} {}", text(&instance["service"]), text(&instance["state"]))).collect()
    }
}

/// Makes a runner's agent offer these services as CDI devices, and waits until the first of them is ready.
///
/// # Panics
/// If it doesn't.
pub fn offer(runner: &mut Runner, services: &[&str]) {
    let text = format!("[containers]\ncdi = {services:?}\n");
    fs::write(runner.state().join("config.toml"), text).expect("cannot write the agent's configuration");
    runner.stop();
    runner.start(&[]);
    wait::until_true("the device", || is_ready(&services[0].replace('/', ".")).unwrap_or(false));
}

/// Whether a device has the data of its service.
fn is_ready(name: &str) -> Option<bool> {
    let file: serde_json::Value = serde_json::from_slice(&fs::read("/var/run/cdi/mesh.json").ok()?).ok()?;
    let device = file["devices"].as_array()?.iter().find(|device| device["name"] == name)?;
    let arguments = device["containerEdits"]["hooks"][0]["args"].as_array()?;
    Some(!arguments.iter().any(|argument| argument == "--bare"))
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap_or_default()
}
