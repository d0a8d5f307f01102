//! The forms of names: the host names and variables of a service, and what is a host name at all.

use std::sync::LazyLock;

use super::encode::{LABEL_MAX, shell_variable, variable};

/// The longest host name as text, in bytes: 255 on the wire (RFC 1035 §2.3.4), without a length byte and the root.
const NAME_MAX: usize = 253;

/// The prefix of variables that are made from services' names.
pub(super) const PREFIX: &str = "WARP_IST_";

/// IANA's root zone. Its source and date are in the file.
static TOP_LEVEL: LazyLock<Vec<&str>> =
    LazyLock::new(|| include_str!("tlds.txt").lines().filter(|line| !line.starts_with('#')).collect());

/// Single labels of IANA's registry of special-use domain names (RFC 6761), as of 2026-11, which will never be
/// top-level domains; and our own.
const SPECIAL_USE: [&str; 9] = ["alt", "example", "internal", "invalid", "local", "localhost", "onion", "test", "warp"];

/// Why a text is not a host name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHostName {
    /// It doesn't have the form of RFC 1123 §2.1.
    #[error(
        "is not a host name: use labels of 1 to 63 letters, digits, `-` and `_`, with no `-` at either end, joined by dots, \
         248 bytes in all"
    )]
    Form,
    /// Its last label is a number.
    #[error("would be read as an IP address: let its last label be no number, in decimal, octal or hexadecimal")]
    Address,
    /// RFC 6761 §6.3.
    #[error("always means the machine itself: choose another name")]
    Localhost,
}

/// Checks that a service may have this host name, bare and with `.warp`: RFC 1123 §2.1, with `_` allowed because all
/// resolvers find it in a hosts file, without a number at its end, and not `localhost`.
///
/// # Errors
/// If it may not.
pub fn check_host_name(name: &str) -> Result<(), BadHostName> {
    let is_label = |label: &str| {
        (1..=LABEL_MAX).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() + ".warp".len() > NAME_MAX || !name.split('.').all(is_label) {
        return Err(BadHostName::Form);
    }
    let last = name.rsplit('.').next().unwrap_or(name);
    if is_number(last) {
        return Err(BadHostName::Address);
    }
    if last.eq_ignore_ascii_case("localhost") {
        return Err(BadHostName::Localhost);
    }
    Ok(())
}

/// Whether programs read a name that ends in this label as a number or an address: inet_aton(3), which accepts one to
/// four decimal, octal or hexadecimal numbers, or the URL standard ("ends in a number"), by which even `db.010` is an
/// invalid address.
#[must_use]
pub fn is_number(label: &str) -> bool {
    match label.strip_prefix("0x").or_else(|| label.strip_prefix("0X")) {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_hexdigit()),
        None => !label.is_empty() && label.bytes().all(|b| b.is_ascii_digit()),
    }
}

/// The host names of a service within its deployment. Messages use the first one.
pub(super) fn own_hosts(label: &str, deployment: &str) -> impl Iterator<Item = String> {
    // A service may be named `localhost`, but the short name means the machine itself.
    let short = (label != "localhost").then(|| label.to_owned());
    [format!("{label}.warp")]
        .into_iter()
        .chain(short)
        .chain([format!("{label}.{deployment}.warp"), format!("{label}.{deployment}")])
}

/// The host names of an alias.
pub(super) fn alias_hosts(alias: &str) -> impl Iterator<Item = String> {
    declared_hosts(alias).into_iter().flat_map(|name| in_any_case(&name))
}

/// The same as declared, for comparisons without regard to case.
pub(super) fn declared_hosts(alias: &str) -> [String; 2] {
    [alias.to_owned(), format!("{alias}.warp")]
}

/// A host name in lower case and as declared, because some resolvers (musl's) distinguish case.
pub(super) fn in_any_case(name: &str) -> impl Iterator<Item = String> + use<> {
    let lower = name.to_ascii_lowercase();
    let declared = (lower != name).then(|| name.to_owned());
    [lower].into_iter().chain(declared)
}

