//! How texts are described in the OpenAPI document: the types that are written as text, each with its pattern.

use std::borrow::Cow;

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, schema::Type},
};

use crate::{
    DeploymentId, InstanceId, Label, RelayId, Release, RunnerId, ServiceId, ServiceName, ServicePath, TokenId,
    relay::Place, token::Fingerprint,
};

/// A text, with a regular expression that all valid ones match.
#[must_use]
pub fn text(about: &str, pattern: &str, example: &str) -> RefOr<Schema> {
    let text = ObjectBuilder::new().schema_type(Type::String).description(Some(about)).pattern(Some(pattern));
    RefOr::T(Schema::Object(text.examples([example]).build()))
}

macro_rules! texts {
    ($($type:ident: $about:literal, $pattern:expr, $example:literal;)*) => {$(
        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                text($about, $pattern, $example)
            }
        }

        impl ToSchema for $type {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed(stringify!($type))
            }
        }
    )*};
}

texts! {
    Label: "A lower-case DNS label, and not `localhost`", "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", "shop";
    ServiceName: "A service's name, of at most 255 bytes", r"^[^/\u0000-\u001f\u007f-\u009f]{1,255}$", "db";
    ServicePath: "DEPLOYMENT/SERVICE", r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[^/\u0000-\u001f\u007f-\u009f]{1,255}$", "shop/db";
    Release: "A release, compared for equality only", "^[A-Za-z0-9._+:/@-]{1,128}$", "1.4.2";
    RunnerId: "A runner's identifier", "^r-[0-9]+$", "r-7";
    DeploymentId: "A deployment's identifier", "^d-[0-9]+$", "d-7";
    ServiceId: "A service's identifier", "^s-[0-9]+$", "s-7";
    InstanceId: "An instance's identifier", "^i-[0-9]+$", "i-7";
    TokenId: "A token's identifier", "^t-[0-9]+$", "t-7";
    RelayId: "A relay's identifier", "^relay-[0-9]+$", "relay-7";
    Fingerprint: "SHA-256 of a TLS key, in base64url", "^[A-Za-z0-9_-]{43}$", "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";
    Place: "A host or an address, with a port", "^.+:[0-9]{1,5}$", "relay.example.net:3478";
}
