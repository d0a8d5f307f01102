use std::time::Duration;

use mesh_model::{AdminCommand, NewPurpose, Role};
use mesh_proto::token::{Token, TokenKind};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::FOLLOWERS;
use crate::testing::{World, label};

/// Long enough for a busy machine; no test waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// An open request for events.
struct Tail {
    stream: mesh_link::Stream,
    text: String,
}

impl Tail {
    async fn open(world: &World, token: &str, last: Option<&str>) -> Self {
        let mut stream = mesh_link::connect(&world.url, world.fingerprint, &mesh_link::Proxies::none()).await.unwrap();
        let last = last.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        let request =
            format!("GET /v1/admin/events HTTP/1.1\r\nhost: mesh\r\nauthorization: Bearer {token}\r\n{last}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        Self { stream, text: String::new() }
    }

    /// Reads on; `false` at the end.
    async fn read(&mut self) -> bool {
        let mut piece = [0; 4096];
        let read = timeout(PATIENCE, self.stream.read(&mut piece)).await.expect("nothing came").unwrap_or(0);
        self.text += std::str::from_utf8(&piece[..read]).unwrap();
        // The end of a chunked body.
        read > 0 && !self.text.ends_with("\r\n0\r\n\r\n")
    }

    async fn status(&mut self) -> u16 {
        while !self.text.contains("\r\n\r\n") {
            assert!(self.read().await, "{}", self.text);
        }
        self.text.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// The name, the identifier and the data of the next event.
    async fn next(&mut self) -> (String, String, Value) {
        loop {
            if let Some((event, rest)) = self.text.split_once("event: ").and_then(|(_, rest)| rest.split_once("\n\n")) {
                let mut lines = event.lines();
                let name = lines.next().unwrap().to_owned();
                let id = lines.next().unwrap().strip_prefix("id: ").unwrap().to_owned();
                let data = serde_json::from_str(lines.next().unwrap().strip_prefix("data: ").unwrap()).unwrap();
                self.text = rest.to_owned();
                return (name, id, data);
            }
            assert!(self.read().await, "it ended: {}", self.text);
        }
    }
}

async fn viewer(world: &World, team: Option<&str>) -> String {
    world.token(NewPurpose::Role { role: Role::Viewer, team: team.map(label) }).await
}

#[tokio::test]
async fn followers_learn_what_changes_and_a_team_of_its_own_only() {
    let world = World::new().await;
    let (all, acme) = (viewer(&world, None).await, viewer(&world, Some("acme")).await);
    let (mut every, mut own) = (Tail::open(&world, &all, None).await, Tail::open(&world, &acme, None).await);
    assert_eq!((every.next().await.0, own.next().await.0), ("resync".to_owned(), "resync".to_owned()));
    world.deploy("bank", "other", &["vault"]).await;
    world.deploy("shop", "acme", &["db"]).await;
    let (name, id, bank) = every.next().await;
    assert_eq!((&*name, id), ("change", bank["revision"].to_string()));
    assert_eq!(
        (&bank["audit"][0]["object"], &bank["lists"]),
        (&"bank".into(), &serde_json::json!(["deployments", "services"]))
    );
    let (_, last, shop) = every.next().await;
    assert_eq!(shop["audit"][0]["action"], "apply");
    assert_eq!(own.next().await.2, shop, "and nothing of the other team's before");
    // Who comes back gets what it has missed.
    world.deploy("more", "acme", &["db"]).await;
    let mut back = Tail::open(&world, &all, Some(&last)).await;
    assert_eq!(back.next().await.2["audit"][0]["object"], "more");
    for gone in ["0", "99999", "rubbish"] {
        assert_eq!(Tail::open(&world, &all, Some(gone)).await.next().await.0, "resync", "{gone}");
    }
}

#[tokio::test]
async fn a_revoked_token_follows_no_longer() {
    let world = World::new().await;
    let token = viewer(&world, None).await;
    let mut tail = Tail::open(&world, &token, None).await;
    tail.next().await;
    let id = Token::parse(TokenKind::Admin, &token).unwrap().id;
    world.order(AdminCommand::RevokeToken { token: id, with_nodes: false }).await;
    while tail.read().await {}
    assert!(!tail.text.contains("event:"), "it learns nothing of what has ended it: {}", tail.text);
}

#[tokio::test]
async fn one_token_follows_a_limited_number_of_times() {
    let world = World::new().await;
    let (loud, quiet) = (viewer(&world, None).await, viewer(&world, None).await);
    let mut held = Vec::new();
    for _ in 0..FOLLOWERS {
        let mut tail = Tail::open(&world, &loud, None).await;
        assert_eq!(tail.status().await, 200);
        held.push(tail);
    }
    assert_eq!(Tail::open(&world, &loud, None).await.status().await, 429);
    assert_eq!(Tail::open(&world, &quiet, None).await.status().await, 200);
    // A place is free again once its connection has ended.
    held.clear();
    while Tail::open(&world, &loud, None).await.status().await != 200 {
        tokio::task::yield_now().await;
    }
}
