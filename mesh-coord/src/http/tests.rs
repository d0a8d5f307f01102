mod hostile;

use mesh_link::{LinkError, Method, RequestError};
use mesh_model::{AdminCommand, NewPurpose};
use mesh_proto::{
    PrivateKey, Secret,
    message::{Enrolled, Refusal},
    token::{Credential, Fingerprint, Token, TokenKind},
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::testing::{World, file, label};

/// The status and the text of a refusal.
fn refused<T: std::fmt::Debug>(result: Result<T, RequestError>) -> (u16, Refusal) {
    match result {
        Err(RequestError::Refused { status, refusal }) => (status, refusal),
        other => panic!("not refused: {other:?}"),
    }
}

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_bytes([seed; 32])
}

fn any(uses: u32) -> NewPurpose {
    NewPurpose::JoinAny { uses }
}

#[tokio::test]
async fn each_bad_token_has_its_own_clear_outcome() {
    let world = World::new().await;
    let good = world.token(any(1)).await;
    let token = Token::parse(TokenKind::Join, &good).unwrap();
    let rewritten = |change: fn(&mut Token)| {
        let mut other = token.clone();
        change(&mut other);
        other.to_text().to_string()
    };
    let admin = world.token(NewPurpose::Admin { team: None }).await;
    for (bad, status, words) in [
        (good[..good.len() - 1].to_owned(), 401, "cut short"),
        (good.replace("mesh1.", "mesh1.!")[..good.len()].to_owned(), 401, "damaged"),
        (rewritten(|token| token.fingerprint = Fingerprint([1; 32])), 401, "another coordinator's"),
        (rewritten(|token| token.secret = Secret::from_bytes([1; 32])), 401, "no such token"),
        (rewritten(|token| token.id.0 += 1000), 401, "no such token"),
        (admin, 401, "no join token"),
    ] {
        let mut wish = world.wish(&good, "one", &key(1)).await;
        wish.token = bad;
        let (got, refusal) = refused(world.enrol(&wish).await);
        assert_eq!(got, status, "{refusal:?}");
        assert!(refusal.error.contains(words) && refusal.hint.is_some(), "{refusal:?}");
    }
    let wish = world.wish(&good, "one", &key(1)).await;
    world.enrol(&wish).await.unwrap();
    let (status, refusal) = refused(world.enrol(&world.wish(&good, "two", &key(2)).await).await);
    assert!(status == 401 && refusal.error.contains("used up"), "{refusal:?}");

    let revoked = world.token(any(1)).await;
    let id = Token::parse(TokenKind::Join, &revoked).unwrap().id;
    world.order(AdminCommand::RevokeToken { token: id, with_nodes: false }).await;
    let (status, refusal) = refused(world.enrol(&world.wish(&revoked, "two", &key(2)).await).await);
    assert!(status == 401 && refusal.error.contains("revoked"), "{refusal:?}");
}

#[tokio::test]
async fn tokens_expire() {
    let world = World::new().await;
    let join = world.token(any(1)).await;
    let admin = world.token(NewPurpose::Admin { team: None }).await;
    let wish = world.wish(&join, "one", &key(1)).await;
    world.clocks.pass(3600);
    let (status, refusal) = refused(world.enrol(&wish).await);
    assert!(status == 401 && refusal.error.contains("expired"), "{status} {refusal:?}");
    let answer = world.request::<Value>(Method::GET, "/v1/admin/nodes", Some(&admin), None::<&()>).await;
    let (status, refusal) = refused(answer);
    assert!(status == 401 && refusal.error.contains("expired"), "{status} {refusal:?}");
}

#[tokio::test]
async fn a_lost_answer_and_a_second_try_make_one_runner() {
    let world = World::new().await;
    let token = world.token(any(1)).await;
    let wish = world.wish(&token, "one", &key(1)).await;
    let first = world.enrol(&wish).await.unwrap();
    let second = world.enrol(&wish).await.unwrap();
    assert_eq!(first.runner, second.runner);
    // The lost credential is no longer valid.
    assert!(world.connect(&first.credential).await.is_err());
    assert!(world.connect(&second.credential).await.is_ok());
}

