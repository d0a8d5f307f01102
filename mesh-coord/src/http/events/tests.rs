use std::time::{Duration, Instant};

use mesh_model::{AdminCommand, NewPurpose, Role};
use mesh_proto::{
    RunnerId,
    token::{Token, TokenKind},
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::{FOLLOWERS, news::LatestReports};
use crate::testing::{World, label, two};

/// Long enough for a busy machine; no test waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// An open request for events.
struct Tail {
    stream: mesh_link::Stream,
    text: String,
}

impl Tail {
    async fn open(world: &World, token: &str, last: Option<&str>) -> Self {
        Self::of_kinds(world, token, "", last).await
    }

    async fn of_kinds(world: &World, token: &str, query: &str, last: Option<&str>) -> Self {
        let mut stream = mesh_link::connect(&world.url, world.fingerprint, &mesh_link::Proxies::none()).await.unwrap();
        let last = last.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        let request = format!(
            "GET /v1/admin/events{query} HTTP/1.1\r\nhost: mesh\r\nauthorization: Bearer {token}\r\n{last}\r\n"
        );
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
                let name = event.lines().next().unwrap().to_owned();
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(ToOwned::to_owned);
                let id = field("id: ").unwrap_or_default();
                let data = serde_json::from_str(&field("data: ").unwrap()).unwrap();
                self.text = rest.to_owned();
                return (name, id, data);
            }
            assert!(self.read().await, "it ended: {}", self.text);
        }
    }
}

