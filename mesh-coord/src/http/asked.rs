//! What a request's path and query ask for.

use axum::{
    extract::{
        Path, Query,
        rejection::{PathRejection, QueryRejection},
    },
    http::StatusCode,
};

use super::failure::Refused;
use crate::api::WriteQuery;

/// A query, if it can be read.
pub(super) type Asked<T> = Result<Query<T>, QueryRejection>;
/// What a path names, if it can be a name.
pub(super) type Named<T> = Result<Path<T>, PathRejection>;

/// What a query asks for.
///
/// # Errors
/// If it can't be read.
pub(super) fn query<T>(asked: Asked<T>, hint: &str) -> Result<T, Refused> {
    let Query(query) = asked.map_err(|rejection| Refused::new(StatusCode::BAD_REQUEST, rejection.body_text(), hint))?;
    Ok(query)
}

/// Whether a request is only to be tried.
///
/// # Errors
/// If the query can't be read.
pub(super) fn is_dry_run(asked: Asked<WriteQuery>) -> Result<bool, Refused> {
    query(asked, "known is dry_run, which is true or false").map(|WriteQuery { dry_run }| dry_run)
}

/// What a path names.
///
/// # Errors
/// If it can't be a name.
pub(super) fn named<T>(path: Named<T>) -> Result<T, Refused> {
    let Path(named) = path.map_err(|rejection| {
        Refused::new(rejection.status(), rejection.body_text(), "percent-encode the names in the path")
    })?;
    Ok(named)
}
