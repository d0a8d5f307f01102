//! The agent's socket: one JSON request and one JSON answer per connection, file descriptors with the request. The agent serves it;
//! every way in is a client of it.

mod answer;
mod client;
mod codec;
mod error;
mod metrics;
mod reach;
mod relay;
mod request;
mod server;
pub(crate) mod target;

pub(crate) use answer::*;
pub(crate) use client::Client;
pub(crate) use error::{ClientError, ListenError, RequestError, TargetError};
pub(crate) use mesh_lifecycle::{ContainerId, NamespacePlace};
pub(crate) use metrics::Metrics;
pub(crate) use reach::{Netcheck, Ping};
pub(crate) use relay::{Millis, PortMapping, Relay};
pub(crate) use request::Request;
pub(crate) use server::{Call, serve};

#[cfg(test)]
mod tests;
