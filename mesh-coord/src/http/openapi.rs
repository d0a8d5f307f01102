//! The description of the administrators' routes: OpenAPI 3.1, made of the routes themselves.

use std::sync::LazyLock;

use axum::{
    http::{HeaderValue, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};
use utoipa::{
    PartialSchema as _, ToSchema as _,
    openapi::{
        ComponentsBuilder, InfoBuilder, OpenApi, OpenApiBuilder, PathsBuilder,
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Api, administrators, auth::Administrator, codes::Code, failure::Error, lines::LINES};

const ABOUT: &str = "What the commands of mesh-coord ask for. docs/reference/api.md says who may do what, and how \
                     paging, dry runs, Idempotency-Key and events work.";
/// The operations whose answers can have a row on each line.
const IN_LINES: [&str; 10] =
    ["nodes", "deployments", "services", "instances", "tokens", "trust_lists", "audit", "edges", "series", "refused"];
/// The name of the only way to authenticate.
const TOKEN: &str = "token";

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(openapi))
}

/// The document without its paths.
pub(super) fn frame() -> OpenApi {
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An admin token"));
    let components = ComponentsBuilder::new()
        .security_scheme(TOKEN, SecurityScheme::Http(scheme.build()))
        .schema(Error::name(), Error::schema())
        .schema(Code::name(), Code::schema());
    let info = InfoBuilder::new().title("mesh-coord").description(Some(ABOUT)).version(env!("CARGO_PKG_VERSION"));
    OpenApiBuilder::new()
        .info(info)
        .paths(PathsBuilder::new())
        .components(Some(components.build()))
        .security(Some([SecurityRequirement::new::<_, [&str; 0], &str>(TOKEN, [])]))
        .build()
}

/// This description
#[utoipa::path(get, path = "/v1/openapi.json", responses((status = 200, body = Value)))]
async fn openapi(_: Administrator) -> Response {
    static TEXT: LazyLock<String> = LazyLock::new(document);
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], TEXT.as_str()).into_response()
}

/// The whole document.
pub(crate) fn document() -> String {
    let mut document = serde_json::to_value(administrators().into_openapi()).unwrap_or_default();
    if let Some(paths) = document["paths"].as_object_mut() {
        for operations in paths.values_mut().filter_map(Value::as_object_mut) {
            operations.iter_mut().for_each(|(method, operation)| complete(method, operation));
        }
    }
    plain(&mut document);
    let text = serde_json::to_string_pretty(&document).unwrap_or_default();
    format!("{text}\n")
}

/// Adds what all operations have in common.
fn complete(method: &str, operation: &mut Value) {
    let error = json!({ "$ref": "#/components/schemas/Error" });
    operation["responses"]["default"] =
        json!({ "description": "It is refused", "content": { "application/json": { "schema": error } } });
    if method == "get" {
        if operation["operationId"].as_str().is_some_and(|id| IN_LINES.contains(&id)) {
            operation["responses"]["200"]["content"][LINES] = json!({ "schema": { "type": "string" } });
        }
        return;
    }
    let key = json!({
        "name": "Idempotency-Key",
        "in": "header",
        "description": "The same request with the same key is carried out once",
        "required": false,
        "schema": { "type": "string", "pattern": "^[!-~]{1,255}$" },
    });
    match operation["parameters"].as_array_mut() {
        Some(parameters) => parameters.push(key),
        None => operation["parameters"] = json!([key]),
    }
}

/// Takes the links of rustdoc out of descriptions.
fn plain(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(text)) = fields.get_mut("description") {
                *text = without_links(text);
            }
            fields.values_mut().for_each(plain);
        }
        Value::Array(items) => items.iter_mut().for_each(plain),
        _ => {}
    }
}

/// ``[`crate::Outcome::Planned`]`` as `Planned`.
fn without_links(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once("[`") {
        let Some((link, after)) = link.split_once("`]") else { break };
        plain.push_str(before);
        plain.push('`');
        plain.push_str(link.rsplit("::").next().unwrap_or(link));
        plain.push('`');
        rest = after;
    }
    plain + rest
}

#[cfg(test)]
mod tests;
