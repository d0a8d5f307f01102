//! A runner under test: the agent in a namespace that plays the machine, and its commands.

use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    Instance, Namespace,
    process::{Daemon, Outcome, program, run},
    wait,
};

/// `mesh-node join` in its own namespace.
pub struct Runner {
    namespace: Namespace,
    state: PathBuf,
    daemon: Option<Daemon>,
    /// The program, if not the one under test itself.
    program: Option<PathBuf>,
    /// Variables of the agents that are started from now on.
    environment: Vec<(&'static str, OsString)>,
    attached: std::cell::Cell<u32>,
    /// The data directory of the coordinator that it follows, if there is one.
    coordinator: Option<PathBuf>,
}

impl Runner {
    pub(crate) fn new(namespace: Namespace, coordinator: Option<PathBuf>) -> Self {
        let state = PathBuf::from("/run").join(namespace.name());
        let attached = std::cell::Cell::new(0);
        Self { namespace, state, daemon: None, program: None, environment: vec![], attached, coordinator }
    }

    /// `mesh-node join ARGUMENTS`, going on in the background. Returns at once.
    pub fn begin(&mut self, arguments: &[&str]) {
        assert!(self.daemon.is_none(), "the agent runs already");
        let mut command = self.prepare(&["join"]);
        command.args(arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.daemon = Some(Daemon::start(command, &self.log_path()));
    }

    /// [`Runner::begin`], and waits until the agent follows the coordinator.
    ///
    /// # Panics
    /// If it ends instead.
    pub fn start(&mut self, arguments: &[&str]) {
        self.begin(arguments);
        self.wait_connected();
    }

    /// [`Runner::begin`], and waits until the agent answers, with or without a coordinator.
    ///
    /// # Panics
    /// If it ends instead.
    pub fn start_alone(&mut self, arguments: &[&str]) {
        self.begin(arguments);
        wait::until_true("the agent to answer", || {
            self.assert_runs();
            self.command(&["status"]).code == Some(0)
        });
    }

    /// Waits until the agent follows the coordinator.
    pub fn wait_connected(&mut self) {
        wait::until_true("the agent to follow the coordinator", || {
            self.assert_runs();
            self.command(&["status", "--json"]).is_connected()
        });
    }

    /// `mesh-node join ARGUMENTS` that is expected to end by itself.
    #[track_caller]
    pub fn join_in_vain(&self, arguments: &[&str]) -> Outcome {
        self.command(&[&["join"], arguments].concat())
    }

    fn assert_runs(&mut self) {
        let daemon = self.daemon.as_mut().expect("the agent was started");
        assert!(daemon.runs(), "the agent ended:\n{}", daemon.log());
    }

    /// Ends the agent (SIGTERM).
    ///
    /// # Panics
    /// If it doesn't run.
    pub fn stop(&mut self) -> ExitStatus {
        self.daemon.take().expect("the agent runs").terminate()
    }

    /// Ends the agent (SIGTERM), and starts another program in its place, as an upgrade does.
    ///
    /// # Panics
    /// If it doesn't run, or the other one doesn't answer.
    pub fn upgrade(&mut self, program: &Path) {
        self.stop();
        self.program = Some(program.to_owned());
        self.start_alone(&[]);
    }

    /// Sets a variable for the agents that are started from now on.
    pub fn set_environment(&mut self, name: &'static str, value: impl AsRef<OsStr>) {
        self.environment.push((name, value.as_ref().to_owned()));
    }

    /// Waits until the agent has ended by itself.
    ///
    /// # Panics
    /// If it doesn't run, or goes on.
    pub fn ended(&mut self) -> ExitStatus {
        self.daemon.take().expect("the agent runs").ended()
    }

    /// Ends the agent at once (SIGKILL).
    ///
    /// # Panics
    /// If it doesn't run.
    pub fn kill(&mut self) {
        self.daemon.take().expect("the agent runs").kill();
    }

    /// Stops the agent in its tracks (SIGSTOP): what comes in waits in its sockets and TUNs.
    ///
    /// # Panics
    /// If it doesn't run.
    pub fn pause(&self) {
        self.daemon.as_ref().expect("the agent runs").signal(Signal::SIGSTOP);
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Panics
    /// If it doesn't run.
    pub fn resume(&self) {
        self.daemon.as_ref().expect("the agent runs").signal(Signal::SIGCONT);
    }

    /// The agent's process.
    ///
    /// # Panics
    /// If it doesn't run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("the agent runs").pid()
    }

    /// The namespace that plays the machine.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its state directory.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Where its log is.
    pub(crate) fn log_path(&self) -> PathBuf {
        PathBuf::from(format!("{}.log", self.state.display()))
    }

    /// All that the agent has said.
    #[must_use]
    pub fn log(&self) -> String {
        self.daemon.as_ref().map(Daemon::log).unwrap_or_default()
    }

    /// `mesh-node ARGUMENTS`, not yet started.
    #[must_use]
    pub fn prepare(&self, arguments: &[&str]) -> Command {
        let own = self.program.as_ref().map(|path| path.display().to_string());
        let mut command = self.namespace.command(&own.unwrap_or_else(|| program("MESH_NODE")));
        command.args(arguments).env("MESH_NODE_STATE", &self.state).env("NO_COLOR", "1");
        command
    }

    /// `mesh-node ARGUMENTS`.
    #[track_caller]
    pub fn command(&self, arguments: &[&str]) -> Outcome {
        run(self.prepare(arguments))
    }

    /// `mesh-node ARGUMENTS --json`, which must succeed.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        self.command(&[arguments, &["--json"]].concat()).done().json()
    }

