//! What every request of an administrator passes that may change something: the least role for that, unless it is only
//! tried, and the answer of before where the same request comes again.

use axum::{
    body::Body,
    extract::{FromRequestParts as _, MatchedPath, Request, State},
    http::{HeaderValue, StatusCode, request::Parts},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use mesh_model::Role;
use tokio::time::Instant;

use super::{
    Api,
    auth::Administrator,
    body::{self, COMMAND_KIB},
    codes::Code,
    failure::Refused,
    idempotent::{Answer, Begun, MOST_BYTES, Request as Asked, key_of},
    noted::{note, take_turn},
};
use crate::coordinator::Failure;

/// Says that an answer is one of before.
const REPLAYED: &str = "idempotency-replayed";

/// Requests that read without a query that says so. What they change, if they do, the model refuses.
const MAY_READ: [&str; 4] =
    ["/v1/admin/apply", "/v1/admin/command", "/v1/admin/preview", "/v1/admin/trust-and-wait/{deployment}"];

pub(super) async fn guard(State(api): State<Api>, request: Request, next: Next) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    pass(&api, request, next).await.unwrap_or_else(Refused::into_response)
}

/// Whether a request may be one that changes nothing.
fn may_only_read(parts: &Parts) -> bool {
    let route = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let query = parts.uri.query().unwrap_or_default();
    MAY_READ.contains(&route) || query.split('&').any(|part| part == "dry_run=true")
}

async fn pass(api: &Api, request: Request, next: Next) -> Result<Response, Refused> {
    let (mut parts, body) = request.into_parts();
    let administrator = Administrator::from_request_parts(&mut parts, api).await?;
    let Administrator { by, coordinator } = administrator.clone();
    if let Err(refusal) = by.is_at_least(Role::Operator)
        && !may_only_read(&parts)
    {
        take_turn(&coordinator, &by).await?;
        let route = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
        let what = format!("{} {}", parts.method, route.trim_start_matches("/v1/admin"));
        note(&coordinator, by, &what, &Err(Failure::from(refusal.clone()))).await;
        return Err(refusal.into());
    }
    parts.extensions.insert(administrator);
    let Some(key) = key_of(&parts.headers)? else {
        return Ok(next.run(Request::from_parts(parts, body)).await);
    };
    let (bytes, loan) = body::read(&parts, body, api, COMMAND_KIB).await?;
    let asked = Asked::of(&parts.method, &parts.uri, &bytes);
    // The handler reads it again, on its own account.
    drop(loan);
    match api.answers.begin(by.via, &key, asked, Instant::now()) {
        Begun::First(turn) => {
            let request = Request::from_parts(parts, Body::from(bytes));
            // A caller that is gone comes again, and must find what came of it.
            let carried_out = tokio::spawn(async move {
                let answer = next.run(request).await;
                let (parts, body) = answer.into_parts();
                let bytes = axum::body::to_bytes(body, MOST_BYTES).await;
                let bytes = bytes.map_err(|error| Failure::Internal(error.to_string()))?;
                turn.finish(Answer { status: parts.status, bytes: bytes.clone() }, Instant::now());
                Ok(Response::from_parts(parts, Body::from(bytes)))
            });
            let answer: Result<Response, Failure> =
                carried_out.await.map_err(|error| Failure::Internal(error.to_string()))?;
            Ok(answer?)
        }
        Begun::Again(Answer { status, bytes }) => {
            let json = HeaderValue::from_static("application/json");
            let headers = [("content-type", json), (REPLAYED, HeaderValue::from_static("true"))];
            Ok((status, headers, bytes).into_response())
        }
        Begun::Running => Err(Refused::new(
            StatusCode::CONFLICT,
            "the request with this Idempotency-Key is being carried out",
            "wait a moment, then send it again",
        )
        .coded(Code::KeyInUse)),
        Begun::Another => Err(Refused::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "this Idempotency-Key came with another request before",
            "give each request a key of its own, such as a random UUID",
        )
        .coded(Code::KeyReused)),
    }
}
