//! Signed messages, as Standard Webhooks has them: the receiver checks them with any of its libraries.

use std::{fmt, path::Path, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use axum::body::Bytes;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, Mac as _};
use mesh_model::record;
use serde::Serialize;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::api::{AuditEntry, VERSION};

/// The least bytes of a secret.
const LEAST: usize = 24;
/// What a secret in base64 begins with.
const PREFIX: &str = "whsec_";

/// A message.
#[derive(Serialize)]
struct Message {
    version: u32,
    /// The oldest first.
    audit: Vec<AuditEntry>,
}

/// The identifier and the body of a message. The same entries always make the same message.
pub(super) fn of(batch: &[Arc<record::Audit>]) -> (String, Bytes) {
    let number = |entry: Option<&Arc<record::Audit>>| entry.map_or(0, |entry| entry.number);
    let id = format!("audit-{}-{}", number(batch.first()), number(batch.last()));
    let audit = batch.iter().map(|entry| AuditEntry::from((**entry).clone())).collect();
    let body = serde_json::to_vec(&Message { version: VERSION, audit }).unwrap_or_default();
    (id, body.into())
}

/// The secret that the receiver knows too.
pub(crate) struct Key(Zeroizing<Vec<u8>>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// Reads the secret of a file: `whsec_` and base64, or a text that is used as it is.
///
/// # Errors
/// If it can't be read, or is too short.
pub(crate) fn read_key(path: &Path) -> Result<Key> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("the webhook's secret {shown} cannot be read"))?;
    let text = Zeroizing::new(text);
    let bytes = match text.trim().strip_prefix(PREFIX) {
        Some(coded) => {
            BASE64_STANDARD.decode(coded).with_context(|| format!("{shown}: {PREFIX} is not followed by base64"))?
        }
        None => text.trim().as_bytes().to_vec(),
    };
    let bytes = Zeroizing::new(bytes);
    ensure!(
        bytes.len() >= LEAST,
        "the secret in {shown} has {} bytes, and {LEAST} is the least: make one with `openssl rand -base64 32`",
        bytes.len()
    );
    Ok(Key(bytes))
}

impl Key {
    /// The headers of a message that is sent at this time.
    pub(super) fn sign(&self, id: &str, at: u64, body: &[u8]) -> [(&'static str, String); 3] {
        // HMAC takes keys of any length.
        let signature = Hmac::<Sha256>::new_from_slice(&self.0).ok().map(|mut hmac| {
            hmac.update(format!("{id}.{at}.").as_bytes());
            hmac.update(body);
            BASE64_STANDARD.encode(hmac.finalize().into_bytes())
        });
        [
            ("webhook-id", id.to_owned()),
            ("webhook-timestamp", at.to_string()),
            ("webhook-signature", format!("v1,{}", signature.unwrap_or_default())),
        ]
    }
}
