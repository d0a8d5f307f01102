//! The routes of what is shown: each asks the coordinator, and has a page made of the answers.

use anyhow::Result;
use axum::{
    Extension, Form, Router,
    extract::{Path, Query},
    response::Response,
    routing::get,
};
use mesh_console::{Deployed, Filter, Found, model};
use mesh_model::outcome::BothWays;
use serde::Deserialize;

use super::{
    asker::{Asker, Missing, told},
    wish::{read, wrong},
};
use crate::{api::WhyQuery, cli::client::escaped};

type Here = Extension<Asker>;

pub(super) fn routes() -> Router {
    Router::new()
        .route("/", get(overview))
        .route("/map", get(map))
        .route("/deployments", get(deployments))
        .route("/d/{deployment}", get(deployment))
        .route("/d/{deployment}/{service}", get(service))
        .route("/services", get(services))
        .route("/runners", get(runners))
        .route("/r/{runner}", get(runner))
        .route("/refused", get(refused))
        .route(mesh_console::SEARCH_PATH, get(search))
        .route("/why", get(why).post(probe))
        .route("/relays", get(relays))
}

async fn overview(Extension(asker): Here) -> Response {
    let answers = async {
        let (overview, audit) = (asker.get("overview").await?, asker.get("audit?limit=8").await?);
        Ok((overview, asker.reported("refused?watch=true").await, audit))
    };
    let answers: Result<(model::Overview, Option<model::Refusals>, model::Audit)> = answers.await;
    asker.page("/", |frame| {
        answers.map(|(all, refused, audit)| mesh_console::overview(frame, &all, refused.as_ref(), &audit))
    })
}

