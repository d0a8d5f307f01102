//! Encodes a service's name, which may be almost any text, as a host label and as names of environment variables.

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use unicode_normalization::UnicodeNormalization;

use crate::ServiceName;

/// The longest label of a host name, in bytes (RFC 1035 §2.3.4).
pub(super) const LABEL_MAX: usize = 63;

/// Why a service's name has no host name.
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
    /// Its host name would be longer than a label.
    #[error("its host name would be {0} bytes long, and {LABEL_MAX} is the most")]
    TooLong(usize),
}

/// The one-label host name of a service: NFC; IDNA (UTS 46, non-transitional, no STD3 restriction, hyphen and length
/// checks off) to Punycode; lower case; everything but a-z and 0-9 becomes `-`; trailing `-` removed.
///
/// # Errors
/// If IDNA refuses the name, or the result is no label of a host name (RFC 1123 §2.1).
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
        length if length > LABEL_MAX => Err(HostNameError::TooLong(length)),
        _ => Ok(label),
    }
}

/// What follows `WARP_IST_` in the variable of a service (or of `DEPLOYMENT_SERVICE`): NFC; Lucene's ASCII folding;
/// if the result is not ASCII, Punycode (RFC 3492) of all of it; spaces and `=` become `_`. It need not be an
/// identifier.
#[must_use]
pub fn variable(name: &str) -> String {
    let composed: String = name.nfc().collect();
    let folded = asciifolding::fold_to_ascii(&composed);
    let ascii = match folded.is_ascii() {
        true => folded,
        // Punycode overflows only beyond some thousand characters, which no name has. Even then this returns a name
        // instead of panicking.
        false => idna::punycode::encode_str(&folded)
            .unwrap_or_else(|| folded.chars().map(|c| if c.is_ascii() { c } else { '_' }).collect()),
    };
    ascii.replace([' ', '='], "_")
}

/// Like [`variable`], with everything but letters and digits replaced by `_`, so that with `WARP_IST_` it is always
/// an identifier.
#[must_use]
pub fn shell_variable(name: &str) -> String {
    variable(name).chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// Whether shells accept `name` as a variable: `[A-Za-z_][A-Za-z0-9_]*` (POSIX.1-2024 §3.216).
#[must_use]
pub fn is_identifier(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.bytes().next().is_some_and(|b| !b.is_ascii_digit())
}

#[cfg(test)]
mod tests;
