//! Docker: its daemon on a runner, with `mesh-runc` as the default runtime, and its commands.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use mesh_netns_tests::{Daemon, Outcome, Runner, run, wait};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::{Lab, image, mesh_node};

/// Adopts and reaps orphans: otherwise dockerd takes ended containers of a killed daemon for running ones. It outlives
/// the daemon in it.
const SUPERVISE: &str = r#"dockerd "$@" & echo $! >"$0"; wait $!; exec sleep infinity"#;

/// `dockerd` on a runner.
pub struct Docker {
    directory: PathBuf,
    data: PathBuf,
    configuration: PathBuf,
    group: String,
    daemon: Option<Daemon>,
}

/// A container that runs in the background.
#[derive(Debug)]
pub struct Container {
    /// Its full identifier.
    pub id: String,
}

impl Docker {
    /// Starts it on a runner's machine, whose agent `mesh-runc` asks, and loads the image `busybox`.
    ///
    /// # Panics
    /// If it doesn't start.
    #[must_use]
    pub fn start(lab: &Lab, runner: &Runner) -> Self {
        Self::start_wrapped(lab, runner, json!({}))
    }

    /// Starts it with containers in user namespaces: their root is user 100,000 of the machine.
    ///
    /// # Panics
    /// If it doesn't start.
    #[must_use]
    pub fn start_remapped(lab: &Lab, runner: &Runner) -> Self {
        for file in ["/etc/subuid", "/etc/subgid"] {
            fs::write(file, "nobody:100000:65536\nnogroup:100000:65536\n").expect("cannot write a file");
        }
        Self::start_wrapped(lab, runner, json!({"userns-remap": "nobody:nogroup"}))
    }

    fn start_wrapped(lab: &Lab, runner: &Runner, mut config: Value) -> Self {
        let directory = directory(runner);
        let wrapper = directory.join("mesh-runc");
        symlink(mesh_node(), &wrapper).expect("cannot make a link");
        config["runtimes"] = json!({"mesh": {"path": wrapper}});
        config["default-runtime"] = "mesh".into();
        let configuration = directory.join("daemon.json");
        fs::write(&configuration, config.to_string()).expect("cannot write a file");
        Self::start_with(lab, runner, configuration)
    }

    /// Starts it unchanged, with runc. Its API is at [`Docker::socket`].
    ///
    /// # Panics
    /// If it doesn't start.
    #[must_use]
    pub fn start_plain(lab: &Lab, runner: &Runner) -> Self {
        let configuration = directory(runner).join("daemon.json");
        fs::write(&configuration, "{}").expect("cannot write a file");
        Self::start_with(lab, runner, configuration)
    }

    /// Starts it with this `daemon.json`.
    ///
    /// # Panics
    /// If it doesn't start.
    #[must_use]
    pub fn start_with(lab: &Lab, runner: &Runner, configuration: PathBuf) -> Self {
        let data = PathBuf::from(format!("/var/lib/docker-{}", runner.namespace().name()));
        let directory = directory(runner);
        let mut docker = Self { directory, data, configuration, group: lab.group().to_owned(), daemon: None };
        docker.start_again(runner);
        docker.command(&["import", "-c", "CMD [\"sleep\", \"infinity\"]", path(&image::archive()), "busybox"]).done();
        docker
    }

    /// `docker run FLAGS COMMAND`, not yet started, as an ordinary user of an image with the machine's own programs.
    #[track_caller]
    #[must_use]
    pub fn prepare_own(&self, flags: &[&str], command: &[&str]) -> Command {
        if self.command(&["image", "inspect", "host"]).code != Some(0) {
            self.command(&["import", path(&image::without_usr()), "host"]).done();
        }
        let usr = ["--volume", "/usr:/usr:ro", "--user", "1000"];
        self.prepare(&[&["run"][..], &usr, flags, &["host"], command].concat())
    }

    /// Starts it after [`Docker::kill`].
    ///
    /// # Panics
    /// If it doesn't start.
    pub fn start_again(&mut self, runner: &Runner) {
        let mut command = runner.namespace().command("tini");
        command.args(["-s", "--", "sh", "-c", SUPERVISE]).arg(self.pid_file());
        command.arg("--config-file").arg(&self.configuration);
        command.arg("--host").arg(self.host());
        command.arg("--exec-root").arg(self.directory.join("exec"));
        command.arg("--pidfile").arg(self.directory.join("dockerd.pid"));
        command.arg("--data-root").arg(&self.data);
        command.args(["--cgroup-parent", &format!("/{}", self.group), "--shutdown-timeout", "1"]);
        // The environment that the wrapper inherits through containerd and its shims.
        command.env("MESH_NODE_STATE", runner.state());
        let mut daemon = Daemon::start(command, &self.directory.join("log"));
        wait::until_true("dockerd to answer", || {
            assert!(daemon.runs(), "dockerd ended:\n{}", daemon.log());
            self.command(&["version"]).code == Some(0)
        });
        self.daemon = Some(daemon);
    }

