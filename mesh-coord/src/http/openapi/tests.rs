use std::collections::BTreeSet;

use mesh_link::Method;
use mesh_model::{AdminCommand, NewPurpose, Role};
use mesh_proto::token::{Token, TokenKind};
use serde_json::{Value, json};

use super::*;
use crate::testing::{World, label, talk};

/// An operation of the document.
struct Operation {
    method: String,
    path: String,
    has_body: bool,
    parameters: BTreeSet<String>,
}

impl Operation {
    fn all() -> Vec<Self> {
        let document: Value = serde_json::from_str(&document()).unwrap();
        let mut all = Vec::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                let parameters = operation["parameters"].as_array().into_iter().flatten();
                all.push(Self {
                    method: method.to_uppercase(),
                    path: path.clone(),
                    has_body: operation["requestBody"].is_object(),
                    parameters: parameters.map(|p| p["name"].as_str().unwrap().to_owned()).collect(),
                });
            }
        }
        all
    }

    /// Those that read, but for the one whose answer doesn't end.
    fn reads() -> impl Iterator<Item = Self> {
        Self::all().into_iter().filter(|operation| operation.method == "GET" && operation.path != "/v1/admin/events")
    }

    fn writes() -> impl Iterator<Item = Self> {
        Self::all().into_iter().filter(|operation| operation.method != "GET")
    }

    fn name(&self) -> String {
        format!("{} {}", self.method, self.path.trim_start_matches("/v1/admin"))
    }

    /// Its path about the objects of the team `other`.
    fn about(&self, token: &str) -> String {
        let mut path = self.path.clone();
        for (name, value) in [
            ("{deployment}", "bank"),
            ("{service}", "vault"),
            ("{node}", "theirs"),
            ("{instance}", "i-1"),
            ("{token}", token),
            ("{relay}", "turn"),
        ] {
            path = path.replace(name, value);
        }
        assert!(!path.contains('{'), "{path}: which object of another team is that?");
        path
    }

    /// A body about the objects of the team `other`.
    fn body(&self) -> Option<Value> {
        let trust = json!({ "change": "add", "callers": ["ledger"], "services": null, "ports": "all" });
        let apply = json!({ "files": [{ "name": "bank.toml", "declaration": { "Whole": {
            "name": "bank", "team": null, "expose": null, "trust": null, "services": {} } } }], "prune": true, "force": true });
        let body = match &*self.name() {
            "POST /command" | "POST /preview" => json!({ "command": "delete", "deployment": "bank", "force": true }),
            "POST /apply" => apply,
            "PUT /deployments/{deployment}" => json!({ "services": {} }),
            "POST /trust/{deployment}" => trust,
            "POST /trust-and-wait/{deployment}" => json!({ "change": trust, "milliseconds": 0 }),
            "POST /tokens" => json!({ "purpose": { "for": "join-teams", "teams": ["other"], "uses": 1 }, "ttl": 60 }),
            "POST /relays" => json!({ "name": "turn2", "udp": ["192.0.2.9:3478"], "secret": "x".repeat(32) }),
            "POST /probe" => json!({ "from": "bank/vault", "to": "bank/vault", "port": 80 }),
            "POST /switch" => json!({ "offload": "tun-gso", "on": false, "node": "theirs" }),
            name => {
                assert!(!self.has_body, "{name}: which body is about another team's object?");
                return None;
            }
        };
        Some(body)
    }
}

/// A mesh with a deployment, a runner, an instance and a token of the team `other`. Returns that token's identifier.
async fn mesh() -> (World, String) {
    let world = World::new().await;
    world.deploy("shop", "acme", &["db"]).await;
    world.deploy("bank", "other", &["vault"]).await;
    let token = world.token(NewPurpose::JoinTeams { teams: [label("other")].into(), uses: 1 }).await;
    let wish = world.wish(&token, "theirs", &mesh_proto::PrivateKey::from_bytes([9; 32])).await;
    let credential = world.enrol(&wish).await.unwrap().credential;
    let mut agent = world.agent_of(&credential, None).await;
    agent.attach("bank/vault").await;
    let id = Token::parse(TokenKind::Join, &token).unwrap().id.to_string();
    (world, id)
}

async fn records(world: &World) -> Vec<String> {
    let kept =
        |record: &mesh_model::Record| !matches!(record, mesh_model::Record::Audit(_) | mesh_model::Record::Meta(_));
    let all = world.coordinator.visit(|core| core.state.records().collect::<Vec<_>>()).await.unwrap();
    let mut all: Vec<String> = all.iter().filter(|r| kept(r)).map(|r| serde_json::to_string(r).unwrap()).collect();
    all.sort();
    all
}

#[test]
fn the_document_is_the_one_in_the_documentation() {
    mesh_docs_check::update("docs/reference/openapi.json", &document());
}

