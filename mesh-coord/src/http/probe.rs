//! A real connection, tried on demand by a runner.

use std::time::Duration;

use axum::{Json, http::StatusCode};
use mesh_model::{Admin, Role};
use mesh_proto::message::Refusal;
use tokio::{sync::oneshot, time::timeout};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    auth::Administrator,
    body::Body,
    codes::Code,
    failure::{Answer, Refused},
    noted::take_turns,
};
use crate::{
    api::{Answered, Probed, Why, WhyQuery},
    coordinator::{Core, Failure, Trial},
};

/// The largest request, in KiB.
const KIB: usize = 4;
/// How many turns it takes: it keeps a runner busy.
const TURNS: u32 = 5;
/// How long a runner may take.
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(probe))
}

/// Has a runner open a connection from an instance of the caller, if the rules allow it, and close it again
#[utoipa::path(post, path = "/probe", request_body = WhyQuery, responses((status = 200, body = Probed)))]
async fn probe(
    Administrator { by, coordinator }: Administrator,
    Body(what, _loan): Body<WhyQuery, KIB>,
) -> Answer<Probed> {
    by.is_at_least(Role::Operator)?;
    take_turns(&coordinator, &by, TURNS).await?;
    let (answer, answered) = oneshot::channel();
    let WhyQuery { from, to, port } = &what;
    let none = format!("no instance of {from} is on a runner that could try it and is connected to this coordinator");
    let trial = Box::new(Trial { caller: from.clone(), callee: to.clone(), port: *port, answer });
    let node = coordinator.visit(move |core| begin(core, &by, &what, trial)).await??.ok_or_else(|| {
        let hint = "attach one, or `mesh-node why --probe` on its runner; agents before 0.3 can't be asked from here";
        Refused::new(StatusCode::CONFLICT, none, hint)
    })?;
    let late = || {
        let error = format!("{node} has not answered in time");
        Refused::new(StatusCode::GATEWAY_TIMEOUT, error, "try again; `mesh-node status` there may say more")
    };
    let said = timeout(PATIENCE, answered).await.map_err(|_| late())?.map_err(|_| late())?;
    let why = said.map_err(|refusal: Refusal| Refused {
        status: StatusCode::CONFLICT,
        refusal,
        code: Code::of_status(StatusCode::CONFLICT),
    })?;
    let verdict = if why.allowed { Answered::Allow } else { Answered::Deny };
    Ok(Json(Probed { node, why: Why::new(verdict, why.steps) }))
}

/// Hands the trial to a runner; its name.
fn begin(core: &Core, by: &Admin, what: &WhyQuery, trial: Box<Trial>) -> Result<Option<mesh_proto::Label>, Failure> {
    // Who may not ask `why` may not try it either.
    Why::of(core, by, what)?;
    let mut trial = trial;
    for runner in core.state.callers_at(by, &what.from) {
        match core.links.try_out(runner, trial) {
            Ok(()) => return Ok(core.state.runner(runner).map(|runner| runner.name.clone())),
            Err(back) => trial = back,
        }
    }
    Ok(None)
}