    /// Ends the daemon at once (SIGKILL). Its containers go on.
    ///
    /// # Panics
    /// If it doesn't run.
    pub fn kill(&mut self) {
        let daemon = Pid::from_raw(self.daemon_pid());
        kill(daemon, Signal::SIGKILL).expect("cannot kill dockerd");
        wait::until_true("the end of dockerd", || kill(daemon, None).is_err());
    }

    /// Makes the daemon read its configuration again (SIGHUP), as `systemctl reload docker` does.
    ///
    /// # Panics
    /// If it doesn't run.
    pub fn reload(&self) {
        kill(Pid::from_raw(self.daemon_pid()), Signal::SIGHUP).expect("cannot reload dockerd");
    }

    /// `docker ARGUMENTS`.
    #[track_caller]
    pub fn command(&self, arguments: &[&str]) -> Outcome {
        run(self.prepare(arguments))
    }

    /// `docker ARGUMENTS`, not yet started.
    #[must_use]
    pub fn prepare(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(arguments);
        self.address(command)
    }

    /// Makes a command, a client of Docker's API, use this Docker.
    #[must_use]
    pub fn address(&self, mut client: Command) -> Command {
        client.env("DOCKER_HOST", self.host()).env("DOCKER_CONFIG", &self.directory);
        client
    }

    /// `docker run --rm FLAGS busybox sh -c SCRIPT`.
    #[track_caller]
    pub fn run(&self, flags: &[&str], script: &str) -> Outcome {
        self.command(&[&["run", "--rm"], flags, &["busybox", "sh", "-c", script]].concat())
    }

    /// `docker run --detach FLAGS busybox COMMAND`.
    ///
    /// # Panics
    /// If it doesn't start.
    #[track_caller]
    pub fn container(&self, flags: &[&str], command: &[&str]) -> Container {
        let outcome = self.command(&[&["run", "--detach"], flags, &["busybox"], command].concat()).done();
        Container { id: outcome.stdout.trim().to_owned() }
    }

    /// `docker exec FLAGS CONTAINER sh -c SCRIPT`.
    #[track_caller]
    pub fn exec(&self, container: &Container, flags: &[&str], script: &str) -> Outcome {
        self.command(&[&["exec"], flags, &[&container.id, "sh", "-c", script]].concat())
    }

    /// The output of `docker inspect` for a container.
    ///
    /// # Panics
    /// If there is no such container.
    #[track_caller]
    pub fn inspect(&self, container: &Container) -> Value {
        self.command(&["inspect", &container.id]).done().json()[0].clone()
    }

    /// The first process of a running container.
    ///
    /// # Panics
    /// If it doesn't run.
    #[track_caller]
    pub fn pid(&self, container: &Container) -> i32 {
        let found = self.inspect(container);
        let pid = found["State"]["Pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0);
        pid.unwrap_or_else(|| panic!("no process in {:#}", found["State"]))
    }

    /// The hosts file that Docker keeps for a container.
    #[must_use]
    pub fn hosts(&self, container: &Container) -> String {
        fs::read_to_string(self.data.join("containers").join(&container.id).join("hosts")).unwrap_or_default()
    }

    fn daemon_pid(&self) -> i32 {
        let text = fs::read_to_string(self.pid_file()).expect("the number of dockerd's process");
        text.trim().parse().expect("a number")
    }

    /// The socket of its API.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.join("docker.sock")
    }

    fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn pid_file(&self) -> PathBuf {
        self.directory.join("pid")
    }
}

impl Drop for Docker {
    /// Ends the daemon's containers with it, so that their control groups can be removed.
    fn drop(&mut self) {
        let Some(daemon) = &self.daemon else { return };
        let mut list = Command::new("docker");
        list.arg("--host").arg(self.host()).args(["ps", "--quiet", "--all"]);
        let all = list.output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        if !all.trim().is_empty() {
            let mut remove = Command::new("docker");
            remove.arg("--host").arg(self.host()).args(["rm", "--force"]).args(all.split_whitespace());
            // Nothing can be done about it here, and everything ends with the test's PID namespace.
            let _ = remove.output();
        }
        if std::thread::panicking() {
            eprintln!("---- dockerd said:\n{}----", daemon.log());
        }
    }
}

fn directory(runner: &Runner) -> PathBuf {
    let directory = PathBuf::from(format!("/run/docker-{}", runner.namespace().name()));
    fs::create_dir_all(&directory).expect("cannot make a directory");
    directory
}

fn path(path: &Path) -> &str {
    path.to_str().expect("an ASCII path")
}
