//! Strangers and greedy runners, and what is left for others meanwhile.

use std::net::{Ipv4Addr, SocketAddr};

use mesh_link::Method;
use mesh_model::NewPurpose;
use mesh_proto::{
    Secret,
    token::{Credential, Token, TokenKind},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};
use tokio_tungstenite::tungstenite::Error;

use super::{any, key, refused};
use crate::testing::World;

/// A connection from this address of the test's machine.
async fn dial(world: &World, from: Ipv4Addr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let to: SocketAddr = (Ipv4Addr::LOCALHOST, world.url.port()).into();
    socket.connect(to).await.unwrap()
}

/// Waits until the coordinator has closed the connection.
async fn ended(mut tcp: TcpStream) {
    let mut rest = Vec::new();
    let _ = tcp.read_to_end(&mut rest).await;
}

/// The coordinator's answer to these bytes, until it closes the connection or has sent `until`.
async fn answer(world: &World, request: &[u8], until: &str) -> String {
    let mut tls = mesh_link::connect(&world.url, world.fingerprint, &mesh_link::Proxies::none()).await.unwrap();
    // The coordinator may close it before all is written.
    let _ = tls.write_all(request).await;
    let mut heard = Vec::new();
    loop {
        let mut more = [0; 4096];
        match tls.read(&mut more).await {
            Ok(0) | Err(_) => break,
            Ok(n) => heard.extend_from_slice(&more[..n]),
        }
        if String::from_utf8_lossy(&heard).contains(until) {
            break;
        }
    }
    String::from_utf8_lossy(&heard).into_owned()
}

#[tokio::test]
async fn a_good_credential_is_taken_whatever_came_from_its_address_before() {
    let world = World::new().await;
    let (join, admin) = (world.token(any(9)).await, world.token(NewPurpose::Admin { team: None }).await);
    let standing = world.runner("standing").await;
    let wrong = |text: &str, kind| {
        let mut token = Token::parse(kind, text).unwrap();
        token.secret = Secret::from_bytes([1; 32]);
        token.to_text().to_string()
    };
    let mut credential: Credential = standing.parse().unwrap();
    credential.secret = Secret::from_bytes([1; 32]);
    let (bad_admin, bad_runner) = (wrong(&admin, TokenKind::Admin), credential.to_text().to_string());
    let mut bad = world.wish(&join, "one", &key(1)).await;
    bad.token = wrong(&join, TokenKind::Join);
    let mut statuses = Vec::new();
    for _ in 0..20 {
        statuses.push(refused(world.enrol(&bad).await).0);
        let shown = world.request::<Value>(Method::GET, "/v1/admin/nodes", Some(&bad_admin), None::<&()>).await;
        statuses.push(refused(shown).0);
        let Err(Error::Http(response)) = world.connect(&bad_runner).await else { panic!("it got in") };
        statuses.push(response.status().as_u16());
    }
    assert!(statuses[..20].iter().all(|status| *status == 401), "{statuses:?}");
    assert!(statuses[20..].iter().all(|status| *status == 429), "failures are slowed down: {statuses:?}");

    let mut agent = world.connect(&standing).await.unwrap();
    agent.hello(None, vec![]).await;
    world.request::<Value>(Method::GET, "/v1/admin/nodes", Some(&admin), None::<&()>).await.unwrap();
    world.enrol(&world.wish(&join, "one", &key(1)).await).await.unwrap();
}

#[tokio::test]
async fn what_a_good_secret_is_refused_for_is_said_to_it_however_often() {
    let world = World::new().await;
    let credential = world.runner("gone").await;
    world.order(mesh_model::AdminCommand::RemoveNode { name: crate::testing::label("gone"), force: true }).await;
    for _ in 0..50 {
        let Err(Error::Http(response)) = world.connect(&credential).await else { panic!("it got in") };
        assert_eq!(response.status(), 401, "so that it knows that it was removed");
    }
}

#[tokio::test]
async fn one_address_that_takes_all_it_can_keeps_no_other_out() {
    let world = World::new().await;
    let attacker = Ipv4Addr::LOCALHOST;
    let mut idle = Vec::new();
    for _ in 0..400 {
        idle.push(dial(&world, attacker).await);
    }
    // A runner at the same address, and an administrator at another one.
    let mut agent = world.agent("one").await;
    dial(&world, Ipv4Addr::new(127, 0, 0, 2)).await;
    let kept = idle.split_off(400 - 64);
    for connection in idle {
        ended(connection).await;
    }
    drop(kept);
    agent.say(&mesh_proto::message::Up::Resync).await;
    agent.news().await;
}

