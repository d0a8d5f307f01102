//! Which proxy leads where: the operator's, or the environment's.

use std::{
    env, fmt, fs,
    io::{self, Read as _},
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Proxy, ProxyParseError, except::Exceptions};
use crate::place::Place;

/// The variables with a proxy for `https`, in curl's order.
const VARIABLES: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
/// The variables with the places that are reached without one.
const EXCEPTIONS: [&str; 2] = ["no_proxy", "NO_PROXY"];
/// The longest file that is read, in bytes.
const MAX_FILE: u64 = 16 << 10;

/// What an operator says of proxies: `auto`, `none`, `@FILE`, or `http://[USER:PASSWORD@]HOST:PORT`. Neither `Debug` nor `Display`
/// shows credentials, and what is serialized has none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum ProxyChoice {
    /// The one in the environment, if there is one.
    #[default]
    Auto,
    /// None is used, whatever the environment says.
    None,
    /// The one in a file.
    File(PathBuf),
    /// This one.
    At(Proxy),
}

impl ProxyChoice {
    /// Whether it holds credentials itself.
    #[must_use]
    pub const fn has_credentials(&self) -> bool {
        matches!(self, Self::At(proxy) if proxy.has_credentials())
    }
}

/// The proxy in a file.
fn read(path: &Path) -> io::Result<Proxy> {
    let in_file = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut text = Zeroizing::new(String::new());
    let read = fs::File::open(path).and_then(|file| file.take(MAX_FILE).read_to_string(&mut text));
    read.map_err(in_file)?;
    text.trim().parse().map_err(|error: ProxyParseError| in_file(io::Error::other(error)))
}

impl FromStr for ProxyChoice {
    type Err = ProxyParseError;

    fn from_str(text: &str) -> Result<Self, ProxyParseError> {
        match text.strip_prefix('@') {
            // `@FILE`, and not a proxy without credentials.
            Some(path) => Ok(Self::File(path.into())),
            None if text == "auto" => Ok(Self::Auto),
            None if matches!(text, "" | "none") => Ok(Self::None),
            None => text.parse().map(Self::At),
        }
    }
}

impl fmt::Display for ProxyChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::None => f.write_str("none"),
            Self::File(path) => write!(f, "@{}", path.display()),
            Self::At(proxy) => proxy.fmt(f),
        }
    }
}

impl From<ProxyChoice> for String {
    fn from(choice: ProxyChoice) -> Self {
        choice.to_string()
    }
}

impl TryFrom<String> for ProxyChoice {
    type Error = ProxyParseError;

    fn try_from(text: String) -> Result<Self, ProxyParseError> {
        Zeroizing::new(text).parse()
    }
}

/// Which proxy leads where. Without one, connections are direct.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    proxy: Option<Proxy>,
    exceptions: Exceptions,
    /// A variable whose proxy isn't used, and why.
    unused: Option<(&'static str, ProxyParseError)>,
}

impl Proxies {
    /// Every connection is direct.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// What the operator has chosen, except to the places in `NO_PROXY`. Reads the file.
    ///
    /// # Errors
    /// If the file can't be read or holds no proxy.
    pub fn chosen(choice: &ProxyChoice) -> io::Result<Self> {
        let proxy = match choice {
            ProxyChoice::Auto => return Ok(Self::of_environment()),
            ProxyChoice::None => return Ok(Self::none()),
            ProxyChoice::File(path) => read(path)?,
            ProxyChoice::At(proxy) => proxy.clone(),
        };
        Ok(Self { proxy: Some(proxy), exceptions: exceptions(variable), unused: None })
    }

    /// The proxy of `HTTPS_PROXY` or `ALL_PROXY`, except to the places in `NO_PROXY`.
    #[must_use]
    pub fn of_environment() -> Self {
        Self::of(variable)
    }

