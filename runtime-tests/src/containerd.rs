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

use crate::{Lab, image, mesh_node};

/// Keeps whoever loses his parent, and outlives the daemon in it.
const SUPERVISE: &str = r#"containerd "$@" & echo $! >"$0"; wait $!; exec sleep infinity"#;

/// `containerd` on a runner, whose agent our plugin and `mesh-runc` ask.
pub struct Containerd {
    directory: PathBuf,
    group: String,
    daemon: Daemon,
}

impl Containerd {
    /// Starts it, with our plugin among those of CNI, which has no network yet.
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

    /// `ctr run --rm FLAGS … NAME sh -c SCRIPT`, in a file system with busybox.
    #[track_caller]
    pub fn run(&self, runner: &Runner, name: &str, flags: &[&str], script: &str) -> Outcome {
        let (root, group) = (image::directory(), format!("/{}/{name}", self.group));
        let root = root.to_str().expect("an ASCII path");
        let ours = ["run", "--rm", "--cgroup", &group, "--env", "PATH=/bin", "--rootfs"];
        self.ctr(runner, &[&ours[..], flags, &[root, name, "/bin/sh", "-c", script]].concat())
    }

    /// `ctr run --detach FLAGS … NAME sleep 1000`, in a file system with busybox.
    ///
    /// # Panics
    /// If it doesn't start.
    #[track_caller]
    pub fn container(&self, runner: &Runner, name: &str, flags: &[&str]) {
        let (root, group) = (image::directory(), format!("/{}/{name}", self.group));
        let root = root.to_str().expect("an ASCII path");
        let ours = ["run", "--detach", "--cgroup", &group, "--rootfs"];
        self.ctr(runner, &[&ours[..], flags, &[root, name, "/bin/sleep", "1000"]].concat()).done();
    }

    /// The first process of a container that runs.
    ///
    /// # Panics
    /// If it doesn't.
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

    /// Where `mesh-runc` is.
    #[must_use]
    pub fn wrapper(&self) -> String {
        self.directory.join("mesh-runc").display().to_string()
    }
}