#[tokio::test]
async fn the_operators_socket_and_the_runners_work_while_strangers_have_every_place() {
    let world = World::new().await;
    let mut agent = world.agent("standing").await;
    let mut idle = Vec::new();
    // The tests' coordinator has 256 places for strangers.
    for n in 0..8 {
        for _ in 0..60 {
            idle.push(dial(&world, Ipv4Addr::new(127, 0, 1, n + 1)).await);
        }
    }
    world.admin::<Value>(Method::GET, "nodes", None::<&()>).await.unwrap();
    agent.say(&mesh_proto::message::Up::Resync).await;
    agent.news().await;
    world.agent("another").await;
}

#[tokio::test]
async fn a_wish_to_enrol_that_is_too_large_is_refused_before_it_comes() {
    let world = World::new().await;
    let head = "POST /v1/enrol HTTP/1.1\r\nhost: c\r\ncontent-type: application/json\r\n";
    let told = answer(&world, format!("{head}content-length: 1048576\r\n\r\n").as_bytes(), "\"hint\"").await;
    assert!(told.starts_with("HTTP/1.1 413") && told.contains("4 KiB"), "{told}");
    let chunk = format!("{head}transfer-encoding: chunked\r\n\r\n2000\r\n{}\r\n", "x".repeat(0x2000));
    let told = answer(&world, chunk.as_bytes(), "\"hint\"").await;
    assert!(told.starts_with("HTTP/1.1 413"), "{told}");
}

#[tokio::test]
async fn a_body_is_not_waited_for_without_the_right_to_send_it() {
    let world = World::new().await;
    for path in ["/v1/admin/command", "/v1/admin/tokens", "/v1/admin/trust-and-wait/shop"] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: c\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n"
        );
        let told = answer(&world, head.as_bytes(), "\"hint\"").await;
        assert!(told.starts_with("HTTP/1.1 401"), "{path}: {told}");
    }
}

#[tokio::test]
async fn headers_without_end_are_not_kept() {
    let world = World::new().await;
    for header in ["x: y\r\n".repeat(200), format!("x: {}\r\n", "y".repeat(200_000))] {
        let told =
            answer(&world, format!("GET /v1/info HTTP/1.1\r\nhost: c\r\n{header}\r\n").as_bytes(), "\r\n\r\n").await;
        assert!(!told.starts_with("HTTP/1.1 2"), "{told}");
    }
    world.request::<Value>(Method::GET, "/v1/info", None, None::<&()>).await.unwrap();
}

#[tokio::test]
async fn a_runner_has_few_streams_that_say_nothing_and_others_have_theirs() {
    let world = World::new().await;
    let credential = world.runner("greedy").await;
    let mut streams = Vec::new();
    let mut statuses = Vec::new();
    for _ in 0..20 {
        match world.connect(&credential).await {
            Ok(agent) => streams.push(agent),
            Err(Error::Http(response)) => statuses.push(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((streams.len(), statuses), (2, vec![429; 18]));
    world.agent("modest").await;
    // A stream that begins makes room, and so does one that ends.
    streams[0].hello(None, vec![]).await;
    streams[0].news().await;
    world.connect(&credential).await.unwrap();
}

#[tokio::test]
async fn a_token_for_large_requests_leaves_room_for_other_tokens() {
    let world = World::new().await;
    let loud = world.token(NewPurpose::Admin { team: Some(crate::testing::label("loud")) }).await;
    let quiet = world.token(NewPurpose::Admin { team: Some(crate::testing::label("quiet")) }).await;
    let mut open = Vec::new();
    for _ in 0..40 {
        let mut tls = mesh_link::connect(&world.url, world.fingerprint, &mesh_link::Proxies::none()).await.unwrap();
        let head = format!(
            "POST /v1/admin/command HTTP/1.1\r\nhost: c\r\nauthorization: Bearer {loud}\r\n\
             content-type: application/json\r\ncontent-length: 1048576\r\n\r\n{{"
        );
        tls.write_all(head.as_bytes()).await.unwrap();
        open.push(tls);
    }
    let wish = json!({ "command": "delete", "deployment": "none" });
    let answer = world.request::<Value>(Method::POST, "/v1/admin/command", Some(&quiet), Some(&wish)).await;
    assert_eq!(refused(answer).0, 404);
    drop(open);
}
