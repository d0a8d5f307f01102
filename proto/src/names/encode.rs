//! From a service's name, which may be almost any text, to a host label and to the names of environment variables.

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use unicode_normalization::UnicodeNormalization;

use crate::ServiceName;

/// The longest label of a host name, in octets (RFC 1035 §2.3.4).
pub(super) const LABEL_MAX: usize = 63;

/// Why a service's name gives no host name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostNameError {
    /// UTS 46 has no ASCII form for it.
    #[error(
        "IDNA refuses it: a broken `xn--` label, a mix of writing directions, or a character that no host name may hold"
    )]
    Idna,
    /// It has neither letters nor digits.
    #[error("it holds neither a letter nor a digit")]
    Empty,
    /// Its host name would begin with `-`.
    #[error("its host name would be `{0}`, with a leading `-`")]
    LeadingHyphen(String),
    /// Its host name would be longer than a label can be.
    #[error("its host name would be {0} octets long, and {LABEL_MAX} is the most")]
    TooLong(usize),
}

/// The host name, one label, made from a service's name: NFC; IDNA (UTS 46, non-transitional, no STD3 restriction,
/// hyphen and length checks off) to Punycode; lower case; everything but a-z and 0-9 becomes `-`; trailing `-` removed.
///
/// # Errors
/// If IDNA refuses the name, or what comes out is no label of a host name (RFC 1123 §2.1).
pub fn host_label(name: &ServiceName) -> Result<String, HostNameError> {
    let name: String = name.nfc().collect();
    let ascii = Uts46::new()
        .to_ascii(name.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow, DnsLength::Ignore)
        .map_err(|_| HostNameError::Idna)?;
    let mut label: String = ascii
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
        .collect();
    label.truncate(label.trim_end_matches('-').len());
    match label.len() {
        0 => Err(HostNameError::Empty),
        _ if label.starts_with('-') => Err(HostNameError::LeadingHyphen(label)),
        octets if octets > LABEL_MAX => Err(HostNameError::TooLong(octets)),
        _ => Ok(label),
    }
}

/// What follows `WARP_IST_` in the variable of a service (or of `DEPLOYMENT_SERVICE`): NFC; Lucene's ASCII folding; if
/// that leaves anything beyond ASCII, Punycode (RFC 3492) of the folded whole; spaces and `=` become `_`. It holds no
/// space and no `=`, but need not be an identifier.
#[must_use]
pub fn variable(name: &str) -> String {
    let composed: String = name.nfc().collect();
    let folded = asciifolding::fold_to_ascii(&composed);
    let ascii = match folded.is_ascii() {
        true => folded,
        // Punycode overflows from some thousand characters on only, which no name has. Even then: a name, not a panic.
        false => idna::punycode::encode_str(&folded)
            .unwrap_or_else(|| folded.chars().map(|c| if c.is_ascii() { c } else { '_' }).collect()),
    };
    ascii.replace([' ', '='], "_")
}

/// As [`variable`], with everything that is neither letter nor digit replaced by `_`: behind `WARP_IST_` always an
/// identifier.
#[must_use]
pub fn shell_variable(name: &str) -> String {
    variable(name).chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// Whether a shell takes `name` as the name of a variable: `[A-Za-z_][A-Za-z0-9_]*` (POSIX.1-2024 §3.216).
#[must_use]
pub fn is_identifier(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.bytes().next().is_some_and(|b| !b.is_ascii_digit())
}

#[cfg(test)]
mod tests;
