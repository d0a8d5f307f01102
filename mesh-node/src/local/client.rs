//! The command line's side of the socket.

use std::{
    io,
    os::{fd::BorrowedFd, unix::net::UnixStream},
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
        match error.kind() {
            io::ErrorKind::PermissionDenied => Refusal::new(
                format!("no right to talk to the agent at {}", socket.display()),
                "be root, or the user that the agent runs as",
            ),
            _ => Refusal::new(
                format!("no agent is running with the state directory {state}"),
                format!(
                    "start it with `mesh-node join --state {state}` (the first time: `mesh-node join URL TOKEN`), or name another directory with --state DIR"
                ),
            ),
        }
    }
}

/// There is no socket, or a dead agent's.
fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}
