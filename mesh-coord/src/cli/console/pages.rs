//! The routes of the console: each asks the coordinator, and has a page made of the answers.

use std::sync::Arc;

use anyhow::{Error, Result};
use axum::{
    Router,
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use mesh_console::{Frame, Markup, model};
use serde::{Deserialize, de::DeserializeOwned};

use crate::cli::{
    client::{Reach, escaped},
    output::hint,
};

/// How many entries a page of the audit has.
const ENTRIES: usize = 100;

/// Where the answers come from.
pub(super) struct Source {
    pub(super) reach: Reach,
    /// Which mesh it is, in words.
    pub(super) mesh: String,
}

type Here = State<Arc<Source>>;

pub(super) fn routes() -> Router<Arc<Source>> {
    Router::new()
        .route("/", get(overview))
        .route("/map", get(map))
        .route("/services", get(services))
        .route("/runners", get(runners))
        .route("/refused", get(refused))
        .route("/audit", get(audit))
        .route("/why", get(why))
}

impl Source {
    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.reach.get(path).await
    }

    /// What runners report; `None` if they don't report to this coordinator.
    async fn reported<T: DeserializeOwned>(&self, path: &str) -> Option<T> {
        self.get(path).await.ok()
    }

    fn page(&self, path: &str, page: impl FnOnce(&Frame<'_>) -> Result<Markup>) -> Response {
        let frame = Frame { path, mesh: &self.mesh };
        let (status, page) = match page(&frame) {
            Ok(page) => (StatusCode::OK, page),
            Err(error) => {
                let (error, hint) = told(&error);
                (StatusCode::BAD_GATEWAY, mesh_console::failure(&frame, &error, hint.as_deref()))
            }
        };
        (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], page.into_string()).into_response()
    }
}

/// An error and what to try next.
fn told(error: &Error) -> (String, Option<String>) {
    (format!("{error:#}"), hint(error).map(ToOwned::to_owned))
}

async fn overview(State(source): Here) -> Response {
    let answers = async {
        let (overview, audit) = (source.get("overview").await?, source.get("audit?limit=8").await?);
        Ok((overview, source.reported("refused?watch=true").await, audit))
    };
    let answers: Result<(model::Overview, Option<model::Refusals>, model::Audit)> = answers.await;
    source.page("/", |frame| {
        answers.map(|(all, refused, audit)| mesh_console::overview(frame, &all, refused.as_ref(), &audit))
    })
}

async fn map(State(source): Here) -> Response {
    let deployments: Result<model::Deployments> = source.get("deployments").await;
    let edges: Option<model::Edges> = source.reported("edges?watch=true").await;
    let refusals: Option<model::Refusals> = source.reported("refused").await;
    source.page("/map", |frame| Ok(mesh_console::map(frame, &deployments?, edges.as_ref(), refusals.as_ref())))
}

async fn services(State(source): Here) -> Response {
    let services: Result<model::Services> = source.get("services").await;
    let edges: Option<model::Edges> = source.reported("edges?watch=true").await;
    source.page("/services", |frame| Ok(mesh_console::services(frame, &services?, edges.as_ref())))
}

async fn runners(State(source): Here) -> Response {
    let nodes: Result<model::Nodes> = source.get("nodes").await;
    source.page("/runners", |frame| Ok(mesh_console::runners(frame, &nodes?)))
}

async fn refused(State(source): Here) -> Response {
    let refusals: Result<model::Refusals> = source.get("refused?watch=true").await;
    source.page("/refused", |frame| Ok(mesh_console::refused(frame, &refusals?)))
}

#[derive(Deserialize)]
struct Page {
    before: Option<u64>,
}

async fn audit(State(source): Here, Query(page): Query<Page>) -> Response {
    let before = page.before.map(|before| format!("&before={before}")).unwrap_or_default();
    let audit: Result<model::Audit> = source.get(&format!("audit?limit={ENTRIES}{before}")).await;
    source.page("/audit", |frame| Ok(mesh_console::audit(frame, &audit?)))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Question {
    from: String,
    to: String,
    port: String,
}

async fn why(State(source): Here, Query(question): Query<Question>) -> Response {
    let Question { from, to, port } = &question;
    let answer = if from.is_empty() && to.is_empty() {
        None
    } else {
        let path = format!("why?from={}&to={}&port={}", escaped(from), escaped(to), escaped(port));
        Some(source.get::<model::Why>(&path).await.map_err(|error| told(&error)))
    };
    source.page("/why", |frame| Ok(mesh_console::why(frame, [from, to, port], answer.as_ref())))
}
