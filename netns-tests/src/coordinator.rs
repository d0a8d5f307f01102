//! The coordinator under test, and its commands.

use std::{
    cell::Cell,
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

use serde_json::Value;

use crate::{
    Namespace,
    netns::Network,
    process::{Daemon, Outcome, program, run},
    wait,
};

/// `mesh-coord serve` in its own namespace.
pub struct Coordinator {
    namespace: Namespace,
    network: Network,
    data: PathBuf,
    flags: Vec<String>,
    daemon: Option<Daemon>,
    /// Variables of the processes that are started from now on.
    environment: Vec<(&'static str, OsString)>,
    files: Cell<u32>,
}

impl Coordinator {
    pub(crate) fn new(namespace: Namespace, network: Network, flags: &[&str]) -> Self {
        let data = PathBuf::from("/run").join(namespace.name());
        let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        Self { namespace, network, data, flags, daemon: None, environment: vec![], files: Cell::new(0) }
    }

    /// Starts it, and waits until it answers.
    ///
    /// # Panics
    /// If it doesn't.
    pub fn start(&mut self) {
        assert!(self.daemon.is_none(), "the coordinator runs already");
        let mut command = self.namespace.command(&program("MESH_COORD"));
        command.arg("serve").arg("--data").arg(&self.data).args(&self.flags);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let log = format!("{}.log", self.data.display());
        let mut daemon = Daemon::start(command, Path::new(&log));
        wait::until_true("the coordinator to answer", || {
            assert!(daemon.runs(), "the coordinator ended at once:\n{}", daemon.log());
            self.command(&["nodes", "--json"]).code == Some(0)
        });
        self.daemon = Some(daemon);
    }

    /// Ends it (SIGTERM).
    ///
    /// # Panics
    /// If it doesn't run.
    pub fn stop(&mut self) -> ExitStatus {
        self.daemon.take().expect("the coordinator runs").terminate()
    }

    /// Ends it at once (SIGKILL).
    ///
    /// # Panics
    /// If it doesn't run.
    pub fn kill(&mut self) {
        self.daemon.take().expect("the coordinator runs").kill();
    }

    /// Sets a variable for the processes that are started from now on.
    pub fn set_environment(&mut self, name: &'static str, value: impl AsRef<OsStr>) {
        self.environment.push((name, value.as_ref().to_owned()));
    }

    /// Whether it still runs that was started.
    #[must_use]
    pub fn runs(&mut self) -> bool {
        self.daemon.as_mut().is_some_and(Daemon::runs)
    }

    /// The same with other flags of `serve`, not started.
    ///
    /// # Panics
    /// If it runs.
    #[must_use]
    pub fn with_flags(self, flags: &[&str]) -> Self {
        assert!(self.daemon.is_none(), "the coordinator runs");
        Self { flags: flags.iter().map(|&flag| flag.to_owned()).collect(), ..self }
    }

    /// Waits for its end, which it comes to by itself.
    ///
    /// # Panics
    /// If it doesn't.
    pub fn ended(&mut self) -> ExitStatus {
        self.daemon.take().expect("the coordinator runs").ended()
    }

    /// `mesh-coord serve` that is expected to end by itself.
    #[track_caller]
    pub fn start_in_vain(&self) -> Outcome {
        let flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        self.command(&[&["serve"], &flags[..]].concat())
    }

    /// Stops it (SIGSTOP) while `act` runs. Its disk is then in the state that a power cut would leave.
    ///
    /// # Panics
    /// If it doesn't run.
    pub fn frozen<R>(&self, act: impl FnOnce() -> R) -> R {
        self.daemon.as_ref().expect("the coordinator runs").frozen(act)
    }

    /// Its process.
    ///
    /// # Panics
    /// If it doesn't run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("the coordinator runs").pid()
    }

    /// Its directory. A copy of it while it is stopped is a backup.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its URL by IPv4 or by IPv6.
    #[must_use]
    pub fn url(&self, v6: bool) -> String {
        match v6 {
            false => format!("https://{}:7443", self.network.v4(2)),
            true => format!("https://[{}]:7443", self.network.v6(2)),
        }
    }

    /// Its whole log.
    #[must_use]
    pub fn log(&self) -> String {
        self.daemon.as_ref().map(Daemon::log).unwrap_or_default()
    }

    /// The arguments of a command, as an operator types it.
    #[must_use]
    pub fn prepare(&self, arguments: &[&str]) -> Command {
        let mut command = self.namespace.command(&program("MESH_COORD"));
        command.args(arguments).env("MESH_COORD_DATA", &self.data).env("NO_COLOR", "1");
        command
    }

    /// `mesh-coord ARGUMENTS`.
    #[track_caller]
    pub fn command(&self, arguments: &[&str]) -> Outcome {
        run(self.prepare(arguments))
    }

    /// `mesh-coord ARGUMENTS --json`, which must succeed.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        self.command(&[arguments, &["--json"]].concat()).done().json()
    }

    /// Writes `text` into a file of that name in a new directory, and returns its path.
    ///
    /// # Panics
    /// If that fails.
    pub fn file(&self, name: &str, text: &str) -> String {
        let number = self.files.replace(self.files.get() + 1);
        let directory = PathBuf::from("/run/files").join(number.to_string());
        fs::create_dir_all(&directory).expect("cannot make a directory");
        let path = directory.join(name);
        fs::write(&path, text).expect("cannot write a file");
        path.display().to_string()
    }

    /// `mesh-coord apply` of a file with this text.
    #[track_caller]
    pub fn apply(&self, text: &str) -> Outcome {
        self.command(&["apply", "--prune", &self.file("mesh.toml", text)])
    }

    /// A join token.
    #[track_caller]
    pub fn token(&self, flags: &[&str]) -> String {
        let token = self.command(&[&["token", "create"], flags].concat()).done().stdout;
        assert!(token.starts_with("mesh1.") && token.trim().lines().count() == 1, "the token, alone: {token}");
        token.trim().to_owned()
    }

    /// The service address of a service, by `mesh-coord services`.
    ///
    /// # Panics
    /// If there is no such service.
    #[track_caller]
    pub fn address_of(&self, service: &str) -> std::net::Ipv4Addr {
        let all = self.json(&["services"]);
        let (deployment, name) = service.split_once('/').expect("DEPLOYMENT/SERVICE");
        let found = all["services"]
            .as_array()
            .expect("an array")
            .iter()
            .find(|s| s["deployment"] == deployment && s["service"] == name);
        found.and_then(|s| s["address"].as_str()?.parse().ok()).unwrap_or_else(|| panic!("no {service} in {all:#}"))
    }

    /// The entry of a runner in `mesh-coord nodes`.
    #[track_caller]
    pub fn node(&self, name: &str) -> Option<Value> {
        self.json(&["nodes"])["nodes"].as_array().expect("an array").iter().find(|n| n["name"] == name).cloned()
    }
}
