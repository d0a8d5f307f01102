//! Nothing of a podman container stays, however it ends and whichever process is killed. By our hook, by `mesh-runc`,
//! and by CDI.

use mesh_netns_tests::{Namespace, Runner, isolated, wait};
use mesh_runtime_tests::{Census, Container, Lab, Podman, Stage, offer};
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::Pid,
};

const SHOP: &str = "deployment = \"shop\"\n[services.app]\n[services.db]\n";
const ANNOTATED: [&str; 4] = ["--annotation", "mesh.service=shop/db", "--network", "none"];
const DEVICE: [&str; 4] = ["--device", "mesh.warp/service=shop.db", "--network", "none"];
const MAPPED: [&str; 2] = ["--uidmap", "0:100000:65536"];

/// A way in which podman's containers become instances.
struct Way {
    stage: Stage,
    podman: Podman,
    flags: &'static [&'static str],
    before: Census,
}

impl Way {
    fn new(podman: fn(&Lab, &Runner) -> Podman, flags: &'static [&'static str]) -> Self {
        let mut stage = Stage::new(&[SHOP]);
        if flags == DEVICE {
            offer(&mut stage.aws, &["shop/db"]);
        }
        let podman = podman(&stage.lab, &stage.aws);
        let before = stage.census();
        Self { stage, podman, flags, before }
    }

    fn container(&self, more: &[&str]) -> Container {
        let container = self.podman.container(&[self.flags, more].concat(), &["sleep", "1000"]);
        self.is_attached(&container);
        container
    }

    #[track_caller]
    fn is_attached(&self, container: &Container) {
        self.podman.exec(container, "ip addr show mesh0 && grep app.warp /etc/hosts").done();
    }

    fn kill(&self, container: &Container) {
        kill(Pid::from_raw(self.podman.pid(container)), Signal::SIGKILL).expect("cannot kill a container");
    }

    /// Restarted, stopped, started again, killed.
    fn comes_and_goes(self) {
        for more in [&[][..], &MAPPED] {
            let db = self.container(more);
            self.podman.command(&["restart", "--time", "0", &db.id]).done();
            assert_eq!(self.stage.instances(), ["shop/db live"]);
            self.is_attached(&db);
            self.podman.command(&["stop", "--time", "0", &db.id]).done();
            self.stage.nothing_is_left(&self.before);
            self.podman.command(&["start", &db.id]).done();
            self.is_attached(&db);
            self.kill(&db);
            self.stage.nothing_is_left(&self.before);
        }
    }

    /// The agent is killed, and so is the container's monitor, which replaces the daemon that podman doesn't have.
    fn loses_those_who_watch(mut self) {
        let (stays, goes) = (self.container(&MAPPED), self.container(&[]));
        self.stage.aws.kill();
        self.kill(&goes);
        self.stage.aws.start(&[]);
        wait::until_true("the end of one instance", || self.stage.instances() == ["shop/db live"]);
        self.is_attached(&stays);
        let process = Pid::from_raw(self.podman.pid(&stays));
        end(self.podman.monitor(&stays));
        assert_eq!(self.stage.instances(), ["shop/db live"]);
        // No program is left to report it.
        end(process);
        wait::until_true("the end of the other", || self.stage.instances().is_empty());
        // podman clears its own remains away on request, once it has found out that the container has ended.
        self.podman.remove(&stays);
        self.stage.nothing_is_left(&self.before);
    }
}

/// Kills a process whose only remaining parent is the first process, which is the test. podman takes a process that
/// hasn't been waited for as a running one.
fn end(process: Pid) {
    kill(process, Signal::SIGKILL).expect("cannot kill a process");
    waitpid(process, None).expect("it is the test's to wait for");
}

#[test]
fn by_a_hook_it_comes_and_goes() {
    isolated(|| Way::new(Podman::with_hooks, &ANNOTATED).comes_and_goes());
}

#[test]
fn by_the_wrapper_it_comes_and_goes() {
    isolated(|| Way::new(Podman::with_wrapper, &ANNOTATED).comes_and_goes());
}

#[test]
fn by_a_device_it_comes_and_goes() {
    isolated(|| Way::new(Podman::as_configured, &DEVICE).comes_and_goes());
}

#[test]
fn by_a_hook_after_any_kill() {
    isolated(|| Way::new(Podman::with_hooks, &ANNOTATED).loses_those_who_watch());
}

#[test]
fn by_the_wrapper_after_any_kill() {
    isolated(|| Way::new(Podman::with_wrapper, &ANNOTATED).loses_those_who_watch());
}

#[test]
fn by_a_device_after_any_kill() {
    isolated(|| Way::new(Podman::as_configured, &DEVICE).loses_those_who_watch());
}

#[test]
fn a_namespace_that_outlives_its_container_is_as_it_was() {
    isolated(|| {
        let kept = Namespace::create("kept");
        let way = Way::new(Podman::with_hooks, &ANNOTATED);
        let picture = || ["link", "addr", "rule", "route show table all"].map(|what| kept.ip_output(what)).join("\n");
        let pictured = picture();
        let flags = ["--annotation", "mesh.service=shop/db", "--network", "ns:/run/netns/kept"];
        way.podman.run(&flags, "ip addr show mesh0").done();
        way.stage.nothing_is_left(&way.before);
        wait::until_true("the namespace to be as it was", || picture() == pictured);
    });
}
