//! Every request passes here before a page sees it: it has to be for this console, from a page of its own, and of a
//! session.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::{self, Next},
    response::{Html, IntoResponse as _, Response},
    routing::get,
};
use mesh_console::{SIGN_IN_PATH, SIGN_OUT_PATH};
use serde::Deserialize;
use tokio::time::{Instant, timeout};

use super::{
    actions,
    asker::{Asker, go_to},
    checks::{Shown, Stray},
    desk::{Desk, Entry, Found, Held, broken, form, refused},
    pages,
    sessions::{Random, is},
    sign_in, trail,
    way::Way,
};

/// What every page carries (W3C CSP, RFC 9110; the Fetch and HTML standards).
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, mesh_console::POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    // Without it, browsers send no `Origin` with forms.
    (header::REFERRER_POLICY, "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];
/// The largest form, in bytes.
const FORM: usize = 64 << 10;
/// How long a form may take to arrive.
const PATIENCE: Duration = Duration::from_secs(15);

/// The console behind its door.
pub(super) fn router(desk: Desk) -> Router {
    let asked = |kind: &'static str, text: &'static str| get(async move || ([(header::CONTENT_TYPE, kind)], text));
    pages::routes()
        .merge(trail::routes())
        .merge(actions::routes())
        .route(mesh_console::STYLE_PATH, asked("text/css; charset=utf-8", mesh_console::STYLE))
        .route(mesh_console::SCRIPT_PATH, asked("text/javascript; charset=utf-8", mesh_console::SCRIPT))
        // Browsers ask for it by themselves.
        .route("/favicon.ico", get(async || StatusCode::NO_CONTENT))
        .layer(middleware::from_fn_with_state(Arc::new(desk), guard))
}

async fn guard(State(desk): State<Arc<Desk>>, request: Request, next: Next) -> Response {
    let mut response = admit(&desk, request, next).await;
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn admit(desk: &Desk, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let changes = !matches!(parts.method, Method::GET | Method::HEAD);
    let shown = Shown::of(&parts.headers);
    match shown.check(desk.scheme(), &desk.is_own, changes) {
        Ok(()) => {}
        Err(Stray::WrongHost) => {
            return refused(StatusCode::MISDIRECTED_REQUEST, "this console has another name");
        }
        Err(Stray::Foreign) => return refused(StatusCode::FORBIDDEN, "another site's page asked for this"),
    }
    if parts.method != Method::POST && changes {
        return refused(StatusCode::METHOD_NOT_ALLOWED, "pages are read by GET, and forms are sent by POST");
    }
    if matches!(parts.uri.path(), mesh_console::STYLE_PATH | mesh_console::SCRIPT_PATH | "/favicon.ico") {
        return next.run(Request::from_parts(parts, body)).await;
    }
    if let Some(response) = enter(desk, &parts) {
        return response;
    }
    let is_sign_in = parts.uri.path() == SIGN_IN_PATH && matches!(desk.entry, Entry::Token { .. });
    let found = desk.found(shown);
    // A stranger's request isn't read, but for the form by which sessions begin.
    if found.is_none() && !is_sign_in {
        return desk.stranger(shown);
    }
    let body = match read(body).await {
        Ok(body) => body,
        Err(response) => return response,
    };
    if let (true, Entry::Token { api }) = (is_sign_in, &desk.entry) {
        return sign_in::sign_in(desk, api, &parts, &body).await;
    }
    let Some(found) = found else { return desk.stranger(shown) };
    if changes && !holds_proof(&parts.headers, &body, &found.proof).await {
        return refused(StatusCode::FORBIDDEN, "the form isn't of this session: load its page again");
    }
    if parts.uri.path() == SIGN_OUT_PATH && changes {
        desk.lock().close(found.id);
        return go_to(SIGN_IN_PATH);
    }
    match asker(desk, &found, &parts).await {
        Ok(asker) => {
            let mut request = Request::from_parts(parts, Body::from(body));
            request.extensions_mut().insert(asker);
            next.run(request).await
        }
        Err(response) => response.unwrap_or_else(|| {
            desk.lock().close(found.id);
            desk.stranger(shown)
        }),
    }
}

/// The answer to a request that begins a session by its link alone, or that asks how to begin one.
fn enter(desk: &Desk, parts: &Parts) -> Option<Response> {
    let shown = Shown::of(&parts.headers);
    match &desk.entry {
        Entry::Link { key, .. } => {
            let given = parts.uri.query()?.strip_prefix("k=").filter(|_| parts.uri.path() == "/")?;
            let mut key = key.lock().unwrap_or_else(PoisonError::into_inner);
            if !key.as_ref().is_some_and(|key| is(given, key)) {
                return Some(desk.stranger(shown));
            }
            *key = None;
            drop(key);
            Some(desk.begin(shown, (0, Held::default()), Instant::now()).unwrap_or_else(|error| broken(&error)))
        }
        Entry::Token { .. } if parts.uri.path() == SIGN_IN_PATH && parts.method != Method::POST => {
            Some(Html(mesh_console::sign_in(None).into_string()).into_response())
        }
        Entry::Token { .. } => None,
    }
}

/// Reads a form.
async fn read(body: Body) -> Result<Bytes, Response> {
    match timeout(PATIENCE, to_bytes(body, FORM)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(refused(StatusCode::PAYLOAD_TOO_LARGE, "the form is larger than 64 KiB, or broke off")),
        Err(_) => Err(refused(StatusCode::REQUEST_TIMEOUT, "the form took too long")),
    }
}

/// The one who asks. `Err(None)`: the token isn't good any more.
async fn asker(desk: &Desk, found: &Found, parts: &Parts) -> Result<Asker, Option<Response>> {
    let (way, who) = match (&desk.entry, &found.held.token) {
        (Entry::Link { reach, who, .. }, _) => (Way::Reach(reach.clone()), Arc::clone(who)),
        (Entry::Token { api }, Some(token)) => {
            let inside = token.inside(api, parts).ok_or(None)?;
            let who = sign_in::me(&inside).await.map_err(|refused| match refused {
                sign_in::Refused { status: StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, .. } => None,
                other => Some(other.page()),
            })?;
            (Way::Inside(inside), Arc::new(who))
        }
        (Entry::Token { .. }, None) => return Err(None),
    };
    Ok(Asker {
        way,
        mesh: Arc::clone(&desk.mesh),
        who,
        proof: String::from(found.proof.clone()).into(),
        signed_in: found.held.token.is_some(),
        shelf: Arc::clone(&found.held.shelf),
        is_visit: Shown::of(&parts.headers).is_visit(),
    })
}

#[derive(Deserialize)]
struct Proof {
    proof: String,
}

/// Whether a form is of this session (CSRF).
async fn holds_proof(headers: &HeaderMap, body: &Bytes, proof: &Random) -> bool {
    form::<Proof>(headers, body).await.is_some_and(|form| is(&form.proof, proof))
}
