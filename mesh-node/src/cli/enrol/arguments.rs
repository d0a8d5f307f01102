//! Arguments of `join` and `up`, as they are parsed.

use mesh_link::{Url, UrlError};
use mesh_process::secrets::TokenArgument;
use mesh_proto::{endpoint, token::MAX_URLS};

use super::{
    super::error::Expected,
    error::{EndpointArgumentError, PlaceError},
};
use crate::config::Endpoint;

/// The first argument: URLs, or the token if nothing follows it.
#[derive(Debug, Clone)]
pub(super) enum Place {
    Urls(Vec<Url>),
    Token(TokenArgument),
}

impl Place {
    pub(super) fn parse(text: &str) -> Result<Self, PlaceError> {
        // A path may hold any character; a token holds neither of these.
        if text.starts_with('@') || text == "-" || !text.contains([':', '/']) {
            return Ok(Self::Token(TokenArgument::of(text)));
        }
        let urls: Vec<Url> = text.split(',').map(str::parse).collect::<Result<_, UrlError>>()?;
        if urls.len() > MAX_URLS { Err(PlaceError::TooMany) } else { Ok(Self::Urls(urls)) }
    }
}

#[derive(Debug, Clone)]
pub(super) enum EndpointArgument {
    Auto,
    One(Endpoint),
}

pub(super) fn parse_port(text: &str) -> Result<u16, Expected> {
    text.parse().map_err(|_| Expected::Port)
}

pub(super) fn parse_yes(text: &str) -> Result<bool, Expected> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err(Expected::YesOrNo),
    }
}

impl EndpointArgument {
    /// What no peer could use is refused here, before a token is spent on it.
    pub(super) fn parse(text: &str) -> Result<Self, EndpointArgumentError> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let endpoint: Endpoint = text.parse()?;
        if let Endpoint::At(address) = endpoint {
            endpoint::check(address, None)?;
        }
        Ok(Self::One(endpoint))
    }
}
