//! The routes of the audit: pages, and all of it in lines.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use axum::{
    Extension, Router,
    extract::Query,
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use mesh_console::{Trail, model};
use serde::Deserialize;
use serde_json::Value;

use super::asker::Asker;
use crate::cli::client::escaped;

/// How many entries a page has.
const ENTRIES: usize = 100;
/// How many are asked for at once, to have all of them.
const AT_ONCE: usize = 1000;
/// The most that are given at once.
const MOST: usize = 50_000;

pub(super) fn routes() -> Router {
    Router::new().route("/audit", get(audit)).route("/audit.ndjson", get(lines))
}

async fn audit(Extension(asker): Extension<Asker>, Query(trail): Query<Trail>) -> Response {
    let audit: Result<model::Audit> = asker.get(&path(&trail, ENTRIES, &trail.before)).await;
    asker.page("/audit", |frame| Ok(mesh_console::audit(frame, &audit?, &trail)))
}

/// Entries as the coordinator answers them.
#[derive(Deserialize)]
struct Entries {
    audit: Vec<Value>,
    #[serde(default)]
    next: Option<u64>,
}

/// All entries that are wanted, one on each line (NDJSON).
async fn lines(Extension(asker): Extension<Asker>, Query(trail): Query<Trail>) -> Response {
    match all(&asker, &trail).await {
        Ok(text) => {
            let kind = HeaderValue::from_static("application/x-ndjson");
            let name = HeaderValue::from_static("attachment; filename=\"audit.ndjson\"");
            ([(header::CONTENT_TYPE, kind), (header::CONTENT_DISPOSITION, name)], text).into_response()
        }
        Err(error) => asker.page("/audit", |_| Err(error)),
    }
}

async fn all(asker: &Asker, trail: &Trail) -> Result<String> {
    let (mut text, mut before, mut number) = (String::new(), String::new(), 0);
    while number < MOST {
        let Entries { audit, next } = asker.get(&path(trail, AT_ONCE, &before)).await?;
        number += audit.len();
        text.extend(audit.iter().map(|entry| format!("{entry}\n")));
        let Some(next) = next else { break };
        before = next.to_string();
    }
    Ok(text)
}

/// What the coordinator is asked.
fn path(trail: &Trail, limit: usize, before: &str) -> String {
    let hours = trail.hours.parse::<u64>().ok().map(|hours| Duration::from_secs(hours.saturating_mul(3600)));
    let since = hours.map(|hours| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.saturating_sub(hours).as_secs().to_string()
    });
    let fields = [
        ("before", before),
        ("since", since.as_deref().unwrap_or_default()),
        ("by", trail.by.trim()),
        ("action", trail.action.trim()),
        ("object", trail.object.trim()),
        ("result", &*trail.result),
    ];
    let given = fields.into_iter().filter(|(_, value)| !value.is_empty());
    let query: String = given.map(|(name, value)| format!("&{name}={}", escaped(value))).collect();
    format!("audit?limit={limit}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_is_asked_for() {
        let trail = Trail { by: " uid 0".to_owned(), result: "done".to_owned(), ..Trail::default() };
        assert_eq!(path(&trail, 100, "7"), "audit?limit=100&before=7&by=uid%200&result=done");
        assert_eq!(path(&Trail { hours: "rubbish".to_owned(), ..Trail::default() }, 1000, ""), "audit?limit=1000");
        let hours = Trail { hours: "1".to_owned(), ..Trail::default() };
        assert!(path(&hours, 1, "").starts_with("audit?limit=1&since="));
    }
}
