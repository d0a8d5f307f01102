//! An etcd of several members, each in a namespace of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::Value;

use crate::{
    Namespace,
    netns::Network,
    process::{Daemon, run},
    wait,
};

/// How long it may take to find a leader: on a machine that has no time for it, one election after another fails.
const ELECTED: Duration = Duration::from_secs(120);

/// An etcd.
pub struct Etcd {
    members: Vec<Member>,
}

struct Member {
    namespace: Namespace,
    network: Network,
    /// Its data directory.
    data: PathBuf,
    daemon: Option<Daemon>,
}

impl Member {
    fn url(&self, port: u16) -> String {
        format!("http://{}:{port}", self.network.v4(2))
    }

    fn name(&self) -> String {
        format!("m{}", self.network.0)
    }
}

impl Etcd {
    /// Starts one with a member in each of these namespaces, and waits until it answers.
    ///
    /// # Panics
    /// If it isn't installed, or doesn't answer.
    pub(crate) fn new(members: Vec<(Namespace, Network)>) -> Self {
        let member = |(namespace, network): (Namespace, Network)| {
            let data = PathBuf::from("/run").join(namespace.name());
            Member { namespace, network, data, daemon: None }
        };
        let mut this = Self { members: members.into_iter().map(member).collect() };
        for member in 0..this.members.len() {
            this.start(member);
        }
        this.wait_healthy();
        this
    }

    /// Starts a member.
    ///
    /// # Panics
    /// If it runs.
    pub fn start(&mut self, member: usize) {
        let all = self.cluster();
        let member = &mut self.members[member];
        assert!(member.daemon.is_none(), "the member runs already");
        let mut command = member.namespace.command("etcd");
        let (clients, peers) = (member.url(2379), member.url(2380));
        command
            .args(["--name", &member.name(), "--logger", "zap", "--log-outputs", "stderr", "--log-level", "error"])
            .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
            .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
            .args(["--initial-cluster", &all])
            .arg("--data-dir")
            .arg(&member.data);
        let log = format!("{}.log", member.data.display());
        member.daemon = Some(Daemon::start(command, Path::new(&log)));
    }

    /// Ends a member at once (SIGKILL).
    ///
    /// # Panics
    /// If it doesn't run.
    pub fn kill(&mut self, member: usize) {
        self.members[member].daemon.take().expect("the member runs").kill();
    }

    /// All members, as `--initial-cluster` has them.
    fn cluster(&self) -> String {
        let all: Vec<_> = self.members.iter().map(|member| format!("{}={}", member.name(), member.url(2380))).collect();
        all.join(",")
    }

    /// Writes all that is in it into a file, as its operator makes a backup.
    pub fn save(&self, file: &str) {
        run(Self::command(&self.members[0], &["snapshot", "save", file])).done();
    }

    /// Puts it back to what a file of [`Etcd::save`] holds, as its operator does: all members end, and begin anew with that.
    ///
    /// # Panics
    /// If a member doesn't run.
    pub fn put_back(&mut self, file: &str) {
        (0..self.members.len()).for_each(|member| self.kill(member));
        let all = self.cluster();
        for member in &mut self.members {
            member.data.set_extension("restored");
            let _ = fs::remove_dir_all(&member.data);
            let mut command = member.namespace.command("etcdctl");
            command
                .env("ETCDCTL_API", "3")
                .args(["snapshot", "restore", file, "--name", &member.name(), "--initial-cluster", &all])
                .args(["--initial-advertise-peer-urls", &member.url(2380)])
                .arg("--data-dir")
                .arg(&member.data);
            run(command).done();
        }
        (0..self.members.len()).for_each(|member| self.start(member));
        self.wait_healthy();
    }

    /// Stops a member (SIGSTOP) while `act` runs.
    ///
    /// # Panics
    /// If it doesn't run.
    pub fn frozen<R>(&self, member: usize, act: impl FnOnce() -> R) -> R {
        self.members[member].daemon.as_ref().expect("the member runs").frozen(act)
    }

    /// The namespaces of all members.
    pub fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        self.members.iter().map(|member| &member.namespace)
    }

    /// The place of a mesh's records, as `--store` has it.
    #[must_use]
    pub fn store(&self) -> String {
        let members: Vec<_> = self.members.iter().map(|member| member.network.v4(2).to_string()).collect();
        format!("etcd://{}/mesh", members.join(","))
    }

    /// The member that leads, once there is one.
    pub fn leader(&self) -> usize {
        wait::until("a leader", || {
            let is_leader = |member: &Member| {
                let status = Self::ctl(member, &["endpoint", "status", "--write-out", "json"])?;
                let status = &status.as_array()?.first()?["Status"];
                (status["leader"] == status["header"]["member_id"]).then_some(())
            };
            self.members.iter().position(|member| member.daemon.is_some() && is_leader(member).is_some())
        })
    }

    /// Puts a key that ends after so many seconds.
    ///
    /// # Panics
    /// If that fails.
    pub fn put_with_lease(&self, key: &str, value: &str, seconds: u64) {
        let member = &self.members[0];
        let granted = Self::ctl(member, &["lease", "grant", &seconds.to_string(), "--write-out", "json"]);
        let lease = granted.and_then(|granted| granted["ID"].as_i64()).expect("a lease");
        run(Self::command(member, &["put", key, value, &format!("--lease={lease:x}")])).done();
    }

    /// Deletes a key.
    ///
    /// # Panics
    /// If that fails.
    pub fn delete(&self, key: &str) {
        run(Self::command(&self.members[0], &["del", key])).done();
    }

    /// Reads a key.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn get(&self, key: &str) -> String {
        run(Self::command(&self.members[0], &["get", key])).done().stdout
    }

    /// Waits until each member answers, and knows a leader.
    pub fn wait_healthy(&self) {
        for member in &self.members {
            let health = ["endpoint", "health", "--write-out", "json"];
            wait::within(ELECTED, "etcd to answer", || {
                Self::ctl(member, &health).filter(|answer| answer[0]["health"] == true).map(drop)
            });
        }
    }

    /// `etcdctl ARGUMENTS` at a member; `None` if it fails.
    fn ctl(member: &Member, arguments: &[&str]) -> Option<Value> {
        let outcome = run(Self::command(member, arguments));
        (outcome.code == Some(0)).then(|| outcome.json())
    }

    fn command(member: &Member, arguments: &[&str]) -> Command {
        let mut command = member.namespace.command("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &member.url(2379)]).args(arguments);
        command
    }
}
