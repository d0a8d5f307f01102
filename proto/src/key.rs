//! Keys and secrets. No code here prints a secret, or compares secrets in variable time.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use x25519_dalek::StaticSecret;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::text::as_text;

/// A text that is not 32 bytes in base64.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a key: expected 32 bytes in base64 (44 characters)")]
pub struct ParseKeyError;

fn parse_32(text: &str) -> Result<[u8; 32], ParseKeyError> {
    BASE64.decode(text).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(ParseKeyError)
}

/// Writes and reads 32 bytes in base64, and hides them in debug output.
macro_rules! as_base64 {
    ($name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                BASE64.encode(value.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseKeyError;

            fn try_from(text: String) -> Result<Self, ParseKeyError> {
                parse_32(&text).map(Self)
            }
        }
    };
}

/// A WireGuard public key: X25519, base64 in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PublicKey(pub [u8; 32]);

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.0))
    }
}

impl FromStr for PublicKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        parse_32(text).map(Self)
    }
}

as_text!(PublicKey);

/// An X25519 private key. It never leaves the machine that made it, so it has neither serde nor `Display`.
#[derive(Clone)]
pub struct PrivateKey(StaticSecret);

impl PrivateKey {
    /// A key from 32 random bytes of the system (clamped when used, RFC 7748 §5).
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(StaticSecret::from(bytes))
    }

    /// Parses the text of [`Self::to_file_text`].
    ///
    /// # Errors
    /// If the text isn't 32 bytes in base64.
    pub fn from_file_text(text: &str) -> Result<Self, ParseKeyError> {
        parse_32(text.trim()).map(Self::from_bytes)
    }

    /// The key in base64, only for a file of mode 0600.
    #[must_use]
    pub fn to_file_text(&self) -> String {
        BASE64.encode(self.0.as_bytes())
    }

    /// The key's bytes, for the tunnel.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(x25519_dalek::PublicKey::from(&self.0).to_bytes())
    }

    /// Proves to the holder of the private key of `theirs` that we hold this key, for this `purpose` only: SHA-256
    /// over the Diffie-Hellman result (RFC 7748 §6.1) and what it is bound to. `None` for a key of low order.
    #[must_use]
    pub fn prove(&self, theirs: PublicKey, purpose: &[u8]) -> Option<Proof> {
        self.digest(theirs, self.public(), purpose).map(Proof)
    }

    /// Whether the holder of the private key of `theirs` made `proof` for `purpose`. Takes constant time.
    #[must_use]
    pub fn verify(&self, theirs: PublicKey, purpose: &[u8], proof: &Proof) -> bool {
        self.digest(theirs, theirs, purpose).is_some_and(|expected| bool::from(expected.ct_eq(&proof.0)))
    }

    fn digest(&self, theirs: PublicKey, prover: PublicKey, purpose: &[u8]) -> Option<[u8; 32]> {
        let shared = self.0.diffie_hellman(&x25519_dalek::PublicKey::from(theirs.0));
        shared.was_contributory().then(|| {
            Sha256::new()
                .chain_update(b"mesh proof of possession 1")
                .chain_update(shared.as_bytes())
                .chain_update(prover.0)
                .chain_update((purpose.len() as u64).to_be_bytes())
                .chain_update(purpose)
                .finalize()
                .into()
        })
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// A proof that a runner holds the private key of the public key that it enrols with.
#[derive(Clone, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Proof([u8; 32]);

as_base64!(Proof);

/// 32 random bytes that authenticate the holder of a token or a credential.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; 32]);

impl Secret {
    /// A secret from 32 random bytes of the system.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The hash that the coordinator keeps instead of the secret. The secret is 256 random bits, so one SHA-256 is
    /// enough.
    #[must_use]
    pub fn hash(&self) -> SecretHash {
        SecretHash(Sha256::digest(self.0).into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The SHA-256 of a [`Secret`].
#[derive(Clone, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// Whether this is the hash of `secret`. Takes constant time.
    #[must_use]
    pub fn matches(&self, secret: &Secret) -> bool {
        self.0.ct_eq(&secret.hash().0).into()
    }
}

/// In constant time.
impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SecretHash {}

as_base64!(SecretHash);

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> PrivateKey {
        PrivateKey::from_bytes([seed; 32])
    }

    #[test]
    fn a_proof_holds_for_its_key_its_verifier_and_its_purpose_only() {
        let (runner, coordinator, other) = (key(1), key(2), key(3));
        let proof = runner.prove(coordinator.public(), b"t-1").unwrap();
        assert!(coordinator.verify(runner.public(), b"t-1", &proof));
        assert!(!coordinator.verify(runner.public(), b"t-2", &proof));
        assert!(!coordinator.verify(other.public(), b"t-1", &proof));
        assert!(!other.verify(runner.public(), b"t-1", &proof));
        // The verifier's own proof for the same pair differs from the prover's, so it can't be reflected.
        let reflected = coordinator.prove(runner.public(), b"t-1").unwrap();
        assert!(!coordinator.verify(runner.public(), b"t-1", &reflected));
    }

    #[test]
    fn a_key_of_low_order_proves_nothing() {
        assert!(key(1).prove(PublicKey([0; 32]), b"x").is_none());
        assert!(!key(1).verify(PublicKey([0; 32]), b"x", &Proof([0; 32])));
    }

    #[test]
    fn secrets_are_not_printed() {
        let secret = Secret::from_bytes([7; 32]);
        let texts = [
            format!("{secret:?}"),
            format!("{:?}", secret.hash()),
            format!("{:?}", key(7)),
            format!("{:?}", key(7).prove(key(8).public(), b"")),
        ];
        assert_eq!(texts, ["Secret(..)", "SecretHash(..)", "PrivateKey(..)", "Some(Proof(..))"]);
    }

    #[test]
    fn a_hash_matches_its_secret_only() {
        let hash = Secret::from_bytes([7; 32]).hash();
        assert!(hash.matches(&Secret::from_bytes([7; 32])) && !hash.matches(&Secret::from_bytes([8; 32])));
        assert_eq!(SecretHash::try_from(String::from(hash.clone())).unwrap(), hash);
    }

    #[test]
    fn keys_are_read_back_from_base64() {
        let public = key(9).public();
        assert_eq!(public.to_string().parse::<PublicKey>().unwrap(), public);
        assert_eq!(PrivateKey::from_file_text(&(key(9).to_file_text() + "\n")).unwrap().public(), public);
        for bad in ["", "AAAA", "!".repeat(44).as_str()] {
            assert_eq!(bad.parse::<PublicKey>(), Err(ParseKeyError));
        }
    }
}
