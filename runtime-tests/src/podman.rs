//! podman on a runner, with our hooks in its directory of hooks, or with `mesh-runc` as its runtime.

use std::{
    fs,
    os::unix::{fs::symlink, net::UnixStream},
    path::{Path, PathBuf},
    process::Command,
};

use mesh_netns_tests::{Daemon, Outcome, Runner, run, wait};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::{Container, Lab, image, mesh_node};

/// The commands of podman on a runner. There is no daemon.
pub struct Podman {
    /// The machine's network namespace.
    namespace: PathBuf,
    directory: PathBuf,
    group: String,
    /// The options for its runtime and its hooks.
    flags: Vec<String>,
}

impl Podman {
    /// As installed, with the configuration in /etc/containers.
    ///
    /// # Panics
    /// If it can't be set up.
    #[must_use]
    pub fn as_configured(lab: &Lab, runner: &Runner) -> Self {
        Self::new(lab, runner, vec![])
    }

    /// Whether its configuration can call CNI plugins: Debian builds it without since version 5.
    ///
    /// # Panics
    /// If podman isn't installed.
    #[must_use]
    pub fn knows_cni(runner: &Runner) -> bool {
        let mut ask = runner.namespace().command("podman");
        ask.arg("info");
        !run(ask).stderr.contains("cni support is not enabled")
    }

    /// With crun as its runtime, and our hook in its directory of hooks.
    ///
    /// # Panics
    /// If it can't be set up.
    #[must_use]
    pub fn with_hooks(lab: &Lab, runner: &Runner) -> Self {
        let hooks = PathBuf::from(format!("/run/hooks-{}", runner.namespace().name()));
        fs::create_dir_all(&hooks).expect("cannot make a directory");
        let hook = json!({
            "version": "1.0.0",
            "hook": {
                "path": mesh_node(),
                "args": ["mesh-node", "hook", "precreate", "--state", runner.state()],
                "timeout": 30,
            },
            "when": {"annotations": {"^mesh\\.service$": ".*"}},
            "stages": ["precreate"],
        });
        fs::write(hooks.join("mesh.json"), hook.to_string()).expect("cannot write a hook");
        Self::new(lab, runner, vec!["--hooks-dir".to_owned(), text(&hooks).to_owned()])
    }

    /// With `mesh-runc` as its runtime, and runc behind that. podman passes no variables on, so the agent's state
    /// directory is made the default one: there can be only one such runner.
    ///
    /// # Panics
    /// If it can't be set up.
    #[must_use]
    pub fn with_wrapper(lab: &Lab, runner: &Runner) -> Self {
        let wrapper = PathBuf::from(format!("/run/mesh-runc-{}", runner.namespace().name())).join("mesh-runc");
        fs::create_dir_all(wrapper.parent().expect("a directory")).expect("cannot make a directory");
        symlink(mesh_node(), &wrapper).expect("cannot make a link");
        symlink(runner.state(), "/var/lib/mesh-node").expect("cannot make a link");
        Self::new(lab, runner, vec!["--runtime".to_owned(), text(&wrapper).to_owned()])
    }

    fn new(lab: &Lab, runner: &Runner, flags: Vec<String>) -> Self {
        let directory = PathBuf::from(format!("/run/podman-{}", runner.namespace().name()));
        let (namespace, group) = (runner.namespace().path(), lab.group().to_owned());
        let podman = Self { namespace, directory, group, flags };
        let archive = image::archive();
        podman.command(&["import", "-q", "-c", "CMD [\"sleep\",\"infinity\"]", text(&archive), "busybox"]).done();
        podman
    }

    /// `podman ARGUMENTS`.
    #[track_caller]
    pub fn command(&self, arguments: &[&str]) -> Outcome {
        run(self.prepare(arguments))
    }

    /// Its service with Docker's API.
    ///
    /// # Panics
    /// If it doesn't start.
    #[must_use]
    pub fn service(&self) -> (Daemon, PathBuf) {
        let socket = self.directory.join("podman.sock");
        let command = self.prepare(&["system", "service", "--time", "0", &format!("unix://{}", socket.display())]);
        let daemon = Daemon::start(command, &self.directory.join("log"));
        wait::until_true("podman's service to answer", || UnixStream::connect(&socket).is_ok());
        (daemon, socket)
    }