/// The host names of a service in other deployments that may call it.
pub(super) fn foreign_hosts(label: &str, deployment: &str) -> impl Iterator<Item = String> {
    // A deployment `com` must not capture `github.com`.
    let dotted = (!is_reserved(deployment)).then(|| format!("{label}.{deployment}"));
    let joined = format!("{deployment}-{label}");
    let joined = (joined.len() <= LABEL_MAX).then_some(joined);
    [format!("{label}.{deployment}.warp")].into_iter().chain(dotted).chain(joined)
}

/// The variables of a service with this name: one if shells accept it as it is, otherwise two.
pub(super) fn variables(name: &str) -> impl Iterator<Item = String> {
    let (plain, shell) = (variable(name), shell_variable(name));
    let shell = (shell != plain).then_some(shell);
    [plain].into_iter().chain(shell).map(|name| format!("{PREFIX}{name}"))
}

/// Whether names that end in `.label` belong to others: a top-level domain, or a special-use name. In lower case.
#[must_use]
pub fn is_reserved(label: &str) -> bool {
    TOP_LEVEL.binary_search(&label).is_ok() || SPECIAL_USE.contains(&label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_level_domains_and_special_use_names_are_reserved() {
        assert!(TOP_LEVEL.is_sorted() && TOP_LEVEL.len() > 1400);
        for label in ["com", "de", "zw", "aaa", "arpa", "xn--fiqs8s", "shop", "local", "localhost", "onion", "warp"] {
            assert!(is_reserved(label), "{label}");
        }
        for label in ["billing", "api", "co-m", "acme", "c"] {
            assert!(!is_reserved(label), "{label}");
        }
    }

    #[test]
    fn host_names_are_of_rfc_1123() {
        let label = "x".repeat(63);
        let longest = [&*label, &*label, &*label, &"y".repeat(56)].join(".");
        assert_eq!(longest.len(), 248);
        for good in [
            "mysql",
            "MySQL.Local",
            "3com.example",
            "a-b.c-d",
            "1.a",
            "my_sql",
            "_x_.local",
            "0xg",
            "db.x1f",
            "1e5",
            &longest,
            "localhost.db",
            "xn--caf-dma",
        ] {
            assert_eq!(check_host_name(good), Ok(()), "{good}");
        }
        let (long_label, long_name) = ("x".repeat(64), format!("z{longest}"));
        for bad in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "-a",
            "a-",
            "a.-b",
            "my sql",
            "é",
            "a/b",
            "a\nb",
            "*",
            &long_label,
            &long_name,
        ] {
            assert_eq!(check_host_name(bad), Err(BadHostName::Form), "{bad:?}");
        }
        for address in [
            "1.2.3.4", "127", "db.5432", "10", "017", "08", "0x1f", "0X1F", "0x", "1.2", "0x7f.1", "1.0x7f", "010.1",
            "10.42", "db.0x1f",
        ] {
            assert_eq!(check_host_name(address), Err(BadHostName::Address), "{address}");
        }
        for machine in ["localhost", "LocalHost", "db.localhost"] {
            assert_eq!(check_host_name(machine), Err(BadHostName::Localhost), "{machine}");
        }
    }

    #[test]
    fn a_service_has_these_names() {
        let own = |label| own_hosts(label, "shop").collect::<Vec<_>>();
        assert_eq!(own("db"), ["db.warp", "db", "db.shop.warp", "db.shop"]);
        assert_eq!(own("localhost"), ["localhost.warp", "localhost.shop.warp", "localhost.shop"]);
        let foreign = |label, deployment| foreign_hosts(label, deployment).collect::<Vec<_>>();
        assert_eq!(foreign("db", "api"), ["db.api.warp", "db.api", "api-db"]);
        assert_eq!(foreign("github", "com"), ["github.com.warp", "com-github"]);
        assert_eq!(
            foreign(&"x".repeat(60), "api"),
            [format!("{}.api.warp", "x".repeat(60)), format!("{}.api", "x".repeat(60))]
        );
        assert_eq!(variables("my_db").collect::<Vec<_>>(), ["WARP_IST_my_db"]);
        assert_eq!(variables("a-b_my db").collect::<Vec<_>>(), ["WARP_IST_a-b_my_db", "WARP_IST_a_b_my_db"]);
    }
}
