//! systemd as the first process of its own machine. It is root, and a system's units change /tmp, /dev and the kernel's
//! settings, so it can't reach the real machine: it has its own root with an overlay over the machine's /usr, the
//! kernel's settings are read-only except for the network's, and it has none of the machine's units that change such
//! things.

mod docker;

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use mesh_netns_tests::{Daemon, Namespace, Outcome, Runner, run, wait};

pub use self::docker::DOCKER_COMMANDS;
use crate::{Lab, mesh_node};

/// The manager itself.
const SYSTEMD: &str = "/usr/lib/systemd/systemd";
/// The units of Debian that are installed besides those under test.
const THEIRS: [&str; 16] = [
    "basic.target",
    "local-fs.target",
    "multi-user.target",
    "network-online.target",
    "network.target",
    "paths.target",
    "shutdown.target",
    "slices.target",
    "sockets.target",
    "swap.target",
    "sysinit.target",
    "systemd-journald-dev-log.socket",
    "systemd-journald.service",
    "systemd-journald.socket",
    "timers.target",
    "umount.target",
];
/// Makes that machine in its namespaces: `$1` is the directory of its root, `$2` the agent's program.
const BOOT: &str = r#"set -e
mount --make-rprivate /
mount --rbind "$1" "$1"
cd "$1"
mkdir .usr .usr/changes .usr/work
mount -t overlay -o lowerdir=/usr,upperdir=.usr/changes,workdir=.usr/work overlay usr
mount --bind .units usr/lib/systemd/system
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/net dev/pts dev/shm
for device in null zero full random urandom tty net/tun; do
    : >dev/$device
    mount --bind /dev/$device dev/$device
done
ln -s /proc/self/fd dev/fd
ln -s pts/ptmx dev/ptmx
mount -t proc proc proc
for settings in fs kernel vm; do
    mount --bind proc/sys/$settings proc/sys/$settings
    mount -o remount,bind,ro proc/sys/$settings
done
mount -t sysfs -o ro sysfs sys
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mount -t cgroup2 cgroup2 sys/fs/cgroup
else
    mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
    mkdir sys/fs/cgroup/systemd sys/fs/cgroup/unified
    mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
    # Where this is taken it does not mount the real one.
    mount -t tmpfs tmpfs sys/fs/cgroup/unified
fi
: >opt/mesh/mesh-node
mount --bind "$2" opt/mesh/mesh-node
mount -t tmpfs -o mode=755 tmpfs run
mkdir .outside
pivot_root . .outside
umount -l /.outside
rmdir /.outside
exec env -i container=lab PATH=/usr/sbin:/usr/bin SYSTEMD_GENERATOR_PATH=/none \
    SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/none /usr/lib/systemd/systemd --system --show-status=no --unit=basic.target
"#;

/// A machine with systemd, with the agent's program as its own /opt/mesh/mesh-node.
pub struct Systemd {
    root: PathBuf,
    daemon: Daemon,
}

impl Systemd {
    /// Boots it on this network. It is called as that is.
    ///
    /// # Panics
    /// If it doesn't come up.
    #[must_use]
    pub fn boot(lab: &Lab, namespace: &Namespace) -> Self {
        let root = PathBuf::from(format!("/run/systemd-{}", namespace.name()));
        furnish(&root, namespace.name());
        let mut command = namespace.command("sh");
        // The control groups that the lab removes. systemd's are below them.
        let enter = "for group; do mkdir -p $group; echo $$ >$group/cgroup.procs; done; \
             exec unshare --mount --pid --cgroup --ipc --uts --fork --kill-child sh \"$ROOT.sh\" \"$ROOT\" \"$PROGRAM\"";
        command
            .args(["-ec", enter, "sh"])
            .args(groups(lab, namespace.name()))
            .env("ROOT", &root)
            .env("PROGRAM", mesh_node());
        write(&root.with_extension("sh"), BOOT);
        let log = root.with_extension("log");
        let machine = Self { daemon: Daemon::start(command, &log), root };
        wait::until_true("systemd to be up", || {
            machine.first().is_some()
                && ["basic.target", "systemd-journald.service"].iter().all(|unit| machine.is_active(unit))
        });
        machine
    }

    /// Its root directory from outside, without mounts such as /run.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Ends a runner's agent, and starts another one here in its place by `mesh-node up`.
    ///
    /// # Panics
    /// If that fails.
    pub fn take_over(&self, runner: &mut Runner) {
        self.join(runner);
        self.command(&["mesh-node", "up"]).done();
    }

    /// Waits until the agent follows the coordinator, which is after its start.
    pub fn wait_connected(&self) {
        let is_connected = || self.command(&["mesh-node", "status", "--json"]).is_connected();
        wait::until_true("the agent to follow the coordinator", is_connected);
    }