async fn map(Extension(asker): Here) -> Response {
    let deployments: Result<model::Deployments> = asker.get("deployments").await;
    let edges: Option<model::Edges> = asker.reported("edges?watch=true").await;
    let refusals: Option<model::Refusals> = asker.reported("refused").await;
    asker.page("/map", |frame| Ok(mesh_console::map(frame, &deployments?, edges.as_ref(), refusals.as_ref())))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Turned {
    page: String,
}

/// Which page of a list is wanted, from 1.
fn number(page: &str) -> usize {
    page.parse().unwrap_or(1)
}

async fn deployments(Extension(asker): Here, Query(Turned { page }): Query<Turned>) -> Response {
    let deployments: Result<model::Deployments> = asker.get("deployments").await;
    asker.page("/deployments", |frame| Ok(mesh_console::deployments(frame, &deployments?, number(&page))))
}

/// A trust list as the coordinator answers it.
#[derive(Deserialize)]
struct TrustAnswer {
    listing: model::Trust,
    directions: Vec<BothWays>,
}

async fn deployment(Extension(asker): Here, Path(name): Path<String>) -> Response {
    let answers = async {
        let all: model::Deployments = asker.get("deployments").await?;
        let (own, others): (Vec<_>, Vec<_>) =
            all.deployments.into_iter().partition(|deployment| deployment.deployment == name);
        let own = own.into_iter().next().ok_or_else(|| Missing::new("deployment", &name))?;
        let trust: TrustAnswer = asker.get(&format!("trust/{}", escaped(&name))).await?;
        let services: model::Services = asker.get("services").await?;
        let edges: Option<model::Edges> = asker.reported(&format!("edges?watch=true&to={}", escaped(&name))).await;
        Ok((own, others, trust, services, edges))
    };
    let answers: Result<_> = answers.await;
    asker.page("/deployments", |frame| {
        let (own, others, trust, services, edges) = answers?;
        let services: Vec<_> = services.services.into_iter().filter(|service| service.deployment == name).collect();
        let sentences: Vec<String> = trust.directions.iter().map(BothWays::sentence).collect();
        let others: Vec<&str> = others.iter().map(|other| &*other.deployment).collect();
        Ok(mesh_console::deployment(
            frame,
            &Deployed {
                deployment: &own,
                services: &services,
                trust: &trust.listing,
                sentences: &sentences,
                others: &others,
                edges: edges.as_ref(),
            },
        ))
    })
}

async fn service(Extension(asker): Here, Path((deployment, service)): Path<(String, String)>) -> Response {
    let services: Result<model::Services> = asker.get("services").await;
    let edges: Option<model::Edges> = asker.reported("edges?watch=true").await;
    let path = format!("{deployment}/{service}");
    let refusals: Option<model::Refusals> = asker.reported(&format!("refused?to={}", escaped(&path))).await;
    let series = asker.series(&path).await;
    asker.page("/services", |frame| {
        let services = services?.services;
        let own = services.iter().find(|one| one.deployment == deployment && one.service == service);
        let own = own.ok_or_else(|| Missing::new("service", &path))?;
        Ok(mesh_console::service(frame, own, edges.as_ref(), series.as_ref(), refusals.as_ref()))
    })
}

async fn services(Extension(asker): Here, Query(Turned { page }): Query<Turned>) -> Response {
    let services: Result<model::Services> = asker.get("services").await;
    let edges: Option<model::Edges> = asker.reported("edges?watch=true").await;
    asker.page("/services", |frame| Ok(mesh_console::services(frame, &services?, edges.as_ref(), number(&page))))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Sought {
    text: String,
    state: String,
    page: String,
}

async fn runners(Extension(asker): Here, Query(sought): Query<Sought>) -> Response {
    let nodes: Result<model::Nodes> = asker.get("nodes").await;
    let filter = Filter { page: number(&sought.page), text: sought.text, state: sought.state };
    asker.page("/runners", |frame| Ok(mesh_console::runners(frame, &nodes?, &filter)))
}

async fn runner(Extension(asker): Here, Path(name): Path<String>) -> Response {
    let nodes: Result<model::Nodes> = asker.get("nodes").await;
    let instances: Result<model::Instances> = asker.get("instances").await;
    asker.page("/runners", |frame| {
        // A removed runner's name may be another one's by now.
        let mut found: Vec<model::Node> = nodes?.nodes.into_iter().filter(|node| node.name == name).collect();
        found.sort_by_key(|node| node.state == "removed");
        let node = found.first().ok_or_else(|| Missing::new("runner", &name))?;
        let mut instances = instances?.instances;
        instances.retain(|instance| instance.runner == name && node.state != "removed");
        Ok(mesh_console::runner(frame, node, &instances))
    })
}

async fn refused(Extension(asker): Here) -> Response {
    let refusals: Result<model::Refusals> = asker.get("refused?watch=true").await;
    asker.page("/refused", |frame| Ok(mesh_console::refused(frame, &refusals?)))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Word {
    q: String,
}

async fn search(Extension(asker): Here, Query(Word { q }): Query<Word>) -> Response {
    let found = async {
        let deployments: model::Deployments = asker.get("deployments").await?;
        let services: model::Services = asker.get("services").await?;
        let instances: model::Instances = asker.get("instances").await?;
        let nodes: model::Nodes = asker.get("nodes").await?;
        let mut found = Found {
            deployments: deployments.deployments,
            services: services.services,
            instances: instances.instances,
            nodes: nodes.nodes,
        };
        found.leave(&q);
        Ok(found)
    };
    let found: Result<Found> = found.await;
    asker.page(mesh_console::SEARCH_PATH, |frame| Ok(mesh_console::search(frame, &q, &found?)))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Question {
    from: String,
    to: String,
    port: String,
}

async fn why(Extension(asker): Here, Query(question): Query<Question>) -> Response {
    let Question { from, to, port } = &question;
    let answer = if from.is_empty() && to.is_empty() {
        None
    } else {
        let path = format!("why?from={}&to={}&port={}", escaped(from), escaped(to), escaped(port));
        Some(asker.get::<model::Why>(&path).await.map_err(|error| told(&error)))
    };
    asker.page("/why", |frame| Ok(mesh_console::why(frame, [from, to, port], answer.as_ref())))
}

/// Has a runner try the connection, and explains what came of it.
async fn probe(Extension(asker): Here, Form(question): Form<Question>) -> Response {
    let Question { from, to, port } = &question;
    let tried = async {
        let hint = "name both as DEPLOYMENT/SERVICE";
        let (from, to) = (read(from, hint)?, read(to, hint)?);
        let port = crate::cli::numbers::port(port.trim()).map_err(|error| wrong(error, "give the TCP port"))?;
        asker.way.probe(&WhyQuery { from, to, port }).await
    };
    let answer = Some(tried.await.map_err(|error: anyhow::Error| told(&error)));
    asker.page("/why", |frame| Ok(mesh_console::why(frame, [from, to, port], answer.as_ref())))
}

async fn relays(Extension(asker): Here) -> Response {
    let relays: Result<model::Relays> = asker.get("relays").await;
    asker.page("/relays", |frame| Ok(mesh_console::relays(frame, &relays?)))
}
