//! Join tokens, admin tokens and runners' credentials, as text.
//!
//! A token carries the fingerprint of the coordinator's key, so that whoever uses it trusts that coordinator and no
//! other: `mesh1.` + base64url(fingerprint ‖ id ‖ secret), RFC 4648 §5 without padding. One that begins with `mesh2.`
//! also carries where the coordinator is: 1 to 16 URLs follow the secret, each after a byte with its length.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{RunnerId, Secret, TokenId};

/// Why a token was refused before anything was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseTokenError {
    /// Another prefix than the kind asked for.
    #[error("this is no {expected}: it should begin with {begins}")]
    Kind {
        /// What was expected, in words.
        expected: &'static str,
        /// How such a one begins.
        begins: &'static str,
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
    /// What follows the secret are no URLs.
    #[error("the {0} is cut short or damaged: the coordinator's URLs in it can't be read")]
    Urls(&'static str),
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
        decode("fingerprint", &text).map(|bytes| Self(*bytes))
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

    /// How one begins that carries URLs.
    const fn prefix_with_urls(self) -> &'static str {
        match self {
            Self::Join => "mesh2.",
            Self::Admin => "meshadmin2.",
        }
    }

    const fn begins(self) -> &'static str {
        match self {
            Self::Join => "`mesh1.` or `mesh2.`",
            Self::Admin => "`meshadmin1.` or `meshadmin2.`",
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
    /// Where the coordinator is, as it says itself: `https://…`; empty in a token of the first form.
    pub urls: Vec<String>,
}

/// The most URLs that a token carries.
pub const MAX_URLS: usize = 16;
/// What every token holds: a fingerprint, an identifier, a secret; in bytes.
const FIXED: usize = 72;

impl Token {
    /// Reads a token of the given kind; white space around it (a file's last newline) is ignored.
    ///
    /// # Errors
    /// If it is of another kind, truncated or damaged.
    pub fn parse(kind: TokenKind, text: &str) -> Result<Self, ParseTokenError> {
        let text = text.trim();
        let (bytes, urls) = match text.strip_prefix(kind.prefix_with_urls()) {
            Some(body) => decode_with_urls(kind.words(), body)?,
            None => {
                let kinds = ParseTokenError::Kind { expected: kind.words(), begins: kind.begins() };
                let body = text.strip_prefix(kind.prefix()).ok_or(kinds)?;
                (decode::<FIXED>(kind.words(), body)?, Vec::new())
            }
        };
        let (fingerprint, rest) = bytes.split_at(32);
        let (id, secret) = rest.split_at(8);
        Ok(Self {
            kind,
            fingerprint: Fingerprint(array(fingerprint)),
            id: TokenId(u64::from_be_bytes(array(id))),
            secret: Secret::from_bytes(array(secret)),
            urls,
        })
    }

    /// The token as its holder keeps it. Secret: it goes to standard output or over TLS, and nowhere else.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let prefix = if self.urls.is_empty() { self.kind.prefix() } else { self.kind.prefix_with_urls() };
        self.encode(prefix, &self.urls)
    }

    /// The token without the URLs: what the coordinator is shown, whatever its version.
    #[must_use]
    pub fn to_bare_text(&self) -> Zeroizing<String> {
        self.encode(self.kind.prefix(), &[])
    }

    fn encode(&self, prefix: &str, urls: &[String]) -> Zeroizing<String> {
        let length = FIXED + urls.iter().map(|url| 1 + url.len()).sum::<usize>();
        let mut bytes = Zeroizing::new(Vec::with_capacity(length));
        bytes.extend_from_slice(&self.fingerprint.0);
        bytes.extend_from_slice(&self.id.0.to_be_bytes());
        bytes.extend_from_slice(self.secret.bytes());
        for url in urls.iter().filter(|url| is_url(url)).take(MAX_URLS) {
            bytes.push(u8::try_from(url.len()).unwrap_or(0));
            bytes.extend_from_slice(url.as_bytes());
        }
        Zeroizing::new(format!("{prefix}{}", BASE64URL.encode(&*bytes)))
    }
}