/// The routes of administrators are made by `routes!`, which puts them into the document as well.
#[tokio::test]
async fn every_route_is_in_the_document_and_everything_in_the_document_is_a_route() {
    let (world, token) = mesh().await;
    for operation in Operation::reads().chain(Operation::writes()) {
        let mut body = operation.body();
        if operation.method == "DELETE" || operation.method == "GET" {
            body = None;
        }
        let path = format!("{}?dry_run=maybe", operation.about(&token));
        let (status, answer) = talk(&world, &operation.method, &path, None, &[], body.as_ref()).await;
        let code = answer["code"].as_str().unwrap_or_default();
        assert!(code != "no-such-path" && code != "no-such-method", "{}: {status} {answer}", operation.name());
    }
    let plain = [
        "/v1/info",
        "/v1/enrol",
        "/v1/relay/enrol",
        "/v1/stream",
        "/v1/relay/stream",
        "/v1/peer/contact",
        "/v1/peer/reports",
        "/v1/peer/standing",
        "/v1/peer/settled",
        "/v1/peer/probe",
        "/v1/peer/relay-secret",
        "/healthz",
        "/readyz",
        "/metrics",
    ];
    let directory = mesh_docs_check::root().join("mesh-coord/src/http");
    for file in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        let text = std::fs::read_to_string(&file).unwrap();
        for (_, after) in text.match_indices(".route(").map(|(at, _)| text.split_at(at + ".route(".len())) {
            let path = after.trim_start_matches('"').split('"').next().unwrap();
            assert!(plain.contains(&path), "{}: {path} is not in the OpenAPI document: use routes!", file.display());
        }
    }
}

#[tokio::test]
async fn a_viewer_changes_nothing_whatever_it_tries() {
    let (world, token) = mesh().await;
    let refusals = async || -> Value {
        let audit: Value = world.admin(Method::GET, "audit?result=refused&limit=1", None::<&()>).await.unwrap();
        audit["audit"][0]["number"].clone()
    };
    let mut tried = 0;
    for operation in Operation::writes() {
        // Previews take many turns of a token.
        let viewer = world.token(NewPurpose::Role { role: Role::Viewer, team: None }).await;
        let (path, body, name) = (operation.about(&token), operation.body(), operation.name());
        let ask = async |path: &str| talk(&world, &operation.method, path, Some(&viewer), &[], body.as_ref()).await;
        let (before, noted) = (records(&world).await, refusals().await);
        let (status, answer) = ask(&path).await;
        if name == "POST /preview" {
            assert!(status == 200 && answer["effect"].is_object(), "{name}: {status} {answer}");
        } else {
            assert_eq!((status, answer["code"].as_str()), (403, Some("role")), "{name}: {answer}");
            assert_ne!(refusals().await, noted, "{name}: the refusal is in the audit");
        }
        let (status, answer) = ask(&format!("{path}?dry_run=true")).await;
        match &*name {
            "DELETE /relays/{relay}" => assert_eq!(status, 404, "{answer}"),
            // They have no dry run.
            "POST /trust-and-wait/{deployment}" | "POST /probe" => {
                assert_eq!((status, answer["code"].as_str()), (403, Some("role")), "{answer}");
            }
            _ if answer["code"] == "instances" => {
                let (status, answer) = ask(&format!("{path}?dry_run=true&force=true")).await;
                assert!(status == 200 && answer["effect"].is_object(), "{name}: {status} {answer}");
            }
            _ => assert!(status == 200 && answer["effect"].is_object(), "{name}: {status} {answer}"),
        }
        assert_eq!(records(&world).await, before, "{name}");
        tried += 1;
    }
    let viewer = world.token(NewPurpose::Role { role: Role::Viewer, team: None }).await;
    let before = records(&world).await;
    let waits = json!({ "change": null, "milliseconds": 0 });
    let (status, answer) =
        talk(&world, "POST", "/v1/admin/trust-and-wait/bank", Some(&viewer), &[], Some(&waits)).await;
    assert!(status == 200 && answer["listing"].is_object(), "{status} {answer}");
    for path in
        ["deployments/bank?dry_run=false&force=true", "deployments/bank?force=true&dry_run=tru%65&dry_run=false"]
    {
        let (status, answer) = talk(&world, "DELETE", &format!("/v1/admin/{path}"), Some(&viewer), &[], None).await;
        assert!([400, 403].contains(&status), "{path}: {status} {answer}");
    }
    assert!(tried >= 17, "{tried}");
    assert_eq!(records(&world).await, before);
    for operation in Operation::reads() {
        let path = match &*operation.path {
            "/v1/admin/why" => "/v1/admin/why?from=shop/db&to=bank/vault&port=80".to_owned(),
            _ => operation.about(&token),
        };
        let (status, answer) = talk(&world, "GET", &path, Some(&viewer), &[], None).await;
        assert_eq!(status, 200, "a viewer may read {path}: {answer}");
    }
}

