//! Who talks to whom, and who is refused, as runners report it.

use std::time::Instant;

use axum::{
    Json, Router,
    extract::{Query, rejection::QueryRejection},
    http::StatusCode,
    routing::get,
};
use mesh_model::Admin;

use super::{Api, admin::Answer, auth::Administrator, failure::Refused};
use crate::{
    api::{Edges, Refusals, Reported, TrafficQuery},
    coordinator::{Coordinator, Core},
    telemetry::Book,
};

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/edges", get(edges)).route("/refused", get(refused))
}

type Asked = Result<Query<TrafficQuery>, QueryRejection>;

async fn edges(Administrator { by, coordinator }: Administrator, query: Asked) -> Answer<Edges> {
    read(coordinator, by, query, Reported::edges, Edges::of).await
}

async fn refused(Administrator { by, coordinator }: Administrator, query: Asked) -> Answer<Refusals> {
    read(coordinator, by, query, Reported::refusals, Refusals::of).await
}

async fn read<I: Send + 'static, T: Send + 'static>(
    coordinator: Coordinator,
    by: Admin,
    query: Asked,
    reported: fn(&Book) -> Reported<I>,
    of: fn(&Core, Reported<I>, &Admin, &TrafficQuery, Instant) -> T,
) -> Answer<T> {
    let Query(query) = query.map_err(|rejection| {
        let hint = "known are from and to, as DEPLOYMENT or DEPLOYMENT/SERVICE, and watch";
        Refused::new(StatusCode::BAD_REQUEST, rejection.body_text(), hint)
    })?;
    let now = tokio::time::Instant::now().into_std();
    let telemetry = std::sync::Arc::clone(&coordinator.telemetry);
    if query.watch == Some(true) {
        telemetry.watch(now);
    }
    let reported = telemetry.book().map(|book| reported(&book)).ok_or_else(|| {
        let hint = "start it with `mesh-coord serve --telemetry full`";
        Refused::new(StatusCode::CONFLICT, "runners don't report to this coordinator: its telemetry is off", hint)
    })?;
    Ok(Json(coordinator.visit(move |core| of(core, reported, &by, &query, now)).await?))
}
