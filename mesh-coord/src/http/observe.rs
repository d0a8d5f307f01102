//! What monitoring asks for at the API's port, and the counts of all requests.

use axum::{
    Json,
    extract::{MatchedPath, Request, State},
    http::{StatusCode, header::CONTENT_TYPE},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use mesh_metrics::CONTENT_TYPE as METRICS;
use tokio::time::Instant;
use tracing::debug;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    asked::{self, Asked},
    auth::Administrator,
    failure::{Answer, Refused},
};
use crate::api::{Overview, Why, WhyQuery};

/// The process serves requests.
pub(super) async fn health() -> &'static str {
    "ok\n"
}

/// Commands can be carried out. Strangers aren't told why not.
pub(super) async fn readiness(State(api): State<Api>) -> Result<&'static str, Refused> {
    api.exposition.ready().await.map(|()| "ready\n").map_err(|why| {
        debug!(%why, "not ready");
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, "the coordinator is not ready", "its log says why")
    })
}

/// The metrics, of all teams, for an administrator of all.
pub(super) async fn metrics(State(api): State<Api>, reader: Administrator) -> Result<Response, Refused> {
    reader.check_all_teams("the metrics are of all teams")?;
    let text = api.exposition.metrics().await;
    let text = text.map_err(|why| {
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, why.to_string(), "try again; the log may say more")
    })?;
    Ok(([(CONTENT_TYPE, METRICS)], text.to_string()).into_response())
}

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(overview)).routes(routes!(why))
}

/// Whether the mesh is whole, and what needs its operator
#[utoipa::path(get, path = "/overview", responses((status = 200, body = Overview)))]
async fn overview(State(api): State<Api>, Administrator { by, coordinator }: Administrator) -> Answer<Overview> {
    let trouble = api.exposition.ready().await.err().map(|why| (why.to_string(), why.hint().to_owned()));
    coordinator.look_elsewhere().await?;
    let now = coordinator.now();
    Ok(Json(coordinator.visit(move |core| Overview::of(core, &by, now, trouble)).await?))
}

/// Whether one service may connect to another
#[utoipa::path(get, path = "/why", params(WhyQuery), responses((status = 200, body = Why)))]
async fn why(Administrator { by, coordinator }: Administrator, query: Asked<WhyQuery>) -> Answer<Why> {
    let query = asked::query(query, "needed are from and to, as DEPLOYMENT/SERVICE, and port")?;
    Ok(Json(coordinator.visit(move |core| Why::of(core, &by, &query)).await??))
}

/// Counts a request by the pattern of its route.
pub(super) async fn count(State(api): State<Api>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();
    let response = next.run(request).await;
    let route = route.as_ref().map(MatchedPath::as_str);
    api.coordinator.metrics.request(route, method.as_str(), response.status().as_u16(), began.elapsed());
    response
}
