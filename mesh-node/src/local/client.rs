//! The command line's side of the socket.

use std::{
    io,
    os::{fd::BorrowedFd, unix::net::UnixStream},
};

use mesh_proto::message::Refusal;
use serde::de::DeserializeOwned;

use super::{Request, codec};
use crate::state::StateDir;

/// Reaches the agent of one state directory.
#[derive(Debug)]
pub(crate) struct Client<'a> {
    state: &'a StateDir,
}

impl<'a> Client<'a> {
    /// The agent of this state directory.
    pub(crate) const fn new(state: &'a StateDir) -> Self {
        Self { state }
    }

    /// Asks, with descriptors beside the request.
    ///
    /// # Errors
    /// If the agent isn't there, or refuses.
    pub(crate) fn ask<T: DeserializeOwned>(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<T, Refusal> {
        let stream = UnixStream::connect(self.state.socket()).map_err(|e| self.unreachable(&e))?;
        codec::send_request(&stream, request, fds)
            .map_err(|e| Refusal::new(format!("the agent doesn't take the request: {e}"), "see the agent's log"))?;
        codec::receive_answer(&stream)
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
