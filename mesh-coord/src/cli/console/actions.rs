//! Changes: each is shown with its effect first, and made by a form that is posted.

use anyhow::{Error, Result};
use axum::{Extension, Form, Router, extract::Query, response::Response, routing::get};
use mesh_console::{Ask, Joined, Notice, Wanted, model};
use mesh_model::{NewPurpose, NewToken, Outcome, Role};
use mesh_process::duration;

use super::{
    asker::{Asker, News, go_to, told},
    wish::{Wish, outcome_in_words, parts, read, wrong},
};
use crate::cli::{client::escaped, effect, numbers, token::line_for};

/// The path at which a new token is shown.
const MADE: &str = "/tokens/made";

pub(super) fn routes() -> Router {
    Router::new()
        .route(mesh_console::ACT_PATH, get(preview).post(act))
        .route("/tokens", get(tokens).post(make))
        .route(MADE, get(made))
}

/// What a change would do, and the form that makes it.
async fn preview(Extension(asker): Extension<Asker>, Query(wish): Query<Wish>) -> Response {
    confirm(&asker, &wish, None).await
}

async fn confirm(asker: &Asker, wish: &Wish, refused: Option<Error>) -> Response {
    let tried = async {
        let understood = wish.understood()?;
        Ok((asker.way.try_out(&understood.command).await?, understood.typed))
    };
    let tried: Result<_> = tried.await;
    let (mut lines, mut warnings, mut typed) = (None, vec![], None);
    let refused = match tried {
        Ok((previewed, what)) => {
            let (mut words, found) = outcome_in_words(previewed.outcome);
            words.extend(effect::lines(&previewed.effect.unwrap_or_default()));
            (lines, warnings, typed) = (Some(words), found, what);
            refused
        }
        // Why the form was refused says more than why it would be again.
        Err(error) => Some(refused.unwrap_or(error)),
    };
    let refused = refused.as_ref().map(told);
    let ((title, button), back, fields) = (wish.words(), wish.back(), wish.fields());
    let ask = Ask {
        title: &title,
        button,
        back: &back,
        fields: &fields,
        typed: typed.as_deref(),
        effect: lines.as_deref(),
        warnings: &warnings,
        refused: refused.as_ref().map(|(error, hint)| (&**error, hint.as_deref())),
    };
    asker.page("", |frame| Ok(mesh_console::confirm(frame, &ask)))
}

/// Makes a change.
async fn act(Extension(asker): Extension<Asker>, Form(wish): Form<Wish>) -> Response {
    let done = async {
        let understood = wish.understood()?;
        if let Some(typed) = understood.typed.filter(|typed| *typed != wish.typed.trim()) {
            return Err(wrong(
                format!("`{}` was typed, and not `{typed}`: nothing has changed", wish.typed.escape_debug()),
                "type it exactly, or go back",
            ));
        }
        asker.way.order(&understood.command).await
    };
    match done.await {
        Ok(outcome) => {
            let back = of_service(&outcome).unwrap_or_else(|| wish.back());
            let (lines, warnings) = outcome_in_words(outcome);
            asker.tell(News::Done(Notice { text: format!("Done: {}", lines.join("; ")), warnings }));
            go_to(&back)
        }
        Err(error) => confirm(&asker, &wish, Some(error)).await,
    }
}

/// The page of the service to which an instance belongs.
fn of_service(outcome: &Outcome) -> Option<String> {
    let Outcome::InstanceDrained { service, .. } = outcome else { return None };
    let (deployment, service) = service.split_once('/')?;
    Some(format!("/d/{}/{}", escaped(deployment), escaped(service)))
}

/// The token that a form asks for.
fn token_of(form: &Wanted) -> Result<NewToken> {
    let uses = || numbers::uses(form.uses.trim()).map_err(|error| wrong(error, "give the number of runners"));
    let names = || parts(&form.names).map(|name| read(name, "names, as in shop, billing"));
    let purpose = match &*form.scope {
        "any" => NewPurpose::JoinAny { uses: uses()? },
        "teams" => NewPurpose::JoinTeams { teams: names().collect::<Result<_>>()?, uses: uses()? },
        "deployments" => NewPurpose::JoinDeployments { deployments: names().collect::<Result<_>>()?, uses: uses()? },
        "admin" => {
            let mut teams = names().collect::<Result<Vec<_>>>()?.into_iter();
            let team = teams.next();
            if teams.next().is_some() {
                return Err(wrong(
                    "several teams are named".to_owned(),
                    "an admin token is good for one team, or for all",
                ));
            }
            match &*form.role {
                "admin" => NewPurpose::Admin { team },
                "operator" => NewPurpose::Role { role: Role::Operator, team },
                "viewer" => NewPurpose::Role { role: Role::Viewer, team },
                other => {
                    return Err(wrong(format!("`{}` is no role", other.escape_debug()), "choose one of the list"));
                }
            }
        }
        other => return Err(wrong(format!("`{}` is no purpose", other.escape_debug()), "choose one of the list")),
    };
    let ttl = duration::parse(form.ttl.trim()).map_err(|error| wrong(error, "give how long it is valid"))?;
    let name = Some(form.name.trim().to_owned()).filter(|name| !name.is_empty());
    let ephemeral = !form.ephemeral.is_empty() && form.scope != "admin";
    Ok(NewToken { purpose, ttl: ttl.as_secs(), ephemeral, name })
}

async fn tokens(Extension(asker): Extension<Asker>) -> Response {
    let fresh = Wanted { ttl: "1h".to_owned(), uses: "1".to_owned(), ..Wanted::default() };
    list(&asker, &fresh, None).await
}

async fn list(asker: &Asker, form: &Wanted, refused: Option<Error>) -> Response {
    let tokens: Result<model::Tokens> = asker.get("tokens").await;
    let refused = refused.as_ref().map(told);
    let refused = refused.as_ref().map(|(error, hint)| (&**error, hint.as_deref()));
    asker.page("/tokens", |frame| Ok(mesh_console::tokens(frame, &tokens?, form, refused)))
}

async fn make(Extension(asker): Extension<Asker>, Form(form): Form<Wanted>) -> Response {
    let made = async { asker.way.make(&token_of(&form)?).await };
    match made.await {
        Ok(made) => {
            let line = (form.scope != "admin").then(|| line_for("mesh-node up", &made, asker.way.url()));
            asker.tell(News::Made(Box::new((made, line))));
            go_to(MADE)
        }
        Err(error) => list(&asker, &form, Some(error)).await,
    }
}

/// Shows a new token once.
async fn made(Extension(asker): Extension<Asker>) -> Response {
    let made = asker.take(|news| match news {
        News::Made(made) => Ok(made),
        other @ News::Done(_) => Err(other),
    });
    asker.page("/tokens", |frame| {
        let Some(made) = made else { return Ok(mesh_console::joined(frame, None)) };
        let (token, line) = *made;
        let id = token.id.to_string();
        let mut warnings = token.warnings;
        warnings.extend(line.as_ref().and_then(|line| line.doubt).map(ToOwned::to_owned));
        let line = line.as_ref().map(|line| &*line.command);
        let joined = Joined { id: &id, token: &token.token, line, warnings: &warnings };
        Ok(mesh_console::joined(frame, Some(&joined)))
    })
}
