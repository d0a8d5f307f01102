//! The agent's own socket: one JSON request and one JSON answer a connection, descriptors beside the request. The command
//! line is a client of it like any other.

mod answer;
mod client;
mod codec;
mod container_id;
mod request;
mod server;
pub(crate) mod target;

pub(crate) use answer::*;
pub(crate) use client::Client;
pub(crate) use container_id::ContainerId;
pub(crate) use request::{NamespacePlace, Request};
pub(crate) use server::{Call, serve};

#[cfg(test)]
mod tests;
