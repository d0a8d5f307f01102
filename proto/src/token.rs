//! Join tokens, admin tokens and runners' credentials, as text.
//!
//! A token contains the fingerprint of the coordinator's key, so that its user trusts that coordinator only. Its text is
//! `mesh1.` and base64url(fingerprint ‖ id ‖ secret), RFC 4648 §5 without padding. A token that begins with `mesh2.` also
//! contains the coordinator's URLs: 1 to 16 of them follow the secret, each after a byte with its length.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{RelayId, RunnerId, Secret, TokenId, text::as_text};

/// An invalid token, which was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseTokenError {
    /// The prefix belongs to another kind.
    #[error("this is no {expected}: it should begin with {begins}")]
    Kind {
        /// The expected kind, in words.
        expected: &'static str,
        /// The expected prefix.
        begins: &'static str,
    },
    /// The length is wrong for its kind.
    #[error("the {what} is cut short or has something added: {got} characters after the prefix, and not {expected}")]
    Length {
        /// The kind, in words.
        what: &'static str,
        /// The number of characters.
        got: usize,
        /// The expected number of characters.
        expected: usize,
    },
    /// The text after the secret is not a list of URLs.
    #[error("the {0} is cut short or damaged: the coordinator's URLs in it can't be read")]
    Urls(&'static str),
    /// There are characters outside the base64url alphabet.
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

impl FromStr for Fingerprint {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, ParseTokenError> {
        decode("fingerprint", text).map(|bytes| Self(*bytes))
    }
}

as_text!(Fingerprint);

/// The rights of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenKind {
    /// To enrol runners.
    Join,
    /// To administer over the network.
    Admin,
    /// To enrol a relay.
    Relay,
}

impl TokenKind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Join => "mesh1.",
            Self::Admin => "meshadmin1.",
            Self::Relay => "meshrelay1.",
        }
    }

    /// The prefix of tokens with URLs.
    const fn prefix_with_urls(self) -> &'static str {
        match self {
            Self::Join => "mesh2.",
            Self::Admin => "meshadmin2.",
            Self::Relay => "meshrelay2.",
        }
    }

    const fn begins(self) -> &'static str {
        match self {
            Self::Join => "`mesh1.` or `mesh2.`",
            Self::Admin => "`meshadmin1.` or `meshadmin2.`",
            Self::Relay => "`meshrelay1.` or `meshrelay2.`",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Join => "join token",
            Self::Admin => "admin token",
            Self::Relay => "relay token",
        }
    }
}

/// A join, admin or relay token.
#[derive(Debug, Clone)]
pub struct Token {
    /// Its kind.
    pub kind: TokenKind,
    /// The fingerprint of its coordinator.
    pub fingerprint: Fingerprint,
    /// Its identifier at that coordinator.
    pub id: TokenId,
    /// The secret that authenticates its holder.
    pub secret: Secret,
    /// The coordinator's URLs, `https://…`; empty in a `mesh1.` token.
    pub urls: Vec<String>,
}

/// The most URLs that a token contains.
pub const MAX_URLS: usize = 16;
/// The length of a token's fingerprint, identifier and secret, in bytes.
const FIXED: usize = 72;

impl Token {
    /// Parses a token of the given kind. Surrounding white space, such as a file's last newline, is ignored.
    ///
    /// # Errors
    /// If it is of another kind, cut off or damaged.
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

    /// The text of the token. It is secret, and goes only to standard output or over TLS.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let prefix = if self.urls.is_empty() { self.kind.prefix() } else { self.kind.prefix_with_urls() };
        self.encode(prefix, &self.urls)
    }

    /// The text without the URLs, which coordinators of every version accept.
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

