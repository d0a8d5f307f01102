//! Numbers and addresses in arguments. Errors name what was expected, with an example.

use std::{fmt::Display, net::SocketAddr, ops::RangeInclusive, str::FromStr};

use mesh_proto::Range;

/// Parses a TCP port.
///
/// # Errors
/// If it isn't one.
pub(crate) fn port(text: &str) -> Result<u16, String> {
    within(text, "a port", 1..=u16::MAX, "443")
}

/// Parses an MTU of `mesh0`.
///
/// # Errors
/// If it isn't one.
pub(crate) fn mtu(text: &str) -> Result<u16, String> {
    within(text, "an MTU in bytes", mesh_model::limits::MTU, "1344")
}

/// Parses how many runners a token may enrol.
///
/// # Errors
/// If it isn't such a number.
pub(crate) fn uses(text: &str) -> Result<u32, String> {
    within(text, "a number of runners", mesh_model::limits::USES, "10")
}

/// Parses an address to listen on.
///
/// # Errors
/// If it isn't one.
pub(crate) fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            "`{}` is not an address with a port: write [::]:7443 for all addresses of the machine, 127.0.0.1:7443 for \
             one",
            shown(text)
        )
    })
}

/// Parses an address for readers of metrics.
///
/// # Errors
/// If it isn't one.
pub(crate) fn metrics(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("`{}` is not an address with a port: write 127.0.0.1:9743", shown(text)))
}

/// Parses a range of overlay addresses.
///
/// # Errors
/// If it isn't one.
pub(crate) fn range(text: &str) -> Result<Range, String> {
    text.parse()
        .map_err(|error| format!("`{}` is not a range of addresses ({error}): write it as 100.112.0.0/12", shown(text)))
}

fn within<T: FromStr + PartialOrd + Display>(
    text: &str,
    what: &str,
    range: RangeInclusive<T>,
    example: &str,
) -> Result<T, String> {
    text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
        format!("`{}` is not {what}: use {} to {}, as in {example}", shown(text), range.start(), range.end())
    })
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect::<String>().escape_debug().to_string()
}