/// What may stand for a URL in a token; whether it is one, only its user can say.
fn is_url(text: &str) -> bool {
    text.starts_with("https://") && text.len() <= 255 && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The fixed part of a token, and the URLs behind it.
type Parts = (Zeroizing<[u8; FIXED]>, Vec<String>);

fn decode_with_urls(what: &'static str, body: &str) -> Result<Parts, ParseTokenError> {
    // No longer than the largest there is: nothing of an endless text is decoded.
    if body.len() > ((FIXED + MAX_URLS * 256) * 4).div_ceil(3) {
        return Err(ParseTokenError::Urls(what));
    }
    let bytes = BASE64URL.decode(body).map(Zeroizing::new).map_err(|_| ParseTokenError::Damaged(what))?;
    let (fixed, mut rest) = bytes.split_at_checked(FIXED).ok_or(ParseTokenError::Urls(what))?;
    let mut urls = Vec::new();
    while let Some((length, after)) = rest.split_first() {
        let (url, after) = after.split_at_checked(usize::from(*length)).ok_or(ParseTokenError::Urls(what))?;
        let url = str::from_utf8(url).ok().filter(|url| is_url(url)).ok_or(ParseTokenError::Urls(what))?;
        urls.push(url.to_owned());
        rest = after;
    }
    if urls.is_empty() || urls.len() > MAX_URLS {
        return Err(ParseTokenError::Urls(what));
    }
    Ok((Zeroizing::new(array(fixed)), urls))
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
        let what = "runner's credential";
        let kind = ParseTokenError::Kind { expected: what, begins: "`meshrunner1.`" };
        let bytes = decode::<40>(what, text.trim().strip_prefix(Self::PREFIX).ok_or(kind)?)?;
        let (id, secret) = bytes.split_at(8);
        Ok(Self { runner: RunnerId(u64::from_be_bytes(array(id))), secret: Secret::from_bytes(array(secret)) })
    }
}

fn decode<const N: usize>(what: &'static str, body: &str) -> Result<Zeroizing<[u8; N]>, ParseTokenError> {
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
            urls: vec![],
        }
    }

    #[test]
    fn a_token_with_urls_is_frozen_and_read_back() {
        let with = |urls: &[&str]| Token { urls: urls.iter().map(|url| (*url).to_owned()).collect(), ..token() };
        let text = with(&["https://c:7443"]).to_text();
        assert_eq!(
            *text,
            "mesh2.AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEAAAAAAAAABwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDDmh0dHBzOi8vYzo3NDQz"
        );
        let most: Vec<String> = (0..MAX_URLS).map(|n| format!("https://{n}{}", "x".repeat(240))).collect();
        for urls in [vec!["https://c:7443".to_owned(), "https://[::1]:1".to_owned()], most] {
            for kind in [TokenKind::Join, TokenKind::Admin] {
                let token = Token { kind, urls: urls.clone(), ..token() };
                let read = Token::parse(kind, &token.to_text()).unwrap();
                assert_eq!((read.id, &read.urls, read.to_text()), (TokenId(7), &urls, token.to_text()));
                assert_eq!(read.to_bare_text(), Token { urls: vec![], ..token }.to_text());
            }
        }
        let text = with(&["https://c:7443", "https://d:7443"]).to_text();
        for length in "mesh2.".len()..text.len() {
            // Where the second URL is missing altogether the first is a whole token; every other cut is noticed.
            let whole = Token::parse(TokenKind::Join, &text[..length]).is_ok_and(|read| read.urls.len() == 1);
            assert!(whole || Token::parse(TokenKind::Join, &text[..length]).is_err(), "{length}");
        }
        let raw = |tail: &[u8]| format!("mesh2.{}", BASE64URL.encode([&[1; FIXED][..], tail].concat()));
        let too_many: Vec<u8> = (0..=MAX_URLS).flat_map(|_| *b"\x09https://a").collect();
        for tail in
            [&b""[..], b"\0", b"\x09https://", b"\x08http://a", b"\x0ahttps://\xffa", b"\x0ahttps://a ", &too_many]
        {
            let error = Token::parse(TokenKind::Join, &raw(tail)).unwrap_err().to_string();
            assert!(error.contains("URLs in it can't be read"), "{tail:?}: {error}");
        }
        assert!(Token::parse(TokenKind::Join, &raw(b"\x09https://a")).is_ok());
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
            ("hello".to_owned(), "should begin with `mesh1.` or `mesh2.`"),
            (text[..50].to_owned(), "cut short"),
            (format!("{}A", *text), "something added"),
            (text.replace("AQ", "A!"), "damaged"),
            (text.replace("AQ", "é!"), "damaged"),
            (text.replace("mesh1.", "meshadmin1."), "should begin with `mesh1.` or `mesh2.`"),
            (text.replace("mesh1.", "mesh3."), "should begin with `mesh1.` or `mesh2.`"),
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