    /// This proxy, with these exceptions.
    #[cfg(test)]
    pub(crate) fn at(proxy: &str, exceptions: &str) -> Self {
        let set = [("https_proxy", proxy), ("no_proxy", exceptions)];
        Self::of(|name| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let found = VARIABLES.iter().find_map(|name| Some((*name, Zeroizing::new(variable(name)?))));
        let (proxy, unused) = match found.map(|(name, text)| (name, text.parse::<Proxy>())) {
            Some((_, Ok(proxy))) => (Some(proxy), None),
            Some((name, Err(why))) => (None, Some((name, why))),
            None => (None, None),
        };
        Self { proxy, exceptions: exceptions(variable), unused }
    }

    /// The proxy that leads to this host and port; `None`: a direct connection does. The machine itself is always reached directly.
    #[must_use]
    pub fn leading_to(&self, host: &str, port: u16) -> Option<&Proxy> {
        let proxy = self.proxy.as_ref()?;
        (!is_this_machine(host) && !self.exceptions.contains(host, port)).then_some(proxy)
    }

    /// The variable whose proxy isn't used, and why; it quotes no credentials.
    #[must_use]
    pub fn unused(&self) -> Option<String> {
        self.unused.map(|(name, why)| format!("the proxy in ${name} is not used: {why}"))
    }

    /// The same for the error of a direct connection to a place.
    pub(crate) fn remark(&self, place: &Place) -> String {
        let unused = self.unused().filter(|_| !self.exceptions.contains(place.host(), place.port()));
        unused.map(|unused| format!(" ({unused})")).unwrap_or_default()
    }
}

fn is_this_machine(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

fn exceptions(variable: impl Fn(&str) -> Option<String>) -> Exceptions {
    EXCEPTIONS.iter().find_map(|name| variable(name)).map(|list| Exceptions::parse(&list)).unwrap_or_default()
}

/// An empty variable counts as one that isn't set, as in curl.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(set: &[(&str, &str)]) -> Proxies {
        Proxies::of(|name| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    fn leading(set: &[(&str, &str)], host: &str) -> Option<String> {
        proxies(set).leading_to(host, 7443).map(Proxy::to_string)
    }

    #[test]
    fn the_environment_names_the_proxy_and_its_exceptions() {
        let host = "coord.example.org";
        assert_eq!(leading(&[], host), None);
        assert_eq!(leading(&[("http_proxy", "http://p:1")], host), None, "that is for http:// only");
        for name in VARIABLES {
            assert_eq!(leading(&[(name, "http://p:1")], host).as_deref(), Some("http://p:1"), "{name}");
        }
        let both = [("ALL_PROXY", "http://all:1"), ("HTTPS_PROXY", "http://p:1")];
        assert_eq!(leading(&both, host).as_deref(), Some("http://p:1"));
        for name in EXCEPTIONS {
            assert_eq!(leading(&[("https_proxy", "p:1"), (name, "example.org")], host), None, "{name}");
        }
        for own in ["localhost", "127.0.0.1", "::1", "::ffff:127.0.0.5"] {
            assert_eq!(leading(&[("https_proxy", "http://p:1")], own), None, "{own}");
        }
    }

    #[test]
    fn a_variable_with_another_kind_of_proxy_is_mentioned_and_nothing_is_used() {
        let set = [("ALL_PROXY", "socks5h://me:hunter2@p:1080")];
        let place: Place = "coord.example.org:7443".parse().unwrap();
        assert_eq!(leading(&set, place.host()), None);
        let remark = proxies(&set).remark(&place);
        assert!(remark.contains("$ALL_PROXY is not used") && remark.contains("SOCKS"), "{remark}");
        assert!(!remark.contains("hunter2"), "{remark}");
        assert_eq!(proxies(&[set[0], ("no_proxy", "*")]).remark(&place), "");
        assert_eq!(proxies(&[("HTTPS_PROXY", "http://p:1")]).remark(&place), "");
    }

    #[test]
    fn an_operator_chooses_a_proxy_a_file_or_none() {
        let choice = |text: &str| text.parse::<ProxyChoice>().unwrap();
        assert_eq!((choice("none"), choice("")), (ProxyChoice::None, ProxyChoice::None));
        assert_eq!(choice("auto"), ProxyChoice::Auto);
        assert_eq!(choice("@/etc/proxy"), ProxyChoice::File("/etc/proxy".into()));
        let at = choice("http://me:hunter2@p:1");
        assert!(!format!("{at} {at:?} {}", serde_json::to_string(&at).unwrap()).contains("hunter2"));
        assert!("socks5://p".parse::<ProxyChoice>().is_err());
        let path = env::temp_dir().join(format!("mesh-link-proxy-{}", std::process::id()));
        let file = ProxyChoice::File(path.clone());
        let missing = Proxies::chosen(&file).unwrap_err().to_string();
        assert!(missing.contains("mesh-link-proxy-"), "{missing}");
        fs::write(&path, "http://me:hunter2@p:1\n").unwrap();
        assert_eq!(Proxies::chosen(&file).unwrap().proxy, Proxies::chosen(&at).unwrap().proxy);
        fs::write(&path, "http://me:hunter2@p:x\n").unwrap();
        let wrong = Proxies::chosen(&file).unwrap_err().to_string();
        fs::remove_file(&path).unwrap();
        assert!(wrong.contains("the port") && !wrong.contains("hunter2"), "{wrong}");
    }
}
