//! containerd: its daemon on a runner, and `ctr`.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use mesh_netns_tests::{Daemon, Outcome, Runner, run, wait};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::{Lab, image, mesh_node};

/// Adopts orphans, and outlives the daemon in it.
const SUPERVISE: &str = r#"containerd "$@" & echo $! >"$0"; wait $!; exec sleep infinity"#;

/// `containerd` on a runner. Our plugin and `mesh-runc` ask the runner's agent.
pub struct Containerd {
    directory: PathBuf,
    group: String,
    daemon: Daemon,
}

impl Containerd {
    /// Starts it with our plugin among its CNI plugins, without a network.
    ///
    /// # Panics
    /// If it doesn't start.
    #[must_use]
    pub fn start(lab: &Lab, runner: &Runner) -> Self {
        let directory = PathBuf::from(format!("/run/containerd-{}", runner.namespace().name()));
        for made in [&directory, Path::new("/opt/cni/bin"), Path::new("/etc/cni/net.d")] {
            fs::create_dir_all(made).expect("cannot make a directory");
        }
        symlink(mesh_node(), directory.join("mesh-runc")).expect("cannot make a link");
        symlink(mesh_node(), "/opt/cni/bin/mesh").expect("cannot make a link");
        for theirs in ["bridge", "host-local", "loopback"] {
            symlink(Path::new("/usr/lib/cni").join(theirs), Path::new("/opt/cni/bin").join(theirs))
                .expect("cannot make a link");
        }
        let configuration = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {:?}\n",
            directory.join("root"),
            directory.join("state"),
            directory.join("socket")
        );
        let file = directory.join("config.toml");
        fs::write(&file, configuration).expect("cannot write a file");
        let mut command = runner.namespace().command("tini");
        command.args(["-s", "--", "sh", "-c", SUPERVISE]).arg(directory.join("pid")).arg("--config").arg(&file);
        command.env("MESH_NODE_STATE", runner.state());
        let daemon = Daemon::start(command, &directory.join("log"));
        let mut containerd = Self { directory, group: lab.group().to_owned(), daemon };
        wait::until_true("containerd to answer", || {
            assert!(containerd.daemon.runs(), "containerd ended:\n{}", containerd.daemon.log());
            containerd.ctr(runner, &["version"]).code == Some(0)
        });
        containerd
    }

    /// `ctr ARGUMENTS`. It calls the plugins of CNI itself.
    #[track_caller]
    pub fn ctr(&self, runner: &Runner, arguments: &[&str]) -> Outcome {
        let mut command = runner.namespace().command("ctr");
        command.arg("--address").arg(self.directory.join("socket")).args(arguments);
        command.env("MESH_NODE_STATE", runner.state());
        run(command)
    }

    /// Makes `ctr run --cni` use a network of these plugins.
    ///
    /// # Panics
    /// If it can't be written.
    pub fn network(&self, plugins: &Value) {
        let list = json!({"cniVersion": "1.0.0", "name": "shop", "plugins": plugins});
        fs::write("/etc/cni/net.d/10-shop.conflist", list.to_string()).expect("cannot write a file");
    }

    /// `ctr run --rm FLAGS … NAME sh -c SCRIPT`, in a file system with busybox.
    #[track_caller]
    pub fn run(&self, runner: &Runner, name: &str, flags: &[&str], script: &str) -> Outcome {
        let ours = ["run", "--rm", "--cgroup", &self.group(name), "--env", "PATH=/bin", "--rootfs"];
        self.ctr(runner, &[&ours[..], flags, &[&root(), name, "/bin/sh", "-c", script]].concat())
    }

    /// `ctr run --detach FLAGS … NAME sh -c 'SCRIPT; exec sleep 1000'`, in a file system with busybox.
    ///
    /// # Panics
    /// If it doesn't start.
    #[track_caller]
    pub fn container(&self, runner: &Runner, name: &str, flags: &[&str], script: &str) {
        let ours = ["run", "--detach", "--cgroup", &self.group(name), "--env", "PATH=/bin", "--rootfs"];
        let script = format!("{script}; exec sleep 1000");
        self.ctr(runner, &[&ours[..], flags, &[&root(), name, "/bin/sh", "-c", &script]].concat()).done();
    }

    /// [`Self::run`] in a user namespace, whose root is user 100000 outside, with these annotations. It uses a complete
    /// configuration, since `ctr` maps users only for images.
    ///
    /// # Panics
    /// If the configuration can't be written.
    #[track_caller]
    pub fn run_mapped(
        &self,
        runner: &Runner,
        name: &str,
        flags: &[&str],
        annotations: &Value,
        script: &str,
    ) -> Outcome {
        let mapping = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        let none: [&str; 0] = [];
        let capabilities = json!({"bounding": none, "effective": none, "permitted": none});
        let namespaces = ["pid", "ipc", "uts", "mount", "network", "user"].map(|kind| json!({"type": kind}));
        let configuration = json!({
            "ociVersion": "1.0.2", "annotations": annotations, "root": {"path": root()},
            "process": {
                "cwd": "/", "env": ["PATH=/bin"], "args": ["/bin/sh", "-c", script],
                "user": {"uid": 0, "gid": 0}, "capabilities": capabilities, "noNewPrivileges": true,
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            ],
            "linux": {
                "cgroupsPath": self.group(name), "namespaces": namespaces, "uidMappings": mapping, "gidMappings": mapping,
            },
        });
        let file = self.directory.join(format!("{name}.json"));
        fs::write(&file, configuration.to_string()).expect("cannot write a file");
        let file = file.display().to_string();
        self.ctr(runner, &[&["run", "--rm", "--config", &file][..], flags, &[name]].concat())
    }

    /// `ctr tasks exec NAME sh -c SCRIPT`.
    #[track_caller]
    pub fn exec(&self, runner: &Runner, name: &str, script: &str) -> Outcome {
        self.ctr(runner, &["tasks", "exec", "--exec-id", "further", name, "/bin/sh", "-c", script])
    }

    /// Kills a container's first process, and starts it again.
    ///
    /// # Panics
    /// If that fails.
    #[track_caller]
    pub fn restart(&self, runner: &Runner, name: &str) {
        self.kill_task(runner, name);
        self.ctr(runner, &["tasks", "start", "--detach", name]).done();
    }

    /// Kills a container's first process, and forgets the container.
    ///
    /// # Panics
    /// If that fails.
    #[track_caller]
    pub fn remove(&self, runner: &Runner, name: &str) {
        self.kill_task(runner, name);
        self.ctr(runner, &["containers", "delete", name]).done();
    }

    fn kill_task(&self, runner: &Runner, name: &str) {
        self.ctr(runner, &["tasks", "kill", "--signal", "SIGKILL", name]).done();
        // The shim notices the end later.
        wait::until_true("the end of a task", || self.ctr(runner, &["tasks", "delete", name]).code == Some(0));
    }

    fn group(&self, name: &str) -> String {
        format!("/{}/{name}", self.group)
    }

    /// The first process of a running container.
    ///
    /// # Panics
    /// If it doesn't run.
    #[track_caller]
    #[must_use]
    pub fn pid(&self, runner: &Runner, name: &str) -> Pid {
        let tasks = self.ctr(runner, &["tasks", "ls"]).done().stdout;
        let mut rows = tasks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let found = rows.find(|row| row.first() == Some(&name)).and_then(|row| row.get(1)?.parse().ok());
        Pid::from_raw(found.unwrap_or_else(|| panic!("no {name} in {tasks}")))
    }

    /// Ends the daemon at once (SIGKILL). Its containers go on.
    ///
    /// # Panics
    /// If it doesn't run.
    pub fn kill(&mut self) {
        let pid = fs::read_to_string(self.directory.join("pid")).expect("the number of containerd's process");
        let daemon = Pid::from_raw(pid.trim().parse().expect("a number"));
        kill(daemon, Signal::SIGKILL).expect("cannot kill containerd");
        wait::until_true("the end of containerd", || kill(daemon, None).is_err());
    }

    /// The path of `mesh-runc`.
    #[must_use]
    pub fn wrapper(&self) -> String {
        self.directory.join("mesh-runc").display().to_string()
    }
}

/// The file system of every container.
fn root() -> String {
    image::directory().display().to_string()
}
