//! What there is: lists, and single objects.

use axum::{Json, http::StatusCode};
use mesh_model::{Admin, AuditQuery, UnixSeconds};
use mesh_proto::{Label, ServiceName};
use serde::Serialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    asked::{Asked, Named, named, query},
    auth::Administrator,
    codes::Code,
    failure::{Answer, Refused},
};
use crate::{
    api::{
        Audit, Deployment, DeploymentPage, Deployments, Instances, ListQuery, Listed, Me, Node, Nodes, Service,
        Services, Tokens, TrustAll, TrustPage, VERSION,
    },
    coordinator::Core,
};

/// How many audit entries are shown at once.
const AUDIT_SHOWN: usize = 1000;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(me))
        .routes(routes!(nodes))
        .routes(routes!(node))
        .routes(routes!(deployments))
        .routes(routes!(deployment))
        .routes(routes!(services))
        .routes(routes!(service))
        .routes(routes!(instances))
        .routes(routes!(tokens))
        .routes(routes!(trust_lists))
        .routes(routes!(audit))
}

/// A list, within what the reader may see.
async fn list<T: Listed + Serialize + Send + 'static>(
    reader: Administrator,
    asked: Asked<ListQuery>,
    look: fn(&Core, &Admin, UnixSeconds) -> T,
) -> Answer<T> {
    let query = query(asked, "known are team, q, limit and cursor")?;
    let Administrator { by, coordinator } = reader;
    let by = query.reader(&by).ok_or_else(|| {
        let error = "this admin token is of another team than the one that is asked for";
        Refused::new(StatusCode::FORBIDDEN, error, "leave `team` out").coded(Code::OtherTeam)
    })?;
    let now = coordinator.now();
    let mut list = coordinator.visit(move |core| look(core, &by, now)).await?;
    query.take(&mut list);
    Ok(Json(list))
}

/// Who asks, and what it may do
#[utoipa::path(get, path = "/me", responses((status = 200, body = Me)))]
async fn me(Administrator { by, coordinator }: Administrator) -> Answer<Me> {
    Ok(Json(coordinator.visit(move |core| Me::of(core, by)).await?))
}

/// The runners
#[utoipa::path(get, path = "/nodes", params(ListQuery), responses((status = 200, body = Nodes)))]
async fn nodes(reader: Administrator, asked: Asked<ListQuery>) -> Answer<Nodes> {
    reader.coordinator.look_elsewhere().await?;
    list(reader, asked, Nodes::of).await
}

/// A runner that is not removed
#[utoipa::path(get, path = "/nodes/{node}", params(("node" = Label, Path)), responses((status = 200, body = Node)))]
async fn node(Administrator { by, coordinator }: Administrator, path: Named<Label>) -> Answer<Node> {
    let name = named(path)?;
    let now = coordinator.now();
    let shown = format!("there is no runner `{name}`");
    coordinator.look_elsewhere().await?;
    let found = coordinator.visit(move |core| Node::named(core, &by, &name, now)).await?;
    found.map(Json).ok_or_else(|| Refused::new(StatusCode::NOT_FOUND, shown, "`GET /nodes` lists them"))
}

/// The deployments
#[utoipa::path(get, path = "/deployments", params(ListQuery), responses((status = 200, body = Deployments)))]
async fn deployments(reader: Administrator, asked: Asked<ListQuery>) -> Answer<Deployments> {
    list(reader, asked, Deployments::of).await
}

/// A deployment with its services and its trust list
#[utoipa::path(
    get, path = "/deployments/{deployment}",
    params(("deployment" = Label, Path)),
    responses((status = 200, body = DeploymentPage))
)]
async fn deployment(Administrator { by, coordinator }: Administrator, path: Named<Label>) -> Answer<DeploymentPage> {
    let name = named(path)?;
    let look = move |core: &mut Core| {
        let trust = TrustPage::of(core, &by, &name)?.listing.trust;
        let services = Service::all_in(core, &by, &name);
        let row = Deployment::named(core, &by, &name);
        Ok::<_, Refused>(row.map(|deployment| DeploymentPage { version: VERSION, deployment, services, trust }))
    };
    coordinator.visit(look).await??.map(Json).ok_or_else(|| {
        Refused::new(StatusCode::NOT_FOUND, "there is no such deployment", "`GET /deployments` lists them")
    })
}

/// The services with their instances
#[utoipa::path(get, path = "/services", params(ListQuery), responses((status = 200, body = Services)))]
async fn services(reader: Administrator, asked: Asked<ListQuery>) -> Answer<Services> {
    list(reader, asked, Services::of).await
}

/// A service with its instances
#[utoipa::path(
    get, path = "/services/{deployment}/{service}",
    params(("deployment" = Label, Path), ("service" = ServiceName, Path)),
    responses((status = 200, body = Service))
)]
async fn service(
    Administrator { by, coordinator }: Administrator,
    path: Named<(Label, ServiceName)>,
) -> Answer<Service> {
    let (deployment, name) = named(path)?;
    let shown = format!("there is no service `{deployment}/{name}`");
    let look = move |core: &mut Core| {
        Service::all_in(core, &by, &deployment).into_iter().find(|service| service.service == name)
    };
    let found = coordinator.visit(look).await?;
    found.map(Json).ok_or_else(|| Refused::new(StatusCode::NOT_FOUND, shown, "`GET /services` lists them"))
}

/// The instances
#[utoipa::path(get, path = "/instances", params(ListQuery), responses((status = 200, body = Instances)))]
async fn instances(reader: Administrator, asked: Asked<ListQuery>) -> Answer<Instances> {
    list(reader, asked, Instances::of).await
}

/// The tokens, without their secrets
#[utoipa::path(get, path = "/tokens", params(ListQuery), responses((status = 200, body = Tokens)))]
async fn tokens(reader: Administrator, asked: Asked<ListQuery>) -> Answer<Tokens> {
    list(reader, asked, Tokens::of).await
}

/// All trust lists
#[utoipa::path(get, path = "/trust", responses((status = 200, body = TrustAll)))]
async fn trust_lists(Administrator { by, coordinator }: Administrator) -> Answer<TrustAll> {
    Ok(Json(coordinator.visit(move |core| TrustAll::of(core, &by)).await?))
}

/// The audit, the newest entry first
#[utoipa::path(get, path = "/audit", params(AuditQuery), responses((status = 200, body = Audit)))]
async fn audit(Administrator { by, coordinator }: Administrator, asked: Asked<AuditQuery>) -> Answer<Audit> {
    let query = query(asked, "known are limit, before, since, by, action, object and result")?;
    Ok(Json(coordinator.visit(move |core| Audit::of(core, &by, query, AUDIT_SHOWN)).await?))
}
