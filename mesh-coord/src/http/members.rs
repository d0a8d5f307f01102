//! Which coordinators serve.

use axum::Json;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Api, auth::Administrator, failure::Answer};
use crate::api::Members;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(members))
}

/// The coordinators that serve this mesh
#[utoipa::path(get, path = "/members", responses((status = 200, body = Members)))]
async fn members(reader: Administrator) -> Answer<Members> {
    reader.check_all_teams("coordinators are the whole mesh's")?;
    let Administrator { coordinator, .. } = reader;
    let (revision, runners) = coordinator.visit(|core| core.standing()).await?;
    Ok(Json(Members::of(&coordinator, revision, runners)))
}
