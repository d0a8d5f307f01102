//! The client's side of the agent's socket.

use std::{
    io,
    os::{
        fd::BorrowedFd,
        unix::{fs::MetadataExt as _, net::UnixStream},
    },
    thread,
    time::{Duration, Instant},
};

use serde::de::DeserializeOwned;

use super::{ClientError, Request, codec};
use crate::state::StateDir;

/// The default limit for an answer: longer than the agent itself waits for a coordinator and for other runners.
const LIMIT: Duration = Duration::from_secs(60);

/// The end of the path of every agent's socket.
const SOCKET: &str = "/agent.sock";
/// The state directory of root's agent.
const SYSTEM: &str = "/var/lib/mesh-node";

/// A client of the agent with one state directory.
#[derive(Debug)]
pub(crate) struct Client<'a> {
    state: &'a StateDir,
    limit: Duration,
    patience: Duration,
}

impl<'a> Client<'a> {
    /// A client of the agent with this state directory.
    pub(crate) const fn new(state: &'a StateDir) -> Self {
        Self { state, limit: LIMIT, patience: Duration::ZERO }
    }

    /// Limits the wait for an answer.
    pub(crate) const fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Waits up to `patience` for an agent that is just starting.
    pub(crate) const fn patient(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Sends a request with descriptors, and returns the answer.
    ///
    /// # Errors
    /// If no agent listens, it doesn't answer, or it refuses.
    pub(crate) fn ask<T: DeserializeOwned>(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<T, ClientError> {
        let stream = self.connect().map_err(|e| self.unreachable(&e))?;
        stream.set_read_timeout(Some(self.limit)).map_err(|e| self.unreachable(&e))?;
        codec::send_request(&stream, request, fds).map_err(ClientError::NotSent)?;
        codec::receive_answer(&stream)
    }

    /// Root's agent, for a user without one.
    pub(crate) fn of_root(&self) -> Option<ClientError> {
        self.state.is_own().then(of_root).flatten()
    }

    fn connect(&self) -> io::Result<UnixStream> {
        let begun = Instant::now();
        loop {
            match self.connect_once() {
                Err(e) if is_absent(&e) && begun.elapsed() < self.patience => thread::sleep(Duration::from_millis(20)),
                other => return other,
            }
        }
    }

    /// Connects to the socket in the state directory, or to the second place.
    fn connect_once(&self) -> io::Result<UnixStream> {
        UnixStream::connect(self.state.socket()).or_else(|error| {
            let spare = self.state.spare_socket().filter(|_| is_absent(&error));
            spare.and_then(|spare| UnixStream::connect(spare).ok()).ok_or(error)
        })
    }

    fn unreachable(&self, error: &io::Error) -> ClientError {
        if let Some(running) = self.of_root() {
            return running;
        }
        match error.kind() {
            io::ErrorKind::PermissionDenied => ClientError::Forbidden { socket: self.state.socket() },
            _ => ClientError::NoAgent { state: self.state.path().to_owned() },
        }
    }
}

/// An agent that runs as root, for a user without an agent: its directory can't be entered, but the kernel lists all sockets to
/// every user (proc_net(5)).
fn of_root() -> Option<ClientError> {
    let sockets = std::fs::read_to_string("/proc/net/unix").ok()?;
    let is_roots = |directory: &str| std::fs::metadata(directory).is_ok_and(|directory| directory.uid() == 0);
    let socket = socket_of_root(&sockets, is_roots)?;
    let state = match socket.strip_suffix(SOCKET)? {
        SYSTEM => None,
        other => Some(other.to_owned()),
    };
    Some(ClientError::RootsAgent { state })
}

/// The socket of root's usual agent, or of another one of root's.
fn socket_of_root(sockets: &str, is_roots: impl Fn(&str) -> bool) -> Option<&str> {
    let paths = sockets.lines().filter_map(|line| line.split_ascii_whitespace().nth(7));
    let agents = paths
        .filter(|path| path.strip_suffix(SOCKET).is_some_and(|directory| directory == SYSTEM || is_roots(directory)));
    agents.min_by_key(|path| path.strip_suffix(SOCKET) != Some(SYSTEM))
}

/// Whether there is no socket, or only a dead agent's.
fn is_absent(error: &io::Error) -> bool {
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
