//! Connections to a coordinator: TLS pinned to its key, and one HTTP request at a time over it or over its Unix
//! socket. The agent and the coordinator's command line use it, as the only clients of the API.

mod http;
mod pin;
mod proxy;
mod race;
mod url;

pub use http::{Method, RequestError, request};
pub use pin::{LinkError, Stream, connect, connect_any, fingerprint_of};
pub use url::{Url, UrlError};
