//! The system's randomness: for keys, secrets and epochs.

use anyhow::{Context as _, Result};
use mesh_proto::{Epoch, Secret};
use zeroize::Zeroizing;

/// Fills `bytes` with random ones.
///
/// # Errors
/// If the system has no randomness to give.
pub(crate) fn fill(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).context("the system returns no random bytes")
}

/// A new secret.
///
/// # Errors
/// If the system has no randomness to give.
pub(crate) fn secret() -> Result<Secret> {
    let mut bytes = Zeroizing::new([0; 32]);
    fill(&mut *bytes)?;
    Ok(Secret::from_bytes(*bytes))
}

/// The epoch of a new life of the coordinator.
///
/// # Errors
/// If the system has no randomness to give.
pub(crate) fn epoch() -> Result<Epoch> {
    let mut bytes = [0; 16];
    fill(&mut bytes)?;
    Ok(Epoch(bytes))
}
