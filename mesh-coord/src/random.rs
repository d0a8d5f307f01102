//! Random keys, secrets and epochs, from the system's generator.

use anyhow::{Context as _, Result};
use mesh_proto::{Epoch, Secret};
use zeroize::Zeroizing;

/// Fills `bytes` with random bytes.
///
/// # Errors
/// If the system's generator fails.
pub(crate) fn fill(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).context("the system returns no random bytes")
}

/// A new secret.
///
/// # Errors
/// If the system's generator fails.
pub(crate) fn secret() -> Result<Secret> {
    let mut bytes = Zeroizing::new([0; 32]);
    fill(&mut *bytes)?;
    Ok(Secret::from_bytes(*bytes))
}

/// A new epoch.
///
/// # Errors
/// If the system's generator fails.
pub(crate) fn epoch() -> Result<Epoch> {
    let mut bytes = [0; 16];
    fill(&mut bytes)?;
    Ok(Epoch(bytes))
}

/// A number.
///
/// # Errors
/// If the system's generator fails.
pub(crate) fn number() -> Result<u64> {
    let mut bytes = [0; 8];
    fill(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}