/// Whether the text can be a URL. Its user will parse it.
fn is_url(text: &str) -> bool {
    text.starts_with("https://") && text.len() <= 255 && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The fixed part of a token, and its URLs.
type Parts = (Zeroizing<[u8; FIXED]>, Vec<String>);

fn decode_with_urls(what: &'static str, body: &str) -> Result<Parts, ParseTokenError> {
    // A longer text is not decoded.
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

/// A runner's credential after it has enrolled: `meshrunner1.` + base64url(id ‖ secret).
#[derive(Debug, Clone)]
pub struct Credential {
    /// The runner.
    pub runner: RunnerId,
    /// The secret that authenticates it.
    pub secret: Secret,
}

impl Credential {
    const PREFIX: &'static str = "meshrunner1.";

    /// The text of the credential, for a file of mode 0600.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        encode_credential(Self::PREFIX, self.runner.0, &self.secret)
    }
}

impl FromStr for Credential {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, ParseTokenError> {
        let kind = ParseTokenError::Kind { expected: "runner's credential", begins: "`meshrunner1.`" };
        let (id, secret) = decode_credential(kind, "runner's credential", Self::PREFIX, text)?;
        Ok(Self { runner: RunnerId(id), secret })
    }
}

/// A relay's credential after it has enrolled: `meshrelaycred1.` + base64url(id ‖ secret).
#[derive(Debug, Clone)]
pub struct RelayLogin {
    /// The relay.
    pub relay: RelayId,
    /// The secret that authenticates it.
    pub secret: Secret,
}

impl RelayLogin {
    const PREFIX: &'static str = "meshrelaycred1.";

    /// The text of the credential, for a file of mode 0600.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        encode_credential(Self::PREFIX, self.relay.0, &self.secret)
    }
}

impl FromStr for RelayLogin {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, ParseTokenError> {
        let kind = ParseTokenError::Kind { expected: "relay's credential", begins: "`meshrelaycred1.`" };
        let (id, secret) = decode_credential(kind, "relay's credential", Self::PREFIX, text)?;
        Ok(Self { relay: RelayId(id), secret })
    }
}

fn encode_credential(prefix: &str, id: u64, secret: &Secret) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(40));
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes.extend_from_slice(secret.bytes());
    Zeroizing::new(format!("{prefix}{}", BASE64URL.encode(&*bytes)))
}

fn decode_credential(
    kind: ParseTokenError,
    what: &'static str,
    prefix: &str,
    text: &str,
) -> Result<(u64, Secret), ParseTokenError> {
    let bytes = decode::<40>(what, text.trim().strip_prefix(prefix).ok_or(kind)?)?;
    let (id, secret) = bytes.split_at(8);
    Ok((u64::from_be_bytes(array(id)), Secret::from_bytes(array(secret))))
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

/// `bytes` as an array. Every caller has split off exactly `N` bytes.
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
            for kind in [TokenKind::Join, TokenKind::Admin, TokenKind::Relay] {
                let token = Token { kind, urls: urls.clone(), ..token() };
                let read = Token::parse(kind, &token.to_text()).unwrap();
                assert_eq!((read.id, &read.urls, read.to_text()), (TokenId(7), &urls, token.to_text()));
                assert_eq!(read.to_bare_text(), Token { urls: vec![], ..token }.to_text());
            }
        }
        let text = with(&["https://c:7443", "https://d:7443"]).to_text();
        for length in "mesh2.".len()..text.len() {
            // Without the second URL, the first one makes a whole token. Every other cut is noticed.
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
        let login = RelayLogin { relay: RelayId(9), secret: Secret::from_bytes([3; 32]) };
        assert_eq!(*login.to_text(), "meshrelaycred1.AAAAAAAAAAkDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw");
        let read: RelayLogin = login.to_text().parse().unwrap();
        assert_eq!(read.relay, RelayId(9));
        assert!(login.secret.hash().matches(&read.secret));
        let other = credential.to_text().parse::<RelayLogin>().unwrap_err().to_string();
        assert!(other.contains("should begin with `meshrelaycred1.`"), "{other}");
    }
}