    /// `podman ARGUMENTS`, not yet started.
    #[must_use]
    pub fn prepare(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace.display())).arg("podman");
        command.args(["--cgroup-manager", "cgroupfs", "--events-backend", "file", "--log-level", "error"]);
        command.arg("--root").arg(self.directory.join("root")).arg("--runroot").arg(self.directory.join("runroot"));
        command.arg("--tmpdir").arg(self.directory.join("tmp"));
        command.args(&self.flags).args(arguments);
        command
    }

    /// `podman run --rm FLAGS busybox sh -c SCRIPT`.
    #[track_caller]
    pub fn run(&self, flags: &[&str], script: &str) -> Outcome {
        self.start(&["--rm"], flags, &["sh", "-c", script])
    }

    /// `podman run --detach FLAGS busybox COMMAND`.
    ///
    /// # Panics
    /// If it doesn't start.
    #[track_caller]
    pub fn container(&self, flags: &[&str], command: &[&str]) -> Container {
        Container { id: self.start(&["--detach"], flags, command).done().stdout.trim().to_owned() }
    }

    #[track_caller]
    fn start(&self, kind: &[&str], flags: &[&str], command: &[&str]) -> Outcome {
        run(self.prepare_run(&[kind, flags].concat(), command))
    }

    /// `podman run FLAGS busybox COMMAND`, not yet started.
    #[must_use]
    pub fn prepare_run(&self, flags: &[&str], command: &[&str]) -> Command {
        self.prepare_image("localhost/busybox", flags, command)
    }

    /// `podman run --rm FLAGS IMAGE sh -c SCRIPT`.
    #[track_caller]
    pub fn run_image(&self, image: &str, flags: &[&str], script: &str) -> Outcome {
        run(self.prepare_image(&format!("localhost/{image}"), &[&["--rm"], flags].concat(), &["sh", "-c", script]))
    }

    /// Makes an image whose manifest has an annotation, and returns the path of the manifest.
    ///
    /// # Panics
    /// If that fails.
    #[track_caller]
    #[must_use]
    pub fn annotated(&self, image: &str, annotation: &str) -> PathBuf {
        let recipe = self.directory.join("Containerfile");
        fs::write(&recipe, "FROM localhost/busybox\nLABEL made=here\n").expect("cannot write a file");
        let (recipe, directory) = (text(&recipe), text(&self.directory));
        let made = ["--quiet", "--annotation", annotation, "--tag", image, "--file", recipe, directory];
        let id = self.command(&[&["build"], &made[..]].concat()).done().stdout;
        let driver = self.command(&["info", "--format", "{{.Store.GraphDriverName}}"]).done().stdout;
        self.directory.join(format!("root/{}-images/{}/manifest", driver.trim(), id.trim()))
    }

    fn prepare_image(&self, image: &str, flags: &[&str], command: &[&str]) -> Command {
        let group = format!("/{}", self.group);
        let ours = ["--cgroup-parent", &group, "--log-driver", "k8s-file"];
        self.prepare(&[&["run"][..], &ours, flags, &[image], command].concat())
    }

    /// `podman run FLAGS COMMAND`, not yet started, as an ordinary user of an image with the machine's own programs.
    #[track_caller]
    #[must_use]
    pub fn prepare_own(&self, flags: &[&str], command: &[&str]) -> Command {
        if self.command(&["image", "exists", "localhost/host"]).code != Some(0) {
            self.command(&["import", "-q", text(&image::without_usr()), "host"]).done();
        }
        let ours = ["--volume", "/usr:/usr:ro", "--user", "1000"];
        self.prepare_image("localhost/host", &[&ours, flags].concat(), command)
    }

    /// `podman exec CONTAINER sh -c SCRIPT`.
    #[track_caller]
    pub fn exec(&self, container: &Container, script: &str) -> Outcome {
        self.command(&["exec", &container.id, "sh", "-c", script])
    }

    /// Removes a container, running or not. After the end of a container podman cleans up in another process as well,
    /// and a mount may be in use by one process when the other removes it. That is podman's own race, so the command is
    /// repeated until it succeeds.
    pub fn remove(&self, container: &Container) {
        let remove = ["rm", "--force", "--time", "0", &container.id];
        let is_gone = || self.command(&["container", "exists", &container.id]).code == Some(1);
        wait::until_true("podman to clear away", || self.command(&remove).code == Some(0) || is_gone());
    }

    /// The first process of a running container.
    ///
    /// # Panics
    /// If it doesn't run.
    #[track_caller]
    pub fn pid(&self, container: &Container) -> i32 {
        self.process(container, "Pid")
    }

    /// The monitor of a running container: conmon.
    ///
    /// # Panics
    /// If it doesn't run.
    #[track_caller]
    pub fn monitor(&self, container: &Container) -> Pid {
        Pid::from_raw(self.process(container, "ConmonPid"))
    }

    #[track_caller]
    fn process(&self, container: &Container, which: &str) -> i32 {
        let found: Value = self.command(&["inspect", &container.id]).done().json()[0]["State"].clone();
        let pid = found[which].as_i64().and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0);
        pid.unwrap_or_else(|| panic!("no process in {found:#}"))
    }
}

impl Drop for Podman {
    /// So that the containers' control groups can be removed.
    fn drop(&mut self) {
        let mut command = Command::new("podman");
        command.arg("--root").arg(self.directory.join("root")).arg("--runroot").arg(self.directory.join("runroot"));
        command.arg("--tmpdir").arg(self.directory.join("tmp"));
        command.args(["--cgroup-manager", "cgroupfs", "rm", "--force", "--all", "--time", "0"]);
        // Nothing can be done about it here, and everything ends with the test's PID namespace.
        let _ = command.output();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("an ASCII path")
}
