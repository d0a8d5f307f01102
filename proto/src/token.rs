//! Join tokens, admin tokens and runners' credentials, as text.
//!
//! A token carries the fingerprint of the coordinator's key, so that whoever uses it trusts that coordinator and no
//! other: `mesh1.` + base64url(fingerprint ‖ id ‖ secret), RFC 4648 §5 without padding.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{RunnerId, Secret, TokenId};

/// Why a token was refused before anything was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseTokenError {
    /// Another prefix than the kind asked for.
    #[error("this is no {expected}: it should begin with `{prefix}`")]
    Kind {
        /// What was expected, in words.
        expected: &'static str,
        /// How such a one begins.
        prefix: &'static str,
    },
    /// Not as long as every one of its kind.
    #[error("the {what} is cut short or has something added: {got} characters after the prefix, and not {expected}")]
    Length {
        /// What it should have been, in words.
        what: &'static str,
        /// How many characters there are.
        got: usize,
        /// How many there should be.
        expected: usize,
    },
    /// Characters outside the base64url alphabet.
    #[error("the {0} is damaged: it holds a character that no {0} has")]
    Damaged(&'static str),
}

/// SHA-256 of the SubjectPublicKeyInfo (RFC 5280 §4.1) in the coordinator's certificate.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL.encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = ParseTokenError;

    fn try_from(text: String) -> Result<Self, ParseTokenError> {
        decode("", "fingerprint", &text).map(|bytes| Self(*bytes))
    }
}

/// What a token lets its holder do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenKind {
    /// Enrol runners.
    Join,
    /// Administer from afar.
    Admin,
}

impl TokenKind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Join => "mesh1.",
            Self::Admin => "meshadmin1.",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Join => "join token",
            Self::Admin => "admin token",
        }
    }
}

/// A join or admin token.
#[derive(Debug, Clone)]
pub struct Token {
    /// What it is for.
    pub kind: TokenKind,
    /// Whose token it is.
    pub fingerprint: Fingerprint,
    /// Which of that coordinator's tokens.
    pub id: TokenId,
    /// What shows that the holder was given it.
    pub secret: Secret,
}

impl Token {
    /// Reads a token of the given kind; white space around it (a file's last newline) is ignored.
    ///
    /// # Errors
    /// If it is of another kind, truncated or damaged.
    pub fn parse(kind: TokenKind, text: &str) -> Result<Self, ParseTokenError> {
        let bytes = decode::<72>(kind.prefix(), kind.words(), text.trim())?;
        let (fingerprint, rest) = bytes.split_at(32);
        let (id, secret) = rest.split_at(8);
        Ok(Self {
            kind,
            fingerprint: Fingerprint(array(fingerprint)),
            id: TokenId(u64::from_be_bytes(array(id))),
            secret: Secret::from_bytes(array(secret)),
        })
    }

    /// The token as its holder keeps it. Secret: it goes to standard output or over TLS, and nowhere else.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(72));
        bytes.extend_from_slice(&self.fingerprint.0);
        bytes.extend_from_slice(&self.id.0.to_be_bytes());
        bytes.extend_from_slice(self.secret.bytes());
        Zeroizing::new(format!("{}{}", self.kind.prefix(), BASE64URL.encode(&*bytes)))
    }
}

/// What a runner shows the coordinator after it has enrolled: `meshrunner1.` + base64url(id ‖ secret).
#[derive(Debug, Clone)]
pub struct Credential {
    /// Whose it is.
    pub runner: RunnerId,
    /// What shows it.
    pub secret: Secret,
}

impl Credential {
    const PREFIX: &'static str = "meshrunner1.";

    /// The credential as the runner keeps it, in a file of mode 0600.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(40));
        bytes.extend_from_slice(&self.runner.0.to_be_bytes());
        bytes.extend_from_slice(self.secret.bytes());
        Zeroizing::new(format!("{}{}", Self::PREFIX, BASE64URL.encode(&*bytes)))
    }
}

impl FromStr for Credential {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, ParseTokenError> {
        let bytes = decode::<40>(Self::PREFIX, "runner's credential", text.trim())?;
        let (id, secret) = bytes.split_at(8);
        Ok(Self { runner: RunnerId(u64::from_be_bytes(array(id))), secret: Secret::from_bytes(array(secret)) })
    }
}

fn decode<const N: usize>(
    prefix: &'static str,
    what: &'static str,
    text: &str,
) -> Result<Zeroizing<[u8; N]>, ParseTokenError> {
    let body = text.strip_prefix(prefix).ok_or(ParseTokenError::Kind { expected: what, prefix })?;
    let (got, expected) = (body.chars().count(), (N * 4).div_ceil(3));
    if got != expected {
        return Err(ParseTokenError::Length { what, got, expected });
    }
    let mut bytes = Zeroizing::new([0; N]);
    match BASE64URL.decode_slice(body, &mut *bytes) {
        Ok(n) if n == N => Ok(bytes),
        _ => Err(ParseTokenError::Damaged(what)),
    }
}

/// `bytes` as an array; every caller has split off just `N` octets.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(bytes);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token {
            kind: TokenKind::Join,
            fingerprint: Fingerprint([1; 32]),
            id: TokenId(7),
            secret: Secret::from_bytes([3; 32]),
        }
    }

    #[test]
    fn a_token_is_frozen_and_read_back() {
        let text = token().to_text();
        assert_eq!(
            *text,
            "mesh1.AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEAAAAAAAAABwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMD"
        );
        let read = Token::parse(TokenKind::Join, &format!(" {}\n", *text)).unwrap();
        assert_eq!((read.id, read.fingerprint), (TokenId(7), Fingerprint([1; 32])));
        assert!(token().secret.hash().matches(&read.secret));
    }

    #[test]
    fn what_is_wrong_with_a_token_is_said() {
        let text = token().to_text();
        let cases = [
            ("hello".to_owned(), "should begin with `mesh1.`"),
            (text[..50].to_owned(), "cut short"),
            (format!("{}A", *text), "something added"),
            (text.replace("AQ", "A!"), "damaged"),
            (text.replace("AQ", "é!"), "damaged"),
            (text.replace("mesh1.", "meshadmin1."), "should begin with `mesh1.`"),
        ];
        for (bad, why) in cases {
            let error = Token::parse(TokenKind::Join, &bad).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
            assert!(!error.contains("AwMD"), "the secret is in the error");
        }
        assert!(!format!("{:?}", token()).contains("3, 3"));
    }

    #[test]
    fn a_credential_is_read_back() {
        let credential = Credential { runner: RunnerId(9), secret: Secret::from_bytes([3; 32]) };
        let read: Credential = credential.to_text().parse().unwrap();
        assert_eq!(read.runner, RunnerId(9));
        assert!(credential.secret.hash().matches(&read.secret));
    }
}