impl Tail {
    /// The data of the next event of this kind for which that holds.
    async fn until(&mut self, kind: &str, holds: impl Fn(&Value) -> bool) -> Value {
        loop {
            let (name, _, data) = self.next().await;
            if name == kind && holds(&data) {
                return data;
            }
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
async fn kinds_that_are_asked_for_come_and_a_team_gets_its_own() {
    let world = World::new().await;
    world.deploy("bank", "other", &["vault"]).await;
    world.deploy("shop", "acme", &["db"]).await;
    world.deploy("web", "acme", &["front"]).await;
    let (all, acme) = (viewer(&world, None).await, viewer(&world, Some("acme")).await);
    let query = "?kinds=node,instance,trust-applied,audit";
    let mut every = Tail::of_kinds(&world, &all, query, None).await;
    let mut own = Tail::of_kinds(&world, &acme, query, None).await;
    assert_eq!((every.next().await.0, own.next().await.0), ("resync".to_owned(), "resync".to_owned()));

    let mut one = world.agent("one").await;
    let came = every.until("node", |node| node["state"] == "online").await;
    assert_eq!((&came["node"], &came["drained"]), (&"one".into(), &false.into()));
    one.attach("bank/vault").await;
    one.attach("shop/db").await;
    let began = every.until("instance", |instance| instance["service"] == "bank/vault").await;
    assert_eq!((&began["id"], &began["node"], &began["state"]), (&"i-1".into(), &"one".into(), &"live".into()));
    // The first instance that the team is told of is its own.
    assert_eq!(own.until("instance", |_| true).await["service"], "shop/db");
    one.ask(mesh_proto::message::Ask::Drain { instance: mesh_proto::InstanceId(2) }).await.unwrap();
    assert_eq!(own.until("instance", |_| true).await["state"], "draining");
    one.ask(mesh_proto::message::Ask::Detach { instance: mesh_proto::InstanceId(1) }).await.unwrap();
    one.ask(mesh_proto::message::Ask::Detach { instance: mesh_proto::InstanceId(2) }).await.unwrap();
    let ended = own.until("instance", |_| true).await;
    assert_eq!((&ended["id"], &ended["state"]), (&"i-2".into(), &"ended".into()));

    one.attach("shop/db").await;
    own.until("instance", |_| true).await;
    let truth = world.truth(&one).await;
    one.reach(&truth).await;
    one.applied().await;
    world.trust("web", "shop").await;
    let truth = world.truth(&one).await;
    one.reach(&truth).await;
    one.applied().await;
    assert_eq!(own.until("audit", |entry| entry["action"] == "trust").await["object"], "shop");
    let applied = every.until("trust-applied", |applied| applied["deployment"] == "shop").await;
    assert!(applied["revision"].is_u64(), "{applied}");
    own.until("trust-applied", |applied| applied["deployment"] == "shop").await;
    drop(one);
    every.until("node", |node| node["state"] == "silent").await;
    own.until("node", |node| node["state"] == "silent").await;
    // What the team never learns, not even at the end.
    assert!(!own.text.contains("vault"));
    let (status, answer) =
        crate::testing::talk(&world, "GET", "/v1/admin/events?kinds=change,all", Some(&all), &[], None).await;
    assert_eq!((status, answer["error"].as_str()), (400, Some("`all` is no kind of event")));
}

#[tokio::test]
async fn reports_are_told_to_those_who_see_their_runners() {
    let world = World::new().await;
    world.deploy("bank", "other", &["vault"]).await;
    let (all, acme) = (viewer(&world, None).await, viewer(&world, Some("acme")).await);
    let credential = world.runner("one").await;
    let mut agent = world.connect(&credential).await.unwrap();
    agent.can = mesh_proto::Abilities::NONE.with(mesh_proto::Ability::Telemetry);
    agent.hello(None, vec![]).await;
    agent.news().await;
    let mut every = Tail::of_kinds(&world, &all, "?kinds=telemetry", None).await;
    let mut own = Tail::of_kinds(&world, &acme, "?kinds=telemetry", None).await;
    assert_eq!((every.next().await.0, own.next().await.0), ("resync".to_owned(), "resync".to_owned()));
    agent.hear().await.unwrap();
    let report = mesh_proto::telemetry::Telemetry { life: 1, ..Default::default() };
    let reports = async {
        loop {
            agent.say(&mesh_proto::message::Up::Telemetry(report.clone())).await;
            // Heartbeats pace it.
            let _ = timeout(Duration::from_millis(300), agent.hear()).await;
        }
    };
    tokio::select! {
        told = every.until("telemetry", |_| true) => assert_eq!(told["nodes"], 1),
        () = reports => {}
    }
    assert!(!own.text.contains("telemetry"), "it sees no such runner");
}

#[tokio::test]
async fn reports_to_another_coordinator_are_told_once_each() {
    let (_etcd, one, other) = two().await;
    let token = viewer(&one, None).await;
    let credential = one.runner("r1").await;
    let mut agent = one.connect(&credential).await.unwrap();
    agent.can = mesh_proto::Abilities::NONE.with(mesh_proto::Ability::Telemetry);
    agent.hello(None, vec![]).await;
    agent.news().await;
    other.coordinator.refresh().await.unwrap();
    let mut tail = Tail::of_kinds(&other, &token, "?kinds=telemetry", None).await;
    assert_eq!(tail.next().await.0, "resync");
    let report = mesh_proto::telemetry::Telemetry { life: 1, ..Default::default() };
    agent.say(&mesh_proto::message::Up::Telemetry(report)).await;
    let listen = async {
        loop {
            let _ = agent.hear().await;
        }
    };
    tokio::select! {
        told = tail.until("telemetry", |_| true) => assert_eq!(told["nodes"], 1),
        () = listen => {}
    }
}

#[test]
fn a_report_is_told_once_though_its_age_is_told_inexactly() {
    let (runner, begun) = (RunnerId(1), Instant::now());
    let mut reports = LatestReports::new(begun);
    let mut news = |milliseconds| {
        let at = begun + Duration::from_millis(milliseconds);
        reports.news(&[(runner, at)].into()).len()
    };
    let told = [0, 400, 700, 150, 5_300, 5_900, 10_300].map(&mut news);
    assert_eq!(told, [0, 1, 0, 0, 1, 0, 1]);
    assert_eq!(reports.news(&[].into()).len(), 0);
    let late = begun + Duration::from_millis(10_400);
    assert_eq!(reports.news(&[(runner, late)].into()).len(), 0, "after a look at which nothing was known of it");
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
