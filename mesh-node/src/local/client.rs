//! The command line's side of the socket.

use std::{
    io,
    os::{
        fd::BorrowedFd,
        unix::{fs::MetadataExt as _, net::UnixStream},
    },
    thread,
    time::{Duration, Instant},
};

use mesh_proto::message::Refusal;
use serde::de::DeserializeOwned;

use super::{Request, codec};
use crate::state::StateDir;

/// How long an agent may take for anything, unless it was said: more than its own waiting for a coordinator and for others adds
/// up to.
const LIMIT: Duration = Duration::from_secs(60);

/// The end of the path of an agent's socket.
const SOCKET: &str = "/agent.sock";
/// The directory of root's agent.
const SYSTEM: &str = "/var/lib/mesh-node";

/// Reaches the agent of one state directory.
#[derive(Debug)]
pub(crate) struct Client<'a> {
    state: &'a StateDir,
    limit: Duration,
    patience: Duration,
}

impl<'a> Client<'a> {
    /// The agent of this state directory.
    pub(crate) const fn new(state: &'a StateDir) -> Self {
        Self { state, limit: LIMIT, patience: Duration::ZERO }
    }

    /// Waits no longer than this for an answer.
    pub(crate) const fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Waits so long for an agent that is just starting.
    pub(crate) const fn patient(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Asks, with descriptors beside the request.
    ///
    /// # Errors
    /// If the agent isn't there, or refuses.
    pub(crate) fn ask<T: DeserializeOwned>(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<T, Refusal> {
        let stream = self.connect().map_err(|e| self.unreachable(&e))?;
        stream.set_read_timeout(Some(self.limit)).map_err(|e| self.unreachable(&e))?;
        codec::send_request(&stream, request, fds)
            .map_err(|e| Refusal::new(format!("the agent doesn't take the request: {e}"), "see the agent's log"))?;
        codec::receive_answer(&stream)
    }

    fn connect(&self) -> io::Result<UnixStream> {
        let begun = Instant::now();
        loop {
            match self.connect_once() {
                Err(e) if is_nobody(&e) && begun.elapsed() < self.patience => thread::sleep(Duration::from_millis(20)),
                other => return other,
            }
        }
    }

    /// Where the agent is, or where it is if the state directory takes no socket.
    fn connect_once(&self) -> io::Result<UnixStream> {
        UnixStream::connect(self.state.socket()).or_else(|error| {
            let spare = self.state.spare_socket().filter(|_| is_nobody(&error));
            spare.and_then(|spare| UnixStream::connect(spare).ok()).ok_or(error)
        })
    }

    fn unreachable(&self, error: &io::Error) -> Refusal {
        let (socket, state) = (self.state.socket(), self.state.path().display());
        if let Some(running) = self.state.is_own().then(of_root).flatten() {
            return running;
        }
        match error.kind() {
            io::ErrorKind::PermissionDenied => Refusal::new(
                format!("no right to talk to the agent at {}", socket.display()),
                "be root, or the user that the agent runs as",
            ),
            _ => Refusal::new(
                format!("no agent is running with the state directory {state}"),
                format!(
                    "start it with `mesh-node join --state {state}` (the first time: `mesh-node join TOKEN`), or name another directory with --state DIR"
                ),
            ),
        }
    }
}

/// An agent that runs as root, for a user who has none of his own: its directory can't be entered, but which sockets there
/// are is no secret (proc_net(5)).
fn of_root() -> Option<Refusal> {
    let sockets = std::fs::read_to_string("/proc/net/unix").ok()?;
    let is_roots = |directory: &str| std::fs::metadata(directory).is_ok_and(|directory| directory.uid() == 0);
    let socket = socket_of_root(&sockets, is_roots)?;
    let state = match socket.strip_suffix(SOCKET)? {
        SYSTEM => String::new(),
        other => format!(" --state {other}"),
    };
    Some(Refusal::new(
        "this user has no agent; one runs on this machine as root",
        format!("ask that one: sudo mesh-node{state} status (or any other command)"),
    ))
}

/// root's usual agent, or another one of root's.
fn socket_of_root(sockets: &str, is_roots: impl Fn(&str) -> bool) -> Option<&str> {
    let paths = sockets.lines().filter_map(|line| line.split_ascii_whitespace().nth(7));
    let agents = paths
        .filter(|path| path.strip_suffix(SOCKET).is_some_and(|directory| directory == SYSTEM || is_roots(directory)));
    agents.min_by_key(|path| path.strip_suffix(SOCKET) != Some(SYSTEM))
}

/// There is no socket, or a dead agent's.
fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_of_root_is_found_among_sockets() {
        let line = |path: &str| format!("0000000000000000: 00000002 00000000 00010000 0001 01 4711 {path}\n");
        let is_roots = |directory: &str| directory.starts_with("/run/");
        let none = line("/run/systemd/notify") + &line("/home/u/agent.sock") + "Num RefCount\n";
        assert_eq!(socket_of_root(&none, is_roots), None);
        let other = none + &line("/run/r1/agent.sock");
        assert_eq!(socket_of_root(&other, is_roots), Some("/run/r1/agent.sock"));
        let usual = other + &line("/var/lib/mesh-node/agent.sock");
        assert_eq!(socket_of_root(&usual, is_roots), Some("/var/lib/mesh-node/agent.sock"));
    }
}
