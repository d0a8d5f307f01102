//! Proxies are not used. If a direct connection fails, the error mentions a configured proxy.

use std::env;

use crate::Url;

const VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
const EXCEPTIONS: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// A remark for the error of a failed connection, if a proxy is configured for it.
pub(crate) fn remark(url: &Url) -> String {
    remark_with(url.host(), |name| env::var(name).ok().filter(|value| !value.is_empty()))
}

fn remark_with(host: &str, variable: impl Fn(&str) -> Option<String>) -> String {
    let excepted = |list: String| {
        list.split(',').map(str::trim).any(|entry| {
            let domain = entry.trim_start_matches('.');
            entry == "*" || (!domain.is_empty() && (host == domain || host.ends_with(&format!(".{domain}"))))
        })
    };
    if EXCEPTIONS.iter().filter_map(|name| variable(name)).any(excepted) {
        return String::new();
    }
    match VARIABLES.iter().find(|name| variable(name).is_some()) {
        Some(name) => format!(
            " (${name} is set, and mesh uses no proxy: let this machine reach the coordinator's port directly, or add its host \
             to $NO_PROXY if that is not the reason)"
        ),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_that_is_set_is_mentioned_unless_it_is_not_for_this_host() {
        let said = |set: &[(&str, &str)]| {
            let value = |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
            remark_with("coord.example.org", value)
        };
        let proxy = ("https_proxy", "http://proxy:3128");
        assert!(said(&[proxy]).contains("$https_proxy is set, and mesh uses no proxy"));
        for exception in ["*", "coord.example.org", ".example.org, localhost", "example.org"] {
            assert_eq!(said(&[proxy, ("NO_PROXY", exception)]), "", "{exception}");
        }
        assert_ne!(said(&[proxy, ("no_proxy", "ample.org,,localhost")]), "");
        assert_eq!(said(&[("http_proxy", "http://proxy:3128")]), "");
    }
}
