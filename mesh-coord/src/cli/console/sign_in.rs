//! Sessions that begin with an admin token. The coordinator's own routes decide whether it is good, each time.

use axum::{
    Router,
    body::Bytes,
    http::{StatusCode, request::Parts},
    response::{Html, IntoResponse as _, Response},
};
use mesh_console::model::Me;
use mesh_link::{Method, RequestError};
use mesh_proto::{
    message::Refusal,
    token::{Token as Parsed, TokenKind},
};
use serde::Deserialize;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{
    checks::Shown,
    desk::{Desk, Held, broken, form},
    way::{Inside, Token},
};
/// Why a token doesn't open the console.
pub(super) struct Refused {
    pub(super) status: StatusCode,
    refusal: Refusal,
}

impl Refused {
    fn new(status: StatusCode, error: &str, hint: &str) -> Self {
        Self { status, refusal: Refusal::new(error, hint) }
    }

    /// The form again, with the reason.
    pub(super) fn page(&self) -> Response {
        let refused = Some((&*self.refusal.error, self.refusal.hint.as_deref()));
        (self.status, Html(mesh_console::sign_in(refused).into_string())).into_response()
    }
}

/// Who the holder of a token is.
pub(super) async fn me(inside: &Inside) -> Result<Me, Refused> {
    inside.ask(Method::GET, "me", None::<&()>).await.map_err(|error| match error {
        RequestError::Refused { status, refusal } => {
            Refused { status: StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY), refusal }
        }
        RequestError::Lost(error) => Refused::new(StatusCode::BAD_GATEWAY, &error, "try again"),
    })
}

#[derive(Deserialize)]
struct SignIn {
    token: Zeroizing<String>,
}

/// Begins a session, if the token of the form is good.
pub(super) async fn sign_in(desk: &Desk, api: &Router, parts: &Parts, body: &Bytes) -> Response {
    match signed_in(desk, api, parts, body).await {
        Ok(response) => response,
        Err(refused) => refused.page(),
    }
}

async fn signed_in(desk: &Desk, api: &Router, parts: &Parts, body: &Bytes) -> Result<Response, Refused> {
    let unread = || Refused::new(StatusCode::BAD_REQUEST, "the form has no token", "load the page again");
    let form: SignIn = form(&parts.headers, body).await.ok_or_else(unread)?;
    let text = form.token.trim();
    let parsed = Parsed::parse(TokenKind::Admin, text);
    // What isn't even a token is refused by the coordinator too, which counts failures.
    let owner = parsed.as_ref().map_or(0, |token| token.id.0);
    let bare = parsed.map_or_else(|_| Zeroizing::new(plain(text)), |token| token.to_bare_text());
    let token = Token::new(bare);
    me(&token.inside(api, parts).ok_or_else(unread)?).await?;
    let held = Held { token: Some(token), ..Held::default() };
    let shown = Shown::of(&parts.headers);
    Ok(desk.begin(shown, (owner, held), Instant::now()).unwrap_or_else(|error| broken(&error)))
}

/// What can stand in a header.
fn plain(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(4096).collect()
}
