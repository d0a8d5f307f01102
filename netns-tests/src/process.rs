//! The programs under test: started, queried and ended by their handles, never by name.

use std::{
    env,
    fs::{self, DirEntry, File},
    io::{self, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::wait;

/// A command that takes this long hangs.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// The path of a program, from an environment variable.
pub(crate) fn program(variable: &str) -> String {
    env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: it is the path of the program under test. scripts/test sets it, or: cargo build -p mesh-coord -p mesh-node -p mesh-faults && {variable}=$PWD/target/debug/… cargo test -p mesh-netns-tests")
    })
}

/// How a command ended.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code; `None` if it was killed by a signal.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it said besides.
    pub stderr: String,
    what: String,
}

impl Outcome {
    /// It ended with this code.
    ///
    /// # Panics
    /// If it didn't.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\nstdout: {}\nstderr: {}", self.what, self.stdout, self.stderr);
        self
    }

    /// Whether `mesh-node status --json`, which this was, says that the agent follows its coordinator.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.code == Some(0) && self.json()["map"]["connected"] == true
    }

    /// It succeeded.
    ///
    /// # Panics
    /// If it didn't.
    #[track_caller]
    pub fn done(self) -> Self {
        self.expect_code(0)
    }

    /// It was refused, with something like each of these words on stderr, and nothing on stdout.
    ///
    /// # Panics
    /// If it wasn't, or said something else.
    #[track_caller]
    pub fn refused(self, words: &[&str]) -> Self {
        let this = self.expect_code(1);
        for word in words {
            assert!(this.stderr.contains(word), "{}\nsays nothing of `{word}`:\n{}", this.what, this.stderr);
        }
        this
    }

    /// Its output as JSON.
    ///
    /// # Panics
    /// If that isn't JSON.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("{}: {e} in its output:\n{}", self.what, self.stdout))
    }
}

/// Runs a command to its end, with nothing on its standard input.
///
/// # Panics
/// If it can't be started or hangs.
#[track_caller]
pub fn run(command: Command) -> Outcome {
    run_for(COMMAND_LIMIT, command)
}

/// [`run`] with another limit.
#[track_caller]
pub fn run_for(limit: Duration, mut command: Command) -> Outcome {
    let what = format!("{command:?}");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot start {what}: {e}"));
    let stdout = read_all(child.stdout.take().expect("piped"));
    let stderr = read_all(child.stderr.take().expect("piped"));
    let status = wait_for(&mut child, limit, &what);
    let text = |handle: thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&handle.join().expect("reading cannot fail")).into_owned()
    };
    Outcome { code: status.code(), stdout: text(stdout), stderr: text(stderr), what }
}

fn read_all(mut from: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

fn wait_for(child: &mut Child, limit: Duration, what: &str) -> ExitStatus {
    wait::within(limit, &format!("the end of {what}"), || child.try_wait().expect("cannot wait for a child"))
}

/// A program that runs until it is stopped. Its log is printed when the test fails.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: PathBuf,
    what: String,
}

impl Daemon {
    /// Starts it, with its output appended to `log`.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn start(mut command: Command, log: &Path) -> Self {
        let what = format!("{command:?}");
        let file = File::options().create(true).append(true).open(log).expect("cannot open a log file");
        command.stdin(Stdio::null()).stdout(file.try_clone().expect("cannot duplicate a descriptor")).stderr(file);
        let child = command.spawn().unwrap_or_else(|e| panic!("cannot start {what}: {e}"));
        Self { child, log: log.to_owned(), what }
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    #[must_use]
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("cannot wait for a child").is_none()
    }

    /// All that it has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits for its end, which it comes to by itself.
    ///
    /// # Panics
    /// If it doesn't.
    pub fn ended(mut self) -> ExitStatus {
        wait_for(&mut self.child, COMMAND_LIMIT, &self.what)
    }

    /// Asks it to end (SIGTERM) and waits for that.
    ///
    /// # Panics
    /// If it doesn't.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        wait_for(&mut self.child, COMMAND_LIMIT, &self.what)
    }

    /// Ends it without asking (SIGKILL).
    pub fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        wait_for(&mut self.child, COMMAND_LIMIT, &self.what);
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"));
        kill(pid, signal).expect("cannot send a signal to a child");
    }

    /// Stops it (SIGSTOP) while `act` runs.
    pub fn frozen<R>(&self, act: impl FnOnce() -> R) -> R {
        self.signal(Signal::SIGSTOP);
        // The kernel's state counts, since the signal takes effect later.
        let stands = |task: io::Result<DirEntry>| {
            let state = task.and_then(|task| fs::read_to_string(task.path().join("stat")));
            state.is_ok_and(|text| text.rsplit(')').next().is_some_and(|rest| rest.starts_with(" T")))
        };
        let tasks = format!("/proc/{}/task", self.pid());
        wait::until_true("a program to stand still", || {
            fs::read_dir(&tasks).is_ok_and(|tasks| tasks.into_iter().all(stands))
        });
        let result = act();
        self.signal(Signal::SIGCONT);
        result
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // After `terminate` and `kill` this finds nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(6000);
            let tail = log.get(log.ceil_char_boundary(from)..).unwrap_or_default();
            eprintln!("---- {} said last:\n{tail}----", self.what);
        }
    }
}
