//! Connections to a coordinator: TLS pinned to its key, and one HTTP request at a time over it or over its Unix
//! socket. The agent and the coordinator's command line use it, as the only clients of the API. Also connections to
//! relays, by TCP and TLS. Both kinds go through an HTTP proxy where one applies.

mod carrier;
mod connect;
mod dial;
mod http;
#[cfg(test)]
mod lab;
mod pin;
mod place;
mod proxy;
mod race;
mod url;
mod wire;

pub use carrier::{Carrier, CarrierError, Duplex, Via, carrier, stream};
pub use connect::{LinkError, Stream, connect, connect_any};
pub use http::{Method, RequestError, request, upgrade};
pub use pin::fingerprint_of;
pub use proxy::{Proxies, Proxy, ProxyChoice, ProxyError, ProxyParseError, ProxyTrouble};
pub use url::{Url, UrlError, percent_encoded};
pub use wire::{Sent, Wire};
