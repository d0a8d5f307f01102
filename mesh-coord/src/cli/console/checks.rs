//! Whether a request is for this console, and from a page of its own. Pure.

use axum::http::HeaderMap;

/// What a request shows.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Shown<'a> {
    /// `Host` (RFC 9110 §7.2).
    pub(super) host: Option<&'a str>,
    /// `Sec-Fetch-Site` (W3C Fetch Metadata), which browsers send and pages can't change.
    pub(super) site: Option<&'a str>,
    /// `Sec-Fetch-Mode`.
    pub(super) mode: Option<&'a str>,
    /// `Origin` (RFC 6454 §7).
    pub(super) origin: Option<&'a str>,
    /// `Cookie`.
    pub(super) cookies: Option<&'a str>,
}

/// Why a request isn't answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stray {
    /// It isn't for this console: another name leads here (DNS rebinding).
    WrongHost,
    /// Another site's page has made it, or nothing shows that one of the console's own has.
    Foreign,
}

impl<'a> Shown<'a> {
    pub(super) fn of(headers: &'a HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        Self {
            host: text("host"),
            site: text("sec-fetch-site"),
            mode: text("sec-fetch-mode"),
            origin: text("origin"),
            cookies: text("cookie"),
        }
    }

    /// Whether a person has made the request, rather than a script.
    pub(super) fn is_visit(self) -> bool {
        self.mode.is_none_or(|mode| mode == "navigate")
    }

    /// The values of a cookie.
    pub(super) fn values(self, name: &str) -> impl Iterator<Item = &'a str> {
        let all = self.cookies.into_iter().flat_map(|all| all.split("; ")).filter_map(|one| one.split_once('='));
        all.filter(move |(found, _)| *found == name).map(|(_, value)| value)
    }

    /// Whether it may be answered. `changes`: it isn't only a look.
    pub(super) fn check(self, scheme: &str, is_own: impl Fn(&str) -> bool, changes: bool) -> Result<(), Stray> {
        let host = self.host.filter(|host| is_own(host)).ok_or(Stray::WrongHost)?;
        let is_fine = match (changes, self.site) {
            // A link may be followed from anywhere; its page still needs the cookie, which other sites' requests lack.
            (false, _) if self.is_visit() => true,
            (false, site) => matches!(site, None | Some("same-origin" | "none")),
            (true, Some(site)) => site == "same-origin",
            (true, None) => {
                let own = self.origin.and_then(|origin| origin.strip_prefix(scheme)?.strip_prefix("://"));
                own == Some(host)
            }
        };
        if is_fine { Ok(()) } else { Err(Stray::Foreign) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Shown<'_> = Shown { host: Some("127.0.0.1:4000"), site: None, mode: None, origin: None, cookies: None };

    fn check(shown: Shown<'_>, changes: bool) -> Result<(), Stray> {
        shown.check("http", |host| host == "127.0.0.1:4000", changes)
    }

    #[test]
    fn what_a_page_elsewhere_or_another_name_brings_is_refused() {
        for host in [None, Some("evil.example:4000"), Some("127.0.0.1"), Some("127.0.0.1:40000")] {
            assert_eq!(check(Shown { host, ..HOST }, false), Err(Stray::WrongHost), "{host:?}");
        }
        for site in ["cross-site", "same-site", "x"] {
            let foreign = Shown { site: Some(site), mode: Some("no-cors"), ..HOST };
            assert_eq!(check(foreign, false), Err(Stray::Foreign), "{site}");
            let link = Shown { site: Some(site), mode: Some("navigate"), ..HOST };
            assert_eq!((check(link, false), check(link, true)), (Ok(()), Err(Stray::Foreign)), "{site}");
        }
        let own = Shown { site: Some("same-origin"), mode: Some("cors"), ..HOST };
        assert_eq!(check(own, false), Ok(()));
    }

    #[test]
    fn a_change_shows_that_an_own_page_asks_for_it() {
        let of = |site, origin| check(Shown { site, origin, mode: Some("navigate"), ..HOST }, true);
        assert_eq!(of(Some("same-origin"), None), Ok(()));
        assert_eq!(of(None, Some("http://127.0.0.1:4000")), Ok(()));
        for (site, origin) in [
            (None, None),
            (None, Some("null")),
            (None, Some("https://127.0.0.1:4000")),
            (None, Some("http://127.0.0.1:4001")),
            (Some("none"), None),
            (Some("cross-site"), Some("http://127.0.0.1:4000")),
        ] {
            assert_eq!(of(site, origin), Err(Stray::Foreign), "{site:?} {origin:?}");
        }
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let shown = Shown { cookies: Some("a=b; mesh-1=x; mesh-2=y; mesh-1=z"), ..HOST };
        assert_eq!(shown.values("mesh-1").collect::<Vec<_>>(), ["x", "z"]);
    }
}
