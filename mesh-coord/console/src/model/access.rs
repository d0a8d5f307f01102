//! Tokens, and who looks.

use mesh_model::Role;
use serde::Deserialize;

/// `GET tokens`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Tokens {
    /// The tokens.
    pub tokens: Vec<Token>,
}

/// A token, without its secret.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Token {
    /// Its identifier.
    pub id: String,
    /// `join`, `admin` or `relay`.
    pub kind: String,
    /// Its purpose, in words.
    pub scope: String,
    /// `good`, `expired`, `used up` or `revoked`.
    pub state: String,
    /// How often it can be used still.
    pub uses_left: Option<u32>,
    /// How long it is still valid.
    pub expires_seconds: u64,
    /// The runners that it enrolled.
    pub nodes: Vec<String>,
    /// A name for people.
    #[serde(default)]
    pub name: Option<String>,
}

/// `GET me`: who looks.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Me {
    /// What it may do; a coordinator without roles allows everything.
    #[serde(default)]
    pub role: Role,
    /// The team to which it is limited.
    #[serde(default)]
    pub team: Option<String>,
    /// The token; `None` at the socket.
    #[serde(default)]
    pub token: Option<String>,
    /// The name of the token.
    #[serde(default)]
    pub name: Option<String>,
}
