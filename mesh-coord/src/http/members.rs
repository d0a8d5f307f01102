//! Which coordinators serve.

use axum::{Json, http::StatusCode};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    auth::Administrator,
    failure::{Answer, Refused},
};
use crate::api::Members;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(members))
}

/// The coordinators that serve this mesh
#[utoipa::path(get, path = "/members", responses((status = 200, body = Members)))]
async fn members(Administrator { by, coordinator }: Administrator) -> Answer<Members> {
    if let Some(team) = &by.team {
        let error = format!("coordinators are the whole mesh's, and this token is of team {team}");
        return Err(Refused::new(StatusCode::FORBIDDEN, error, "use an admin token without --team"));
    }
    let look = |core: &mut crate::coordinator::Core| (core.state.revision(), core.sessions.connected().count());
    let (revision, runners) = coordinator.visit(look).await?;
    Ok(Json(Members::of(&coordinator, revision, runners)))
}