#[tokio::test]
async fn who_does_not_hold_the_key_does_not_get_in() {
    let world = World::new().await;
    let token = world.token(any(9)).await;
    let mut wish = world.wish(&token, "one", &key(1)).await;
    wish.public_key = key(2).public();
    let (status, refusal) = refused(world.enrol(&wish).await);
    assert!((400..500).contains(&status), "{status} {refusal:?}");
    // A proof is valid for one token only.
    let mut wish = world.wish(&token, "one", &key(1)).await;
    wish.token = world.token(any(1)).await;
    refused(world.enrol(&wish).await);
    // A key of low order proves nothing, whatever the proof.
    wish.public_key = mesh_proto::PublicKey([0; 32]);
    refused(world.enrol(&wish).await);
}

#[tokio::test]
async fn a_name_that_is_taken_is_refused_unless_it_is_to_be_replaced() {
    let world = World::new().await;
    let token = world.token(any(9)).await;
    let first = world.enrol(&world.wish(&token, "one", &key(1)).await).await.unwrap();
    let mut wish = world.wish(&token, "one", &key(2)).await;
    let (status, refusal) = refused(world.enrol(&wish).await);
    assert!(status == 409 && refusal.hint.as_ref().unwrap().contains("--replace"), "{status} {refusal:?}");
    wish.replace = true;
    let second = world.enrol(&wish).await.unwrap();
    assert_ne!(first.runner, second.runner);
    assert!(world.connect(&first.credential).await.is_err());
}

#[tokio::test]
async fn a_source_that_keeps_guessing_has_to_wait() {
    let world = World::new().await;
    let good = world.token(any(1)).await;
    let mut wish = world.wish(&good, "one", &key(1)).await;
    let mut token = Token::parse(TokenKind::Join, &good).unwrap();
    token.secret = Secret::from_bytes([1; 32]);
    wish.token = token.to_text().to_string();
    let mut statuses = Vec::new();
    while statuses.last() != Some(&429) && statuses.len() < 100 {
        statuses.push(refused(world.enrol(&wish).await).0);
    }
    assert!(statuses.len() > 10 && statuses[..statuses.len() - 1].iter().all(|status| *status == 401), "{statuses:?}");
    assert_eq!(statuses.last(), Some(&429));
}

#[tokio::test]
async fn only_a_runners_own_credential_opens_a_stream() {
    let world = World::new().await;
    let good: Credential = world.runner("one").await.parse().unwrap();
    let wrong = Credential { runner: good.runner, secret: Secret::from_bytes([1; 32]) };
    for bad in [wrong.to_text().to_string(), "meshrunner1.AAAA".to_owned(), String::new(), "rubbish".to_owned()] {
        assert!(world.connect(&bad).await.is_err(), "{bad}");
    }
    let (status, refusal) =
        refused(world.request::<Value>(Method::GET, "/v1/stream", Some(&good.to_text()), None::<&()>).await);
    assert!(status < 500 && refusal.hint.is_some(), "{status} {refusal:?}");
}

#[tokio::test]
async fn administrators_are_let_in_by_the_socket_or_by_token() {
    let world = World::new().await;
    let deployments: Value = world.admin(Method::GET, "deployments", None::<&()>).await.unwrap();
    assert_eq!(deployments, json!({ "version": 1, "deployments": [] }));
    let path = "/v1/admin/deployments";
    let admin = world.token(NewPurpose::Admin { team: None }).await;
    let afar: Value = world.request(Method::GET, path, Some(&admin), None::<&()>).await.unwrap();
    assert_eq!(afar, deployments);

    let mut token = Token::parse(TokenKind::Admin, &admin).unwrap();
    token.secret = Secret::from_bytes([1; 32]);
    let wrong = token.to_text();
    let join = world.token(any(1)).await;
    let foreign = Token { fingerprint: Fingerprint([1; 32]), ..Token::parse(TokenKind::Admin, &admin).unwrap() };
    for (bearer, words) in [
        (None, "needs an admin token"),
        (Some(wrong.as_str()), "no such token"),
        (Some(join.as_str()), "no admin token"),
        (Some(foreign.to_text().as_str()), "another coordinator's"),
        (Some("rubbish"), "no admin token"),
    ] {
        let (status, refusal) = refused(world.request::<Value>(Method::GET, path, bearer, None::<&()>).await);
        assert!(status == 401 && refusal.error.contains(words), "{status} {refusal:?}");
    }
    let id = Token::parse(TokenKind::Admin, &admin).unwrap().id;
    world.order(AdminCommand::RevokeToken { token: id, with_nodes: false }).await;
    let (status, refusal) = refused(world.request::<Value>(Method::GET, path, Some(&admin), None::<&()>).await);
    assert!(status == 401 && refusal.error.contains("revoked"), "{status} {refusal:?}");
}

