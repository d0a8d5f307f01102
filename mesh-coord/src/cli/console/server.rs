//! Pages for one operator, on the operator's own machine. The console asks the coordinator as other commands do, and holds
//! no rights of its own.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::get,
};
use tokio::{net::TcpListener, time::Instant};

use super::{
    door::{Door, Shown, Verdict},
    pages::{self, Source},
};
use crate::{cli::client::Reach, random};

/// What every page carries (W3C CSP, RFC 9110; the Fetch and HTML standards).
const HEADERS: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, mesh_console::POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// A console that listens, and the link that opens it once.
pub(super) struct Listening {
    listener: TcpListener,
    router: Router,
    /// The link. It is a secret.
    pub(super) link: String,
}

impl Listening {
    /// Listens on loopback.
    ///
    /// # Errors
    /// If the port is in use, or the system returns no random bytes.
    pub(super) async fn start(reach: Reach, mesh: String, port: u16) -> Result<Self> {
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = TcpListener::bind(at).await.with_context(|| format!("can't listen on {at}"))?;
        let at = listener.local_addr().context("the listener has no address")?;
        let (key, cookie) = (random::secret()?.hash(), random::secret()?.hash());
        let link = format!("http://{at}/?k={}", String::from(key.clone()));
        let door = Arc::new(Mutex::new(Door::new(key, cookie, at.port())));
        let router = pages::routes()
            .route(mesh_console::STYLE_PATH, get(async || file("text/css; charset=utf-8", mesh_console::STYLE)))
            .route(
                mesh_console::SCRIPT_PATH,
                get(async || file("text/javascript; charset=utf-8", mesh_console::SCRIPT)),
            )
            // Browsers ask for it by themselves.
            .route("/favicon.ico", get(async || StatusCode::NO_CONTENT))
            .layer(middleware::from_fn_with_state(door, guard))
            .with_state(Arc::new(Source { reach, mesh }));
        Ok(Self { listener, router, link })
    }

    /// Serves it until the process ends.
    ///
    /// # Errors
    /// If the listener fails.
    pub(super) async fn serve(self) -> Result<()> {
        axum::serve(self.listener, self.router).await.context("the console has ended")
    }
}

fn file(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// Lets in who has followed the link, to look and nothing else.
async fn guard(State(door): State<Arc<Mutex<Door>>>, request: Request, next: Next) -> Response {
    let mut response = if matches!(*request.method(), Method::GET | Method::HEAD) {
        let verdict = {
            let shown = shown(request.headers(), request.uri().query());
            door.lock().unwrap_or_else(PoisonError::into_inner).admit(shown, Instant::now().into_std())
        };
        match verdict {
            Verdict::Welcome => next.run(request).await,
            Verdict::Enter(cookie) => {
                (StatusCode::SEE_OTHER, [(header::SET_COOKIE, &*cookie), (header::LOCATION, "/")]).into_response()
            }
            Verdict::WrongHost => refused(StatusCode::MISDIRECTED_REQUEST, "this console has another name"),
            Verdict::Foreign => refused(StatusCode::FORBIDDEN, "another site's page asked for this"),
            Verdict::Stranger => refused(
                StatusCode::UNAUTHORIZED,
                "open the link that `mesh-coord console` has printed; it works once, so start it again for another browser",
            ),
        }
    } else {
        refused(StatusCode::METHOD_NOT_ALLOWED, "this console only shows")
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn refused(status: StatusCode, text: &'static str) -> Response {
    (status, Body::from(format!("{text}\n"))).into_response()
}

fn shown<'a>(headers: &'a HeaderMap, query: Option<&'a str>) -> Shown<'a> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let key = query.and_then(|query| query.strip_prefix("k="));
    Shown {
        host: text("host"),
        site: text("sec-fetch-site"),
        mode: text("sec-fetch-mode"),
        cookies: text("cookie"),
        key,
    }
}
