//! Both sides of a real socket.

use std::{
    io::{Read as _, Write as _},
    os::{
        fd::AsFd as _,
        unix::{
            fs::{FileTypeExt as _, MetadataExt as _},
            net::UnixStream,
        },
    },
};

use mesh_proto::message::Refusal;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use super::*;
use crate::hint::Hint as _;
use crate::state::{StateDir, tests::Scratch};

/// An agent that answers each request with the request and the number of its descriptors.
fn echo(name: &str) -> (Scratch, StateDir) {
    let scratch = Scratch::new(name);
    let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
    let mut calls = serve(&state).unwrap();
    tokio::spawn(async move {
        while let Some(call) = calls.recv().await {
            let answer = match call.request {
                Request::Denied => Err(Refusal::new("no", "later")),
                request => Ok(json!({"request": request, "descriptors": call.fds.len()})),
            };
            call.answer.send(answer).unwrap();
        }
    });
    (scratch, state)
}

/// Sends raw bytes and returns the answer.
async fn raw(state: &StateDir, bytes: Vec<u8>) -> Value {
    let socket = state.socket();
    let exchange = move || {
        let mut stream = UnixStream::connect(socket).unwrap();
        // The agent may close the connection before everything is sent.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    };
    spawn_blocking(exchange).await.unwrap()
}

#[tokio::test]
async fn requests_are_answered_with_their_descriptors() {
    let (_scratch, state) = echo("socket");
    let asked = spawn_blocking(move || {
        let file = std::fs::File::open("/dev/null").unwrap();
        let client = Client::new(&state);
        let answer: Value = client.ask(&Request::Status, &[file.as_fd(), file.as_fd()]).unwrap();
        (answer, client.ask::<Value>(&Request::Denied, &[]))
    });
    let (answer, refused) = asked.await.unwrap();
    assert_eq!(answer, json!({"request": {"op": "status"}, "descriptors": 2}));
    assert!(matches!(refused, Err(ClientError::Refused(said)) if said == Refusal::new("no", "later")));
}

#[tokio::test]
async fn a_caller_learns_that_the_agent_ended_before_it_answered() {
    let scratch = Scratch::new("socket-ended");
    let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(state.socket()).unwrap();
    let asked = spawn_blocking(move || Client::new(&state).ask::<Value>(&Request::Status, &[]));
    let (stream, _) = listener.accept().unwrap();
    codec::receive_request(&stream).unwrap();
    drop(stream);
    let error = asked.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the agent ended before it answered");
    assert!(error.hint().unwrap().contains("mesh-node status"), "{error:?}");
}

#[tokio::test]
async fn the_socket_is_its_owners_and_replaces_a_dead_agents() {
    let (scratch, state) = echo("socket-mode");
    let metadata = std::fs::symlink_metadata(state.socket()).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.mode() & 0o777, 0o600);
    serve(&StateDir::locate(Some(scratch.0.clone())).unwrap()).unwrap();
}

#[tokio::test]
async fn an_invalid_request_is_refused_and_the_next_is_served() {
    let (_scratch, state) = echo("socket-garbage");
    for garbage in [b"".to_vec(), b"\n".to_vec(), b"{\"op\":\"format\"}\n".to_vec(), vec![0xff; 100]] {
        let answer = raw(&state, garbage).await;
        assert!(answer["error"].as_str().unwrap().contains("no request"), "{answer}");
    }
    let answer = raw(&state, vec![b' '; 1 << 20]).await;
    assert!(answer["error"].as_str().unwrap().contains("longer than"), "{answer}");
    let answer = raw(&state, b"{\"op\":\"status\"}\n".to_vec()).await;
    assert_eq!(answer["descriptors"], 0);
}

#[tokio::test]
async fn without_an_agent_the_command_that_starts_it_is_named() {
    let scratch = Scratch::new("socket-none");
    let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
    let error = Client::new(&state).ask::<Value>(&Request::Status, &[]).unwrap_err();
    assert!(matches!(error, ClientError::NoAgent { .. }) && error.hint().unwrap().contains("mesh-node join --state"));
}