#[tokio::test]
async fn a_teams_administrator_sees_and_changes_their_own_only() {
    let world = World::new().await;
    world.deploy("shop", "acme", &["db"]).await;
    world.deploy("bank", "other", &["vault"]).await;
    let admin = world.token(NewPurpose::Admin { team: Some(label("acme")) }).await;
    let get = async |path: &str| {
        let path = format!("/v1/admin/{path}");
        world.request::<Value>(Method::GET, &path, Some(&admin), None::<&()>).await
    };
    let order = async |command: AdminCommand| {
        world.request::<Value>(Method::POST, "/v1/admin/command", Some(&admin), Some(&command)).await
    };
    assert_eq!(get("deployments").await.unwrap()["deployments"].as_array().unwrap().len(), 1);
    assert_eq!(get("services").await.unwrap()["services"][0]["deployment"], "shop");
    get("trust/shop").await.unwrap();
    refused(get("trust/bank").await);
    let audit = get("audit").await.unwrap();
    let seen: Vec<&Value> = audit["audit"].as_array().unwrap().iter().map(|entry| &entry["object"]).collect();
    assert!(seen.contains(&&json!("shop")) && !seen.contains(&&json!("bank")), "{audit}");
    let apply = |name, team| AdminCommand::Apply {
        files: vec![file(name, team, &["x"])],
        dry_run: false,
        force: true,
        prune: None,
    };
    order(apply("shop", "acme")).await.unwrap();
    order(apply("new", "acme")).await.unwrap();
    for command in [
        apply("bank", "other"),
        apply("other-new", "other"),
        AdminCommand::Delete { deployment: label("bank"), force: true },
        AdminCommand::RemoveNode { name: label("one"), force: true },
    ] {
        let (status, refusal) = refused(order(command).await);
        assert!(status == 403 || status == 404, "{status} {refusal:?}");
    }
    let audit = get("audit").await.unwrap();
    let refused_ones = audit["audit"].as_array().unwrap().iter().filter(|entry| entry["result"] == "refused");
    assert!(refused_ones.count() >= 3, "what was refused is there as such: {audit}");
    let everything = mesh_model::NewToken { purpose: any(1), ttl: 60, ephemeral: false, name: None };
    refused(world.request::<Value>(Method::POST, "/v1/admin/tokens", Some(&admin), Some(&everything)).await);
    assert_eq!(
        world.admin::<Value>(Method::GET, "deployments", None::<&()>).await.unwrap()["deployments"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
}

#[tokio::test]
async fn bodies_that_make_no_sense_are_refused_and_nothing_breaks() {
    let world = World::new().await;
    for (method, path, body) in [
        (Method::POST, "command", json!({})),
        (Method::POST, "command", json!({ "command": "unheard-of" })),
        (Method::POST, "command", json!({ "command": "apply", "files": 3 })),
        (
            Method::POST,
            "command",
            json!({ "command": "trust", "deployment": "Not A Label", "change": { "change": "clear" } }),
        ),
        (Method::POST, "command", json!([[[[[]]]]])),
        (Method::POST, "command", Value::String("\u{0}".repeat(1000))),
        (Method::POST, "tokens", json!({ "purpose": { "for": "join-any", "uses": -1 }, "ttl": 1 })),
        (Method::POST, "tokens", json!({ "purpose": { "for": "join-any", "uses": 0 }, "ttl": 1 })),
        (Method::POST, "nodes", json!({})),
        (Method::GET, "trust/Not%20A%20Label", json!({})),
        (Method::GET, "trust/%ff", json!({})),
        (Method::GET, "nothing/here", json!({})),
    ] {
        let (status, refusal) = refused(world.admin::<Value>(method, path, Some(&body)).await);
        assert!((400..500).contains(&status), "{path} {body}: {status}");
        assert!(!refusal.error.is_empty() && !refusal.error.contains("HTTP"), "{path} {body}: {refusal:?}");
    }
    let large = json!({ "command": "x".repeat(2 << 20) });
    let (status, refusal) = refused(world.admin::<Value>(Method::POST, "command", Some(&large)).await);
    assert!(status == 413 && refusal.hint.unwrap().contains("1 MiB"), "{status}");
    let deep = "[".repeat(100_000);
    refused(world.request::<Value>(Method::POST, "/v1/enrol", None, Some(&deep)).await);
    world.deploy("shop", "acme", &["db"]).await;
}

#[tokio::test]
async fn raw_rubbish_ends_its_own_connection_only() {
    let world = World::new().await;
    for rubbish in [
        &b"\x00\x01\x02\x03\r\n\r\n"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/enrol HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
    ] {
        let mut tls = mesh_link::connect(&world.url, world.fingerprint, &mesh_link::Proxies::none()).await.unwrap();
        tls.write_all(rubbish).await.unwrap();
        let mut answer = Vec::new();
        let _ = tls.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&answer));
    }
    let mut plain = tokio::net::TcpStream::connect((world.url.host(), world.url.port())).await.unwrap();
    plain.write_all(b"GET /v1/info HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "plain HTTP is not spoken");
    world.runner("one").await;
}

#[tokio::test]
async fn the_certificate_is_the_fingerprints() {
    let world = World::new().await;
    let other = mesh_link::connect(&world.url, Fingerprint([1; 32]), &mesh_link::Proxies::none()).await;
    assert!(matches!(other, Err(LinkError::OtherCoordinator { .. })));
    assert_eq!(Token::parse(TokenKind::Join, &world.token(any(1)).await).unwrap().fingerprint, world.fingerprint);
}

#[tokio::test]
async fn the_shapes_of_the_contract_are_kept() {
    let world = World::new().await;
    world.deploy("shop", "acme", &["db"]).await;
    world.deploy("api", "acme", &["grpc"]).await;
    world.trust("api", "shop").await;
    let mut agent = world.agent("one").await;
    let (instance, _) = agent.attach("shop/db").await;
    let get = async |path: &str| world.admin::<Value>(Method::GET, path, None::<&()>).await.unwrap();

    let services = get("services").await;
    let db = &services["services"][1];
    let address = agent.ask(mesh_proto::message::Ask::Lookup { service: "shop/db".parse().unwrap() }).await.unwrap();
    let mesh_proto::message::Answer::Found { view } = address else { panic!() };
    let service_address = view.services().find(|s| &*s.name == "db").unwrap().address;
    let truth = world.truth(&agent).await;
    assert_eq!(services["version"], 1);
    assert_eq!(
        *db,
        json!({
            "deployment": "shop", "service": "db", "team": "acme", "address": service_address, "public_port": null,
            "instances": [{
                "id": instance.to_string(), "address": truth.instance(instance).unwrap().address, "runner": "one",
                "state": "live", "release": null,
            }],
        })
    );

    let node = &get("nodes").await["nodes"][0];
    for (field, expected) in
        [("id", json!("r-1")), ("name", json!("one")), ("provider", json!("basement")), ("state", json!("online"))]
    {
        assert_eq!(node[field], expected);
    }
    assert!(node["endpoints"].is_array() && node["last_seen_seconds"].is_u64() && node["revision"].is_null());
    agent.reach(&truth).await;
    agent.applied().await;
    agent.settle(truth.revision).await;
    assert_eq!(get("nodes").await["nodes"][0]["revision"], json!(truth.revision));

    assert_eq!(
        get("trust/shop").await["listing"],
        json!({
            "version": 1, "deployment": "shop", "trust": [{ "caller": "api", "services": [], "ports": [] }],
            "pending": [], "concerned": 1,
        })
    );
    world.deploy("shop", "acme", &["db", "cache"]).await;
    assert_eq!(get("trust/shop").await["listing"]["pending"], json!(["one"]));
}

#[tokio::test]
async fn anybody_may_ask_for_the_enrol_key() {
    let world = World::new().await;
    let info: Value = world.request(Method::GET, "/v1/info", None, None::<&()>).await.unwrap();
    assert_eq!((&info["protocol"], &info["range"]), (&json!(1), &json!("100.112.0.0/12")));
    let token = world.token(any(1)).await;
    let Enrolled { credential, .. } = world.enrol(&world.wish(&token, "one", &key(1)).await).await.unwrap();
    assert!(credential.starts_with("meshrunner1."));
}
