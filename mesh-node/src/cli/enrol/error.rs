//! Why a machine does not join as asked.

use std::{ffi::OsString, io};

use mesh_link::{ProxyParseError, UrlError};
use mesh_proto::{
    Label,
    endpoint::EndpointError,
    label::NameError,
    token::{MAX_URLS, ParseTokenError},
};

use crate::{
    config::{EXPECTED_ENDPOINT, ParseEndpointError, SeveralSeen},
    hint::Hint,
};

/// Where tokens come from.
const TOKENS: &str = "on the coordinator's machine `mesh-coord token create` makes a token and prints the whole line";

/// Why a machine does not join as asked.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum JoinError {
    #[error("the argument before the token is no URL")]
    NotAUrl,
    #[error("this machine has joined another coordinator, at {coordinator}, as {name}")]
    OtherCoordinator { coordinator: String, name: Label },
    #[error("this machine has joined as {known}, and not as {given}")]
    OtherName { known: Label, given: Label },
    #[error("this machine has joined with the provider {known}, and not with {given}")]
    OtherProvider { known: Label, given: Label },
    #[error("this machine has not joined a mesh, and there is neither a URL nor a token")]
    Nothing,
    #[error("there is no token, and none in $MESH_TOKEN")]
    NoToken,
    #[error("this token doesn't say where the coordinator is, and no URL is given")]
    NoUrl,
    #[error("the URL in the token is unusable: {0}")]
    UrlInToken(UrlError),
    #[error("cannot read the token from {place}: {error}")]
    UnreadableToken { place: String, error: io::Error },
    /// The text is no join token.
    #[error(transparent)]
    InvalidToken(#[from] ParseTokenError),
    /// A name is no label.
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("--endpoint: {0}")]
    Endpoints(#[from] SeveralSeen),
    #[error("--proxy: {0}")]
    Proxy(#[from] ProxyArgumentError),
    #[error("the host's name, {}, is unusable as a runner's name", .0.display())]
    HostName(OsString),
}

impl Hint for JoinError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotAUrl => "write https://HOST:PORT before the token, or nothing if the token begins with mesh2.",
            Self::OtherCoordinator { .. } => {
                "to join this one as well run a second agent with a --state DIR and a --listen PORT of its own; to move, leave \
                 that one first: `mesh-node leave`"
            }
            Self::OtherName { .. } => "leave --name out; to join under another name begin with a new --state DIR",
            Self::OtherProvider { .. } => {
                "leave --provider out; to join with another provider begin with a new --state DIR"
            }
            Self::Nothing | Self::NoToken => TOKENS,
            Self::NoUrl => {
                "mesh-node join https://HOST:7443 TOKEN; a token carries the URL if its coordinator was started with \
                 --advertise URL"
            }
            Self::UrlInToken(_) => "give the URL before the token",
            Self::UnreadableToken { .. } => "give it as `-` (standard input), as @FILE, or in $MESH_TOKEN",
            Self::InvalidToken(_) => "`mesh-coord token create` makes a join token; copy it whole",
            Self::Endpoints(_) => "leave one of them out; for other addresses give them as HOST:PORT",
            Self::Proxy(ProxyArgumentError::Credentials) => {
                "write it to a file of mode 600 and give --proxy @FILE, or put it into agent.proxy of the configuration"
            }
            Self::Proxy(ProxyArgumentError::Form(_)) => "--proxy http://HOST:PORT, @FILE, none or auto",
            Self::Name(_) | Self::HostName(_) => "choose one: --name NAME",
        };
        Some(hint.into())
    }
}

/// Why the first argument is no list of URLs.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlaceError {
    /// One of them is no URL.
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error("at most {MAX_URLS} URLs")]
    TooMany,
}

/// Why an argument is no endpoint.
#[derive(Debug, thiserror::Error)]
pub(super) enum EndpointArgumentError {
    #[error("{0}: {EXPECTED_ENDPOINT}")]
    Form(#[from] ParseEndpointError),
    /// No peer could use it.
    #[error("it {0}: name an address of this machine that other runners reach")]
    Unusable(#[from] EndpointError),
}

/// Why an argument is no proxy. It may hold a password and is not quoted.
#[derive(Debug, Clone, thiserror::Error)]
pub(in crate::cli) enum ProxyArgumentError {
    #[error("every user of this machine can read a password among the arguments")]
    Credentials,
    #[error(transparent)]
    Form(ProxyParseError),
}
