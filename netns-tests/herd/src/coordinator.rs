//! The coordinator under test: a process of its own on a core of its own.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use mesh_link::Method;
use mesh_model::AdminCommand;
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Serialize;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::{sleep, timeout},
};

/// How long it may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(5);

pub(crate) struct Coordinator {
    process: Child,
    pub(crate) address: SocketAddr,
    socket: PathBuf,
    /// How long it took until it accepted connections.
    pub(crate) started_in: Duration,
    pub(crate) ready: Instant,
}

/// What it has used so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Processor time.
    pub(crate) cpu: Duration,
    /// Resident memory, in KiB, and the most since it was asked for last.
    pub(crate) memory: u64,
    pub(crate) peak: u64,
}

/// Keeps this process off the last core that it may use, which is the coordinator's.
pub(crate) fn leave_a_core() {
    if let (Some(last), Ok(mut cores)) = (last_core(), sched_getaffinity(Pid::from_raw(0))) {
        let _ = cores.unset(last);
        let _ = sched_setaffinity(Pid::from_raw(0), &cores);
    }
}

fn last_core() -> Option<usize> {
    let number = std::thread::available_parallelism().map_or(1, usize::from);
    (number > 1).then(|| CpuSet::count() - 1).and_then(|most| {
        let all = std::fs::read_to_string("/proc/self/status").ok()?;
        let list = all.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        list.trim().rsplit([',', '-']).next()?.parse().ok().filter(|last| *last <= most)
    })
}

impl Coordinator {
    pub(crate) async fn start(data: &Path) -> Result<Self, String> {
        let program = std::env::var("MESH_COORD").map_err(|_| "MESH_COORD is not set: it is the path of mesh-coord")?;
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.map_err(|error| error.to_string())?;
        let mut command = match CORE.get_or_init(last_core) {
            Some(core) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &core.to_string(), &program]);
                command
            }
            None => Command::new(&program),
        };
        command.args(["serve", "--listen", &address.to_string(), "--data"]).arg(data);
        let log = std::fs::File::create(data.with_extension("log")).map_err(|error| error.to_string())?;
        command.env("RUST_LOG", "warn").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let begun = Instant::now();
        let process = command.spawn().map_err(|error| format!("{program}: {error}"))?;
        let mut this =
            Self { process, address, socket: data.join("admin.sock"), started_in: Duration::ZERO, ready: begun };
        // It listens before it has read its records, and answers afterwards.
        let answers = async {
            while this.request::<()>(Method::GET, "/v1/admin/relays", None).await.is_err() {
                sleep(LOOK).await;
            }
        };
        timeout(PATIENCE, answers).await.map_err(|_| format!("no answer at {address}"))?;
        (this.started_in, this.ready) = (begun.elapsed(), Instant::now());
        Ok(this)
    }

    /// Ends it in order.
    pub(crate) async fn stop(mut self) -> Result<(), String> {
        kill(self.pid(), Signal::SIGTERM).map_err(|error| error.to_string())?;
        let ended = async {
            while !matches!(self.process.try_wait(), Ok(Some(_))) {
                sleep(LOOK).await;
            }
        };
        timeout(PATIENCE, ended).await.map_err(|_| "mesh-coord doesn't end".to_owned())
    }

    /// What it has used; the peak begins anew.
    pub(crate) fn usage(&self) -> Usage {
        let own = PathBuf::from(format!("/proc/{}", self.pid()));
        let status = std::fs::read_to_string(own.join("status")).unwrap_or_default();
        let memory = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
        };
        let usage = Usage { cpu: self.processor_time(), memory: memory("VmRSS:"), peak: memory("VmHWM:") };
        let _ = std::fs::write(own.join("clear_refs"), "5");
        usage
    }

    /// The processor time of all its threads.
    pub(crate) fn processor_time(&self) -> Duration {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid())).into_iter().flatten().flatten();
        let of = |thread: std::fs::DirEntry| {
            let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        };
        Duration::from_nanos(threads.filter_map(of).sum())
    }

    /// An administrator's request at its socket.
    pub(crate) async fn order(&self, command: &AdminCommand) -> Result<(), String> {
        self.request(Method::POST, "/v1/admin/command", Some(command)).await
    }

    /// Asks for something at its socket, a path as it is or one of the administrators' API; the bytes of the answer, none
    /// from a version that doesn't know it.
    pub(crate) async fn look(&self, path: &str) -> Result<usize, String> {
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/v1/admin/{path}") };
        let mut socket = UnixStream::connect(&self.socket).await.map_err(|error| error.to_string())?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: mesh\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&answer);
        let (head, body) = text.split_once("\r\n\r\n").ok_or("no answer")?;
        match head.split(' ').nth(1) {
            Some("200") => Ok(body.len()),
            Some("404") => Ok(0),
            _ => Err(format!("{path}: {head}")),
        }
    }

    async fn request<B: Serialize + Sync>(&self, method: Method, path: &str, body: Option<&B>) -> Result<(), String> {
        let socket = UnixStream::connect(&self.socket).await.map_err(|error| error.to_string())?;
        let answer = mesh_link::request::<Value>(socket, "localhost", method, path, None, body).await;
        answer.map(drop).map_err(|error| error.to_string())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.process.id()).unwrap_or_default())
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

static CORE: std::sync::OnceLock<Option<usize>> = std::sync::OnceLock::new();
