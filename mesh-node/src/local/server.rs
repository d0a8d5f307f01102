//! The agent's side of its socket.

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    sync::Arc,
};

use mesh_process::socket;
use mesh_proto::message::Refusal;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde_json::Value;
use tokio::{
    net::UnixListener,
    sync::{Semaphore, mpsc, oneshot},
    task::spawn_blocking,
};

use super::{ListenError, Request, RequestError, codec};
use crate::{
    hint::Hint as _,
    state::{self, StateDir},
};

/// The number of connections served at a time. More of them wait in the socket's backlog.
const CONNECTIONS: usize = 32;

/// A request that waits for its answer.
#[derive(Debug)]
pub(crate) struct Call {
    /// The request.
    pub(crate) request: Request,
    /// The descriptors that came with it.
    pub(crate) fds: Vec<OwnedFd>,
    /// Takes the answer.
    pub(crate) answer: oneshot::Sender<Result<Value, Refusal>>,
    /// Closed when the answer has been sent, or the client is gone.
    pub(crate) given: oneshot::Receiver<()>,
}

/// Opens the socket. Its calls arrive at the receiver until that is dropped.
///
/// # Errors
/// If the socket can't be made.
pub(crate) fn serve(state: &StateDir) -> Result<mpsc::Receiver<Call>, ListenError> {
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
                    // Out of descriptors, most likely: let other connections end first.
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(receiver)
}

/// Listens in the state directory, or in the second place if the directory takes no socket.
fn listen(state: &StateDir) -> Result<UnixListener, ListenError> {
    let path = state.socket();
    let error = match bind(&path) {
        Ok(listener) => return Ok(listener),
        Err(error) => error,
    };
    if let Some(spare) = state.spare_socket()
        && let Ok(listener) = state::make_room(&spare).and_then(|()| bind(&spare))
    {
        tracing::warn!(%error, "cannot listen at {}: commands reach the agent at {}", path.display(), spare.display());
        return Ok(listener);
    }
    Err(ListenError { path, error })
}

/// Binds the socket. This process holds the lock on the state directory, so an existing socket is a dead agent's.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let listener = socket::bind(path)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

async fn converse(stream: UnixStream, calls: mpsc::Sender<Call>) {
    let received = spawn_blocking(move || {
        stream.set_nonblocking(false)?;
        let request = if may_ask(&stream) { codec::receive_request(&stream) } else { Err(RequestError::Forbidden) };
        io::Result::Ok((stream, request))
    });
    let Ok(Ok((stream, request))) = received.await else { return };
    // Dropped when this function returns.
    let (_giving, given) = oneshot::channel();
    let answer = match request {
        Ok((request, fds)) => {
            let (sender, receiver) = oneshot::channel();
            let sent = calls.send(Call { request, fds, answer: sender, given }).await;
            match (sent, receiver.await) {
                (Ok(()), Ok(answer)) => answer,
                _ => Err(RequestError::Stopping.refusal()),
            }
        }
        Err(error) => Err(error.refusal()),
    };
    // The client may be gone.
    let _ = spawn_blocking(move || codec::send_answer(&stream, &answer)).await;
}

/// Whether the client's user may ask (SO_PEERCRED, unix(7)).
fn may_ask(stream: &UnixStream) -> bool {
    getsockopt(stream, PeerCredentials).is_ok_and(|peer| socket::is_trusted(peer.uid()))
}