    /// Ends a runner's agent, and makes this machine that runner.
    ///
    /// # Panics
    /// If that fails.
    pub fn join(&self, runner: &mut Runner) {
        runner.stop();
        let state = self.root.join("var/lib/mesh-node");
        fs::create_dir_all(&state).expect("cannot make a directory");
        for entry in fs::read_dir(runner.state()).expect("the agent's state").flatten() {
            fs::copy(entry.path(), state.join(entry.file_name())).expect("cannot copy a file");
        }
    }

    /// Installs a unit, or a drop-in of one: `shop.service`, `shop.service.d/mesh.conf`.
    ///
    /// # Panics
    /// If that fails.
    pub fn unit(&self, name: &str, text: &str) {
        write(&self.root.join(format!("etc/systemd/system/{name}")), text);
        self.systemctl(&["daemon-reload"]).done();
    }

    /// `systemctl ARGUMENTS`.
    #[must_use]
    pub fn systemctl(&self, arguments: &[&str]) -> Outcome {
        self.command(&[&["systemctl", "--no-pager"], arguments].concat())
    }

    /// Whether a unit is active now.
    #[must_use]
    pub fn is_active(&self, unit: &str) -> bool {
        self.systemctl(&["is-active", unit]).code == Some(0)
    }

    /// The journal of a unit.
    #[must_use]
    pub fn journal(&self, unit: &str) -> String {
        self.command(&["journalctl", "--sync"]).done();
        self.command(&["journalctl", "--no-pager", "--output=cat", "--unit", unit]).done().stdout
    }

    /// A command on that machine.
    ///
    /// # Panics
    /// If it isn't up.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Outcome {
        run(self.prepare(arguments))
    }

    /// A command on that machine, not yet started.
    ///
    /// # Panics
    /// If it isn't up.
    #[must_use]
    pub fn prepare(&self, arguments: &[&str]) -> Command {
        let first = self.first().expect("systemd runs");
        let mut command = Command::new("nsenter");
        command.args(["--target", &first, "--mount", "--pid", "--net", "--ipc", "--uts", "--root"]);
        command.args(["env", "--ignore-environment", "--chdir=/", "PATH=/opt/mesh:/usr/sbin:/usr/bin", "NO_COLOR=1"]);
        command.args(arguments);
        command
    }

    /// Its first process by its outer number, once that is systemd.
    fn first(&self) -> Option<String> {
        let starter = self.daemon.pid();
        let children = fs::read_to_string(format!("/proc/{starter}/task/{starter}/children")).ok()?;
        let first = children.split_whitespace().next()?;
        let program = fs::read_link(format!("/proc/{first}/exe")).ok()?;
        (program == Path::new(SYSTEMD)).then(|| first.to_owned())
    }
}

/// The control groups of a machine, in those of the lab: in every hierarchy that systemd uses, or in the only one.
fn groups(lab: &Lab, machine: &str) -> Vec<PathBuf> {
    let all = Path::new("/sys/fs/cgroup");
    if all.join("cgroup.controllers").exists() {
        return vec![all.join(lab.group()).join(machine)];
    }
    let kinds = ["blkio", "cpu", "cpuacct", "devices", "memory", "pids", "systemd"].map(|kind| all.join(kind));
    kinds.into_iter().filter(|kind| kind.exists()).map(|kind| kind.join(lab.group()).join(machine)).collect()
}

/// The content of its root before it boots.
fn furnish(root: &Path, name: &str) {
    for directory in ["usr", "proc", "sys", "dev", "run", "tmp", "root", "opt/mesh", "var/lib", "var/log", "var/tmp"] {
        fs::create_dir_all(root.join(directory)).expect("cannot make a directory");
    }
    symlink("../run", root.join("var/run")).expect("cannot make a link");
    for merged in ["bin", "sbin", "lib", "lib64"] {
        symlink(Path::new("usr").join(merged), root.join(merged)).expect("cannot make a link");
    }
    for (file, text) in [
        ("passwd", "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"),
        ("group", "root:x:0:\nsystemd-journal:x:101:\nnogroup:x:65534:\n"),
        ("hosts", "127.0.0.1 localhost\n192.0.2.7 printer\n"),
        ("machine-id", "5eed5eed5eed5eed5eed5eed5eed5eed\n"),
        ("hostname", name),
    ] {
        write(&root.join("etc").join(file), text);
    }
    let units = root.join(".units");
    for unit in THEIRS {
        write(
            &units.join(unit),
            &fs::read_to_string(Path::new("/usr/lib/systemd/system").join(unit)).expect("systemd's units"),
        );
    }
    let wanted = units.join("basic.target.wants");
    fs::create_dir(&wanted).expect("cannot make a directory");
    symlink("../systemd-journald.service", wanted.join("systemd-journald.service")).expect("cannot make a link");
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("an absolute path")).expect("cannot make a directory");
    fs::write(path, text).unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
}
