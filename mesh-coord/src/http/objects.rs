//! Changes of single objects. Each is a command as in `POST /command`, so both ways have the same rights and effects.

use mesh_model::{AdminCommand, Apply, Offload, TrustChange};
use mesh_proto::{InstanceId, Label, TokenId};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    admin::write,
    asked::{Asked, Named, is_dry_run, named, query},
    auth::Administrator,
    body::{Body, COMMAND_KIB},
    failure::Answer,
    preview,
};
use crate::api::{ForceQuery, NewDeployment, Previewed, RevokeQuery, WithPrune, WriteQuery};

/// The largest small request, in KiB.
const SMALL_KIB: usize = 16;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(put_deployment, delete_deployment))
        .routes(routes!(delete_node))
        .routes(routes!(drain_node, undrain_node))
        .routes(routes!(drain_instance, undrain_instance))
        .routes(routes!(revoke_token))
        .routes(routes!(delete_relay))
        .routes(routes!(switch))
        .routes(routes!(change_trust))
}

/// Creates a deployment, or changes it to what is declared
#[utoipa::path(
    put, path = "/deployments/{deployment}",
    params(("deployment" = Label, Path), WithPrune),
    request_body = NewDeployment,
    responses((status = 200, body = Previewed))
)]
async fn put_deployment(
    administrator: Administrator,
    path: Named<Label>,
    asked: Asked<WithPrune>,
    Body(new, _loan): Body<NewDeployment, COMMAND_KIB>,
) -> Answer<Previewed> {
    let WithPrune { dry_run, force, prune } = query(asked, "known are dry_run, force and prune")?;
    let (file, expect) = new.into_file(named(path)?);
    preview::carry_out(administrator, Apply { files: vec![file], expect, dry_run, force, prune }).await
}

/// Deletes a deployment, and removes its name from all trust lists
#[utoipa::path(
    delete, path = "/deployments/{deployment}",
    params(("deployment" = Label, Path), ForceQuery),
    responses((status = 200, body = Previewed))
)]
async fn delete_deployment(
    administrator: Administrator,
    path: Named<Label>,
    asked: Asked<ForceQuery>,
) -> Answer<Previewed> {
    let ForceQuery { dry_run, force } = query(asked, "known are dry_run and force")?;
    write(administrator, AdminCommand::Delete { deployment: named(path)?, force }, dry_run).await
}

/// Removes a runner for good
#[utoipa::path(
    delete, path = "/nodes/{node}",
    params(("node" = Label, Path), ForceQuery),
    responses((status = 200, body = Previewed))
)]
async fn delete_node(administrator: Administrator, path: Named<Label>, asked: Asked<ForceQuery>) -> Answer<Previewed> {
    let ForceQuery { dry_run, force } = query(asked, "known are dry_run and force")?;
    write(administrator, AdminCommand::RemoveNode { name: named(path)?, force }, dry_run).await
}

/// Ends new connections to all that a runner hosts and will host
#[utoipa::path(
    post, path = "/nodes/{node}/drain",
    params(("node" = Label, Path), WriteQuery),
    responses((status = 200, body = Previewed))
)]
async fn drain_node(administrator: Administrator, path: Named<Label>, asked: Asked<WriteQuery>) -> Answer<Previewed> {
    let dry_run = is_dry_run(asked)?;
    write(administrator, AdminCommand::DrainNode { name: named(path)? }, dry_run).await
}

/// Allows new connections to a drained runner again
#[utoipa::path(
    delete, path = "/nodes/{node}/drain",
    params(("node" = Label, Path), WriteQuery),
    responses((status = 200, body = Previewed))
)]
async fn undrain_node(administrator: Administrator, path: Named<Label>, asked: Asked<WriteQuery>) -> Answer<Previewed> {
    let dry_run = is_dry_run(asked)?;
    write(administrator, AdminCommand::UndrainNode { name: named(path)? }, dry_run).await
}

/// Ends new connections to an instance
#[utoipa::path(
    post, path = "/instances/{instance}/drain",
    params(("instance" = InstanceId, Path), WriteQuery),
    responses((status = 200, body = Previewed))
)]
async fn drain_instance(
    administrator: Administrator,
    path: Named<InstanceId>,
    asked: Asked<WriteQuery>,
) -> Answer<Previewed> {
    let dry_run = is_dry_run(asked)?;
    write(administrator, AdminCommand::Drain { instance: named(path)? }, dry_run).await
}

/// Allows new connections to a drained instance again
#[utoipa::path(
    delete, path = "/instances/{instance}/drain",
    params(("instance" = InstanceId, Path), WriteQuery),
    responses((status = 200, body = Previewed))
)]
async fn undrain_instance(
    administrator: Administrator,
    path: Named<InstanceId>,
    asked: Asked<WriteQuery>,
) -> Answer<Previewed> {
    let dry_run = is_dry_run(asked)?;
    write(administrator, AdminCommand::Undrain { instance: named(path)? }, dry_run).await
}

/// Ends a token
#[utoipa::path(
    delete, path = "/tokens/{token}",
    params(("token" = TokenId, Path), RevokeQuery),
    responses((status = 200, body = Previewed))
)]
async fn revoke_token(
    administrator: Administrator,
    path: Named<TokenId>,
    asked: Asked<RevokeQuery>,
) -> Answer<Previewed> {
    let RevokeQuery { dry_run, with_nodes } = query(asked, "known are dry_run and with_nodes")?;
    write(administrator, AdminCommand::RevokeToken { token: named(path)?, with_nodes }, dry_run).await
}

/// Removes a relay. Runners leave it at once
#[utoipa::path(
    delete, path = "/relays/{relay}",
    params(("relay" = Label, Path), WriteQuery),
    responses((status = 200, body = Previewed))
)]
async fn delete_relay(administrator: Administrator, path: Named<Label>, asked: Asked<WriteQuery>) -> Answer<Previewed> {
    let dry_run = is_dry_run(asked)?;
    write(administrator, AdminCommand::RemoveRelay { name: named(path)? }, dry_run).await
}

/// A switch of an offload.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Switch {
    offload: Offload,
    on: bool,
    /// The runner; null: the whole mesh.
    #[serde(default)]
    node: Option<Label>,
}

/// Turns an offload on or off
#[utoipa::path(
    post, path = "/switch",
    params(WriteQuery), request_body = Switch,
    responses((status = 200, body = Previewed))
)]
async fn switch(
    administrator: Administrator,
    asked: Asked<WriteQuery>,
    Body(Switch { offload, on, node }, _loan): Body<Switch, SMALL_KIB>,
) -> Answer<Previewed> {
    let dry_run = is_dry_run(asked)?;
    write(administrator, AdminCommand::Switch { offload, on, node }, dry_run).await
}

/// Changes who may call a deployment
#[utoipa::path(
    post, path = "/trust/{deployment}",
    params(("deployment" = Label, Path), WriteQuery), request_body = TrustChange,
    responses((status = 200, body = Previewed))
)]
async fn change_trust(
    administrator: Administrator,
    path: Named<Label>,
    asked: Asked<WriteQuery>,
    Body(change, _loan): Body<TrustChange, COMMAND_KIB>,
) -> Answer<Previewed> {
    let dry_run = is_dry_run(asked)?;
    write(administrator, AdminCommand::Trust { deployment: named(path)?, change }, dry_run).await
}