/// With all rights in its team: neither changes nor learns anything of another one's.
#[tokio::test]
async fn a_team_changes_and_sees_nothing_of_another_teams_objects() {
    let (world, token) = mesh().await;
    for role in Role::ALL {
        for operation in Operation::writes() {
            // Previews take many turns of a token.
            let own = world.token(NewPurpose::Role { role, team: Some(label("acme")) }).await;
            let before = records(&world).await;
            for path in [operation.about(&token), format!("{}?dry_run=true", operation.about(&token))] {
                let (status, answer) =
                    talk(&world, &operation.method, &path, Some(&own), &[], operation.body().as_ref()).await;
                assert!([400, 403, 404, 409].contains(&status), "{role}: {path}: {status} {answer}");
                assert!(answer["code"].is_string() && answer.get("outcome").is_none(), "{path}: {answer}");
            }
            assert_eq!(records(&world).await, before, "{role}: {}", operation.name());
        }
        let own = world.token(NewPurpose::Role { role, team: Some(label("acme")) }).await;
        for operation in Operation::reads() {
            let path = operation.about(&token);
            let (status, answer) = talk(&world, "GET", &path, Some(&own), &[], None).await;
            let mut text = answer.to_string();
            // The audit has the names that it asked for itself.
            if path.ends_with("/audit") || path.ends_with("openapi.json") {
                text.clear();
            }
            assert!(
                !["vault", "theirs", "\"other\""].iter().any(|name| text.contains(name) && status == 200),
                "{path}: {text}"
            );
        }
    }
}

#[tokio::test]
async fn every_write_has_a_dry_run_that_changes_nothing() {
    let (world, token) = mesh().await;
    let before = records(&world).await;
    for operation in Operation::writes() {
        // A preview is one, and the others change nothing.
        if ["POST /preview", "POST /probe", "POST /trust-and-wait/{deployment}"].contains(&&*operation.name()) {
            continue;
        }
        assert!(operation.parameters.contains("dry_run"), "{} has no dry run", operation.name());
        assert!(operation.parameters.contains("Idempotency-Key"), "{}", operation.name());
        let force = if operation.parameters.contains("force") { "&force=true" } else { "" };
        let path = format!("{}?dry_run=true{force}", operation.about(&token));
        let (status, answer) = talk(&world, &operation.method, &path, None, &[], operation.body().as_ref()).await;
        match &*operation.name() {
            "DELETE /relays/{relay}" => assert_eq!(status, 404, "{answer}"),
            name => assert!(status == 200 && answer["effect"].is_object(), "{name}: {status} {answer}"),
        }
    }
    assert_eq!(records(&world).await, before);
}

#[test]
fn what_the_document_refers_to_is_in_it() {
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document: Value = serde_json::from_str(&document()).unwrap();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 40, "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} is not in the document");
    }
}

#[test]
fn every_code_is_in_the_documentation() {
    let document: Value = serde_json::from_str(&document()).unwrap();
    let code = &document["components"]["schemas"]["Code"];
    let all = code["oneOf"].as_array().or(code["enum"].as_array()).unwrap();
    let names = all.iter().map(|one| one.as_str().or(one["enum"][0].as_str()).unwrap());
    let page = mesh_docs_check::read("docs/reference/api.md");
    for name in names {
        assert!(page.contains(&format!("`{name}`")), "docs/reference/api.md doesn't say what `{name}` means");
    }
}

#[test]
fn links_of_rustdoc_become_words() {
    assert_eq!(
        without_links("to be: [`crate::Outcome::Planned`], or [`Token`]; [x]"),
        "to be: `Planned`, or `Token`; [x]"
    );
    assert_eq!(without_links("[`open"), "[`open");
}

/// What came of an order that was lost on its way back.
#[tokio::test]
async fn the_same_request_with_the_same_key_is_carried_out_once() {
    let world = World::new().await;
    let (admin, other) =
        (world.token(NewPurpose::Admin { team: None }).await, world.token(NewPurpose::Admin { team: None }).await);
    let wish = |name: &str| json!({ "purpose": { "for": "join-any", "uses": 1 }, "ttl": 60, "name": name });
    let ask = async |bearer: &str, key: &str, name: &str| {
        let headers = [("idempotency-key", key)];
        talk(&world, "POST", "/v1/admin/tokens", Some(bearer), &headers, Some(&wish(name))).await
    };
    let (status, first) = ask(&admin, "k-1", "a").await;
    assert_eq!(status, 200, "{first}");
    assert_eq!(ask(&admin, "k-1", "a").await, (200, first.clone()), "the answer of before, with the same token");
    let (status, another) = ask(&admin, "k-1", "b").await;
    assert_eq!((status, another["code"].as_str()), (422, Some("key-reused")), "{another}");
    assert_ne!(ask(&admin, "k-2", "a").await.1["id"], first["id"]);
    assert_ne!(ask(&other, "k-1", "a").await.1["id"], first["id"], "another token's keys are its own");
    let long = "x".repeat(256);
    assert_eq!(ask(&admin, &long, "a").await.0, 400);
    // A request whose caller is gone is carried out all the same.
    let id = Token::parse(TokenKind::Admin, &other).unwrap().id;
    world.order(AdminCommand::RevokeToken { token: id, with_nodes: false }).await;
    assert_eq!(ask(&other, "k-1", "a").await.0, 401, "a revoked token gets no answers of before");
}
