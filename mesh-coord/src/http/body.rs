//! Request bodies: no larger than the route needs, read after authentication, and limited in total with shares by
//! team.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    body::{Bytes, HttpBody as _, to_bytes},
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::{Api, failure::Refused};
use crate::tenant::Tenant;

/// The limit for all bodies that are being read or processed, in KiB.
const ALL: usize = 64 << 10;
/// The largest command, in KiB: `apply` with its files.
pub(super) const COMMAND_KIB: usize = 1024;
/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(15);

/// A body of at most `KIB` KiB. Keep the loan until the request is done.
pub(super) struct Body<T, const KIB: usize>(pub(super) T, pub(super) Option<Loan>);

impl<T: DeserializeOwned, const KIB: usize> FromRequest<Api> for Body<T, KIB> {
    type Rejection = Refused;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Refused> {
        let (parts, body) = request.into_parts();
        if !is_json(&parts.headers) {
            return Err(Refused::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the request's body is not JSON",
                "send JSON, with `content-type: application/json`",
            ));
        }
        let (bytes, loan) = read(&parts, body, api, KIB).await?;
        let value = serde_json::from_slice(&bytes).map_err(|error| {
            let status = if error.is_data() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::BAD_REQUEST };
            let error = format!("the request's body cannot be read: {error}");
            Refused::new(status, error, "is the other side's version another one?")
        })?;
        Ok(Self(value, loan))
    }
}

/// Reads a body of at most `kib` KiB.
///
/// # Errors
/// If it is larger, takes too long, or finds no room.
pub(super) async fn read(
    parts: &Parts,
    body: axum::body::Body,
    api: &Api,
    kib: usize,
) -> Result<(Bytes, Option<Loan>), Refused> {
    let most = kib << 10;
    let told = body.size_hint().upper().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    if told.is_some_and(|length| length > most) {
        return Err(too_large(kib));
    }
    // A stranger's body is limited by its place, and the operator's only by its size.
    let loan = match parts.extensions.get::<Tenant>() {
        Some(tenant) => Some(api.budget.borrow(tenant, told.unwrap_or(most).div_ceil(1024)).ok_or_else(no_room)?),
        None => None,
    };
    let late = || Refused::new(StatusCode::REQUEST_TIMEOUT, "the request's body took too long", "try again");
    let bytes = timeout(PATIENCE, to_bytes(body, most)).await.map_err(|_| late())?.map_err(|_| too_large(kib))?;
    Ok((bytes, loan))
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

fn too_large(kib: usize) -> Refused {
    let (most, hint) = if kib == 1024 {
        ("1 MiB".to_owned(), "a request has at most 1 MiB: send fewer files at once")
    } else {
        (format!("{kib} KiB"), "is the other side's version another one?")
    };
    let error = format!("the request's body is larger than {most}, the most at this path, or broke off");
    Refused::new(StatusCode::PAYLOAD_TOO_LARGE, error, hint)
}

fn no_room() -> Refused {
    let error = "the coordinator is working on as many large requests of this team as it allows";
    Refused::new(StatusCode::SERVICE_UNAVAILABLE, error, "try again in a moment")
}

/// The memory for bodies.
#[derive(Debug, Clone, Default)]
pub(super) struct Budget(Arc<Mutex<Lent>>);

#[derive(Debug, Default)]
struct Lent {
    all: usize,
    teams: HashMap<Arc<str>, usize>,
}

impl Budget {
    /// Lends the tenant this many KiB, if its team then has no more than what is left, so that another team finds
    /// some.
    fn borrow(&self, tenant: &Tenant, kib: usize) -> Option<Loan> {
        let mut lent = self.lock();
        let own = lent.teams.get(&tenant.team).copied().unwrap_or(0) + kib;
        let left = ALL.checked_sub(lent.all + kib)?;
        if own > left {
            return None;
        }
        lent.all += kib;
        lent.teams.insert(tenant.team.clone(), own);
        drop(lent);
        Some(Loan { budget: self.clone(), team: tenant.team.clone(), kib })
    }

    fn lock(&self) -> MutexGuard<'_, Lent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part of the budget, until this is dropped.
#[derive(Debug)]
pub(super) struct Loan {
    budget: Budget,
    team: Arc<str>,
    kib: usize,
}

impl Drop for Loan {
    fn drop(&mut self) {
        let mut lent = self.budget.lock();
        lent.all -= self.kib;
        if let Some(own) = lent.teams.get_mut(&self.team) {
            *own -= self.kib;
            if *own == 0 {
                lent.teams.remove(&self.team);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mesh_proto::TokenId;

    use super::*;
    use crate::tenant::Who;

    #[test]
    fn one_teams_bodies_leave_room_for_anothers() {
        let budget = Budget::default();
        let of = |team: &str| Tenant { team: team.into(), who: Who::Token(TokenId(1)) };
        let loud: Vec<Loan> = std::iter::from_fn(|| budget.borrow(&of("loud"), 1024)).collect();
        assert_eq!(loud.len(), 32);
        let quiet: Vec<Loan> = std::iter::from_fn(|| budget.borrow(&of("quiet"), 1024)).collect();
        assert_eq!(quiet.len(), 16);
        budget.borrow(&of("third"), 1024).unwrap();
        drop((loud, quiet));
        let lent = budget.lock();
        assert!(lent.all == 0 && lent.teams.is_empty());
    }
}
