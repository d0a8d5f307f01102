//! Who talks to whom, and who is refused, as runners report it.

use std::time::Instant;

use axum::{Json, http::StatusCode};
use mesh_model::Admin;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    asked::{self, Asked},
    auth::Administrator,
    codes::Code,
    failure::{Answer, Refused},
};
use crate::{
    api::{Edges, LOOKED_AT, Lacking, Refusals, Reported, Series, SeriesQuery, TrafficQuery},
    coordinator::{Coordinator, Core},
    telemetry::All,
};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(edges)).routes(routes!(series)).routes(routes!(refused))
}

/// Who talks to whom
#[utoipa::path(get, path = "/edges", params(TrafficQuery), responses((status = 200, body = Edges)))]
async fn edges(Administrator { by, coordinator }: Administrator, query: Asked<TrafficQuery>) -> Answer<Edges> {
    read(coordinator, by, query, Reported::edges, Edges::of).await
}

/// What passed between services in each of the last 24 hours
#[utoipa::path(get, path = "/edges/series", params(SeriesQuery), responses((status = 200, body = Series)))]
async fn series(Administrator { by, coordinator }: Administrator, query: Asked<SeriesQuery>) -> Answer<Series> {
    let query = asked::query(query, "known are from and to, as DEPLOYMENT or DEPLOYMENT/SERVICE")?;
    let now = (tokio::time::Instant::now().into_std(), coordinator.now());
    let unnoted = coordinator.telemetry.book().map(|book| book.unnoted(now.1, now)).unwrap_or_default();
    Ok(Json(coordinator.visit(move |core| Series::of(core, unnoted, &by, &query, now.1)).await?))
}

/// Who is refused
#[utoipa::path(get, path = "/refused", params(TrafficQuery), responses((status = 200, body = Refusals)))]
async fn refused(Administrator { by, coordinator }: Administrator, query: Asked<TrafficQuery>) -> Answer<Refusals> {
    read(coordinator, by, query, Reported::refusals, Refusals::of).await
}

async fn read<I: Send + 'static, T: Send + 'static>(
    coordinator: Coordinator,
    by: Admin,
    query: Asked<TrafficQuery>,
    reported: fn(All, Vec<Lacking>) -> Reported<I>,
    of: fn(&Core, Reported<I>, &Admin, &TrafficQuery, Instant) -> T,
) -> Answer<T> {
    let query = asked::query(query, "known are from and to, as DEPLOYMENT or DEPLOYMENT/SERVICE, and watch")?;
    let now = tokio::time::Instant::now().into_std();
    let (all, lacking) = coordinator.reports(LOOKED_AT, query.watch == Some(true)).await.ok_or_else(|| {
        let hint = "start it with `mesh-coord serve --telemetry full`";
        Refused::new(StatusCode::CONFLICT, "runners don't report to this coordinator: its telemetry is off", hint)
            .coded(Code::TelemetryOff)
    })?;
    let reported = reported(all, Lacking::all(&lacking));
    Ok(Json(coordinator.visit(move |core| of(core, reported, &by, &query, now)).await?))
}
