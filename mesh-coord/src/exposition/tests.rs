use std::collections::BTreeMap;

use mesh_link::{Method, RequestError};
use mesh_model::{AdminCommand, NewPurpose};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::testing::{World, label};

/// The numbers by name and labels.
async fn numbers(world: &World) -> BTreeMap<String, f64> {
    let text = Exposition::new(world.coordinator.clone(), None).metrics().await.unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

#[tokio::test]
async fn the_numbers_are_those_of_the_mesh() {
    let world = World::new().await;
    world.deploy("shop", "acme", &["app", "db"]).await;
    world.deploy("api", "acme", &["grpc"]).await;
    let mut agent = world.agent("one").await;
    let (_, revision) = agent.attach("shop/app").await;
    let truth = world.truth(&agent).await;
    agent.reach(&truth).await;
    agent.applied().await;
    agent.settle(revision).await;
    drop(world.agent("two").await);
    let numbers = numbers(&world).await;
    for (name, value) in [
        (r"mesh_coord_deployments", 2.0),
        (r"mesh_coord_services", 3.0),
        (r#"mesh_coord_instances{state="live"}"#, 1.0),
        (r#"mesh_coord_instances{state="draining"}"#, 0.0),
        (r#"mesh_coord_enrolments_total{result="new"}"#, 2.0),
        (r#"mesh_coord_tokens{kind="join",state="used_up"}"#, 2.0),
        (r"mesh_coord_streams_opened_total", 2.0),
        (r"mesh_coord_runners_behind", 0.0),
        (r#"mesh_coord_auth_failures_total{kind="admin"}"#, 0.0),
    ] {
        assert_eq!(numbers.get(name), Some(&value), "{name} in {numbers:#?}");
    }
    let runners = numbers.iter().filter(|(name, _)| name.starts_with("mesh_coord_runners{")).map(|(_, count)| count);
    assert_eq!(runners.sum::<f64>(), 2.0);
    assert!(numbers[r#"mesh_coord_views_sent_total{kind="snapshot"}"#] >= 2.0);
    assert!(numbers["mesh_coord_apply_seconds_count"] >= 1.0);
    assert!(numbers["process_resident_memory_bytes"] > 0.0);
}

#[tokio::test]
async fn commands_and_requests_are_counted_by_what_came_of_them() {
    let world = World::new().await;
    world.deploy("shop", "acme", &["app"]).await;
    let delete = |name: &str| AdminCommand::Delete { deployment: label(name), force: false };
    world.admin::<Value>(Method::POST, "command", Some(&delete("shop"))).await.unwrap();
    world.admin::<Value>(Method::POST, "command", Some(&delete("nosuch"))).await.unwrap_err();
    let stranger = world.request::<Value>(Method::GET, "/v1/admin/nodes", Some("x"), None::<&()>).await;
    assert!(matches!(stranger, Err(RequestError::Refused { status: 401, .. })), "{stranger:?}");
    world.admin::<Value>(Method::GET, "trust/some-name", None::<&()>).await.unwrap_err();
    let numbers = numbers(&world).await;
    let of = |name: &str| numbers.get(name).copied().unwrap_or_default();
    assert_eq!(of(r#"mesh_coord_commands_total{command="delete",result="done"}"#), 1.0);
    assert_eq!(of(r#"mesh_coord_commands_total{command="delete",result="refused"}"#), 1.0);
    assert_eq!(of(r#"mesh_coord_auth_failures_total{kind="admin"}"#), 1.0);
    let route = "/v1/admin/trust/{deployment}";
    let requests = format!(r#"mesh_coord_http_requests_total{{route="{route}",method="GET",code="404"}}"#);
    assert_eq!(of(&requests), 1.0, "by its pattern, not by the name in it: {numbers:#?}");
    assert_eq!(of(&format!(r#"mesh_coord_http_request_duration_seconds_count{{route="{route}"}}"#)), 1.0);
}

/// One request over TLS, as monitoring makes it.
async fn get(world: &World, path: &str, bearer: Option<&str>) -> String {
    let mut stream = mesh_link::connect(&world.url, world.fingerprint, &mesh_link::Proxies::none()).await.unwrap();
    let bearer = bearer.map_or_else(String::new, |token| format!("authorization: Bearer {token}\r\n"));
    let request = format!("GET {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{bearer}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // The other side closes without a farewell.
    let _ = stream.read_to_string(&mut answer).await;
    answer
}

#[tokio::test]
async fn strangers_learn_whether_it_works_and_no_numbers() {
    let world = World::new().await;
    assert!(get(&world, "/healthz", None).await.starts_with("HTTP/1.1 200"));
    assert!(get(&world, "/readyz", None).await.starts_with("HTTP/1.1 200"));
    assert!(get(&world, "/metrics", None).await.starts_with("HTTP/1.1 401"));
    let team = world.token(NewPurpose::Admin { team: Some(label("acme")) }).await;
    assert!(get(&world, "/metrics", Some(&team)).await.starts_with("HTTP/1.1 403"), "the numbers are of all teams");
    let all = world.token(NewPurpose::Admin { team: None }).await;
    let answer = get(&world, "/metrics", Some(&all)).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("mesh_coord_build_info"), "{answer}");
}

#[tokio::test]
async fn a_store_that_fails_is_not_ready() {
    let world = World::new().await;
    let health = Arc::new(Health::failing(StoreError::Full));
    let disk = Disk { health: Arc::clone(&health), database: Some("/nonexistent".into()) };
    let exposition = Exposition::new(world.coordinator.clone(), Some(disk));
    assert_eq!(exposition.ready().await, Err(Unready::Store(StoreError::Full)));
    let page = exposition.page("/readyz").await.unwrap();
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(String::from_utf8_lossy(&page.text).contains("disk"), "{page:?}");
    assert_eq!(exposition.page("/healthz").await.unwrap().status, StatusCode::OK, "the process lives");
    assert!(exposition.page("/metrics").await.unwrap().status.is_success(), "and tells its numbers");
    assert!(exposition.page("/").await.is_none());
}
