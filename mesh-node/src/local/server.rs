//! The agent's side of the socket.

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt as _, net::UnixStream},
    },
    sync::Arc,
};

use mesh_proto::message::Refusal;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde_json::Value;
use tokio::{
    net::UnixListener,
    sync::{Semaphore, mpsc, oneshot},
    task::spawn_blocking,
};

use super::{Request, codec};
use crate::state::{self, StateDir};

/// The most connections at a time. Further ones wait in the socket's backlog.
const CONNECTIONS: usize = 32;

/// A request that waits for its answer.
#[derive(Debug)]
pub(crate) struct Call {
    /// What is asked.
    pub(crate) request: Request,
    /// What came beside it.
    pub(crate) fds: Vec<OwnedFd>,
    /// Where the answer goes.
    pub(crate) answer: oneshot::Sender<Result<Value, Refusal>>,
    /// Ends when the answer has been given, or nobody wants it any more.
    pub(crate) given: oneshot::Receiver<()>,
}

/// Opens the socket, and gives the calls that come in until the receiver is dropped.
///
/// # Errors
/// If the socket can't be made.
pub(crate) fn serve(state: &StateDir) -> Result<mpsc::Receiver<Call>, Refusal> {
    let listener = listen(state)?;
    let (calls, receiver) = mpsc::channel(CONNECTIONS);
    tokio::spawn(async move {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let stream = tokio::select! {
                accepted = listener.accept() => accepted,
                () = calls.closed() => return,
            };
            match stream.and_then(|(stream, _)| stream.into_std()) {
                Ok(stream) => {
                    let calls = calls.clone();
                    tokio::spawn(async move {
                        converse(stream, calls).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection to the agent's socket was lost");
                    // Out of descriptors, most likely: give the others time to end.
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(receiver)
}

/// In the state directory, or in the second place if that takes no socket.
fn listen(state: &StateDir) -> Result<UnixListener, Refusal> {
    let path = state.socket();
    let error = match bind(&path) {
        Ok(listener) => return Ok(listener),
        Err(error) => error,
    };
    if let Some(spare) = state.spare_socket()
        && let Ok(listener) = state::make_room(&spare).and_then(|()| bind(&spare))
    {
        tracing::warn!(%error, "cannot listen at {}: the commands reach the agent by {}", path.display(), spare.display());
        return Ok(listener);
    }
    Err(Refusal::new(
        format!("cannot listen at {}: {error}", path.display()),
        "make the state directory writable, or choose another one with --state DIR",
    ))
}

/// The lock on the state directory is ours, so a socket that lies there is a dead agent's.
fn bind(path: &std::path::Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn converse(stream: UnixStream, calls: mpsc::Sender<Call>) {
    let received = spawn_blocking(move || {
        stream.set_nonblocking(false)?;
        let request = if may_ask(&stream) {
            codec::receive_request(&stream)
        } else {
            Err(Refusal::bare("only root and the user that the agent runs as may ask it"))
        };
        io::Result::Ok((stream, request))
    });
    let Ok(Ok((stream, request))) = received.await else { return };
    // Dropped with the end of this.
    let (_giving, given) = oneshot::channel();
    let answer = match request {
        Ok((request, fds)) => {
            let (sender, receiver) = oneshot::channel();
            let sent = calls.send(Call { request, fds, answer: sender, given }).await;
            match (sent, receiver.await) {
                (Ok(()), Ok(answer)) => answer,
                _ => Err(Refusal::new("the agent is stopping", "try again when it runs")),
            }
        }
        Err(refusal) => Err(refusal),
    };
    // Whoever asked may have gone away: then nobody minds.
    let _ = spawn_blocking(move || codec::send_answer(&stream, &answer)).await;
}

/// SO_PEERCRED, unix(7): who connected.
fn may_ask(stream: &UnixStream) -> bool {
    getsockopt(stream, PeerCredentials)
        .is_ok_and(|peer| peer.uid() == 0 || peer.uid() == nix::unistd::geteuid().as_raw())
}
