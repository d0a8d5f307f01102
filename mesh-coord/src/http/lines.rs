//! Lists a row on each line (NDJSON), for those who ask for that instead of one JSON object.

use axum::{
    body::{Body, to_bytes},
    extract::{MatchedPath, Request},
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE},
    },
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use serde_json::{Map, Value};

use super::failure::Refused;
use crate::coordinator::Failure;

/// The media type of NDJSON.
pub(super) const LINES: &str = "application/x-ndjson";
/// What has the `next` of a list in lines.
const NEXT: &str = "mesh-next";
/// The largest list, in bytes.
const MOST: usize = 64 << 20;

/// Puts each row of a list on a line of its own, if the request asks for that.
pub(super) async fn lines(request: Request, next: Next) -> Response {
    // The field with the rows is named as its path ends.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let name = route.as_ref().and_then(|route| route.as_str().rsplit('/').next());
    let Some(name) = name.filter(|_| wants_lines(request.headers())) else { return next.run(request).await };
    let answer = next.run(request).await;
    if answer.status() != StatusCode::OK {
        return answer;
    }
    in_lines(answer, name).await.unwrap_or_else(|failure| Refused::from(failure).into_response())
}

fn wants_lines(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.split(',').any(|part| part.split(';').next().is_some_and(|kind| kind.trim() == LINES))
}

/// `name`: the field with the rows.
async fn in_lines(answer: Response, name: &str) -> Result<Response, Failure> {
    let internal = |error: String| Failure::Internal(error);
    let (mut parts, body) = answer.into_parts();
    let bytes = to_bytes(body, MOST).await.map_err(|error| internal(error.to_string()))?;
    let fields: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|error| internal(error.to_string()))?;
    // What isn't a list is a line already.
    let rows = fields.get(name).and_then(Value::as_array);
    let Some(rows) = rows else { return Ok(Response::from_parts(parts, Body::from(bytes))) };
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    let next = match fields.get("next") {
        Some(Value::String(next)) => HeaderValue::from_str(next).ok(),
        Some(Value::Number(next)) => HeaderValue::from_str(&next.to_string()).ok(),
        _ => None,
    };
    if let Some(next) = next {
        parts.headers.insert(HeaderName::from_static(NEXT), next);
    }
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static(LINES));
    Ok(Response::from_parts(parts, Body::from(text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, exchange_text};

    #[test]
    fn who_asks_for_lines_says_so() {
        let wants = |text: &'static str| wants_lines(&[(ACCEPT, HeaderValue::from_static(text))].into_iter().collect());
        assert!(wants("application/x-ndjson") && wants("text/html, application/x-ndjson;q=0.9"));
        assert!(!wants("application/json") && !wants("*/*") && !wants("application/x-ndjson-2"));
    }

    #[tokio::test]
    async fn lists_come_with_a_row_on_each_line_and_pages_go_on() {
        let world = World::new().await;
        for name in ["a", "b", "c"] {
            world.deploy(name, "acme", &["db"]).await;
        }
        let ask = async |path: &str| {
            let answer = exchange_text(&world, path, "accept: application/x-ndjson\r\n").await;
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            (head.to_lowercase(), body.to_owned())
        };
        let (head, body) = ask("/v1/admin/services?limit=2").await;
        assert!(head.contains("content-type: application/x-ndjson"), "{head}");
        let rows: Vec<Value> = body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(rows.iter().map(|row| row["deployment"].as_str().unwrap()).collect::<Vec<_>>(), ["a", "b"]);
        let next = head.lines().find_map(|line| line.strip_prefix("mesh-next: ")).unwrap();
        let (head, body) = ask(&format!("/v1/admin/services?limit=2&cursor={}", next.replace('/', "%2F"))).await;
        assert!(body.lines().count() == 1 && !head.contains("mesh-next"), "{head} {body}");
        let (_, body) = ask("/v1/admin/audit").await;
        assert!(body.lines().count() == 3 && body.lines().all(|line| line.contains("\"number\":")), "{body}");
        assert_eq!(ask("/v1/admin/me").await.1.lines().count(), 1);
        let (head, body) = ask("/v1/admin/nodes/none").await;
        assert!(head.contains(" 404 ") && body.contains("\"error\""), "{head} {body}");
    }
}