    /// `mesh-node run SERVICE -- COMMAND`.
    #[track_caller]
    pub fn run(&self, service: &str, command: &[&str]) -> Outcome {
        self.command(&[&["run", service, "--"], command].concat())
    }

    /// How many connections to an instance of its own stand.
    ///
    /// # Panics
    /// If the agent doesn't say.
    #[must_use]
    pub fn connections(&self, instance: &str) -> u64 {
        let status = self.json(&["status"]);
        let known = status["instances"].as_array().and_then(|all| all.iter().find(|known| known["id"] == instance));
        known.and_then(|known| known["connections"].as_u64()).unwrap_or_else(|| panic!("no {instance} in {status:#}"))
    }

    /// How many packets its agent has dropped for this reason; all reasons together if it is empty.
    #[track_caller]
    pub fn drops(&self, reason: &str) -> u64 {
        let status = self.json(&["status"]);
        let drops = status["drops"].as_object().unwrap_or_else(|| panic!("no drops in {status:#}"));
        drops
            .iter()
            .filter(|(name, _)| reason.is_empty() || *name == reason)
            .filter_map(|(_, count)| count.as_u64())
            .sum()
    }

    /// The agent's entry for a peer in `mesh-node status`.
    #[track_caller]
    pub fn peer(&self, name: &str) -> Option<Value> {
        self.json(&["status"])["peers"].as_array().expect("an array").iter().find(|p| p["name"] == name).cloned()
    }

    /// An instance of `service` in a new namespace, with a hosts file.
    ///
    /// # Panics
    /// If it is refused.
    #[track_caller]
    pub fn attach(&self, service: &str) -> Instance {
        self.attach_in(self.next_namespace(), service)
    }

    /// An instance of `service` in a namespace that is there already.
    ///
    /// # Panics
    /// If it is refused.
    #[track_caller]
    pub fn attach_in(&self, namespace: Namespace, service: &str) -> Instance {
        self.attach_as(namespace, service, &[])
    }

    /// An instance of `service` that is never a destination.
    ///
    /// # Panics
    /// If it is refused.
    #[track_caller]
    pub fn attach_client(&self, service: &str) -> Instance {
        self.attach_as(self.next_namespace(), service, &["--client"])
    }

    /// An instance of `service` that runs this release.
    ///
    /// # Panics
    /// If it is refused.
    #[track_caller]
    pub fn attach_release(&self, namespace: Namespace, service: &str, release: &str) -> Instance {
        self.attach_as(namespace, service, &["--release", release])
    }

    fn next_namespace(&self) -> Namespace {
        let number = self.attached.replace(self.attached.get() + 1);
        Namespace::create(&format!("{}-{number}", self.namespace.name()))
    }

    #[track_caller]
    fn attach_as(&self, namespace: Namespace, service: &str, flags: &[&str]) -> Instance {
        let hosts = PathBuf::from(format!("/run/hosts-{}", namespace.name()));
        fs::write(&hosts, "127.0.0.1 localhost\n").expect("cannot write a hosts file");
        let netns = namespace.path();
        let paths = (netns.to_str().expect("an ASCII path"), hosts.to_str().expect("an ASCII path"));
        let arguments = ["attach", service, "--netns", paths.0, "--hosts", paths.1];
        let answer = self.json(&[&arguments, flags].concat());
        assert_eq!(answer["version"], 1, "{answer:#}");
        let field = |name: &str| answer["instance"][name].as_str().unwrap_or_else(|| panic!("no {name} in {answer:#}"));
        assert_eq!(field("service"), service);
        assert_eq!(field("interface"), "mesh0");
        self.wait_known(service, &answer);
        let address = |name: &str| field(name).parse().unwrap_or_else(|e| panic!("{name}: {e} in {answer:#}"));
        let (id, address, service_address) = (field("id").to_owned(), address("address"), address("service_address"));
        Instance { namespace, id, address, service_address, hosts }
    }

    /// Waits until those runners know of an instance of `service` as well for which its agent has given up waiting: it does
    /// after two seconds, and names them.
    #[track_caller]
    fn wait_known(&self, service: &str, answer: &Value) {
        let late = answer["pending"].as_array().unwrap_or_else(|| panic!("no pending in {answer:#}"));
        if late.is_empty() {
            return;
        }
        let coordinator = self.coordinator.as_ref().expect("the runner follows a coordinator");
        let (deployment, _) = service.split_once('/').expect("DEPLOYMENT/SERVICE");
        wait::until_true("the other runners to know the instance", || {
            let mut command = Command::new(program("MESH_COORD"));
            // Without a change: the runners that haven't applied the current state.
            command.args(["trust", "--app", deployment, "--wait", "--timeout", "10ms", "--json"]);
            command.env("MESH_COORD_DATA", coordinator);
            let late_still = run(command).json()["pending"].clone();
            late_still.as_array().is_some_and(|still| late.iter().all(|name| !still.contains(name)))
        });
    }

    /// `mesh-node drain` of a local instance, until every affected runner has applied it. The agent waits two seconds
    /// at most; draining again waits again.
    #[track_caller]
    pub fn drain(&self, instance: &Instance) {
        let known = || self.json(&["drain", &instance.id])["pending"] == json!([]);
        wait::until_true("the runners to know that it is drained", known);
    }
}
