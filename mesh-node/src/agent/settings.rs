//! The agent's own settings: from the flags of `join`, the configuration, or what it remembers of earlier flags, in this order.

use std::net::SocketAddr;

use mesh_link::{Proxies, ProxyChoice};
use mesh_proto::message::Switches;

use super::Identity;
use crate::config::{self, Endpoint, LaneCount, MetricsAt};

/// The UDP port, unless the operator chooses another.
const DEFAULT_PORT: u16 = 51820;

/// The settings in effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The UDP port, or 0 for any.
    pub(crate) listen: u16,
    /// Where other runners reach this one.
    pub(crate) reach: Reach,
    /// What flags say of that, for configurations to come.
    pub(crate) reach_flags: ReachFlags,
    /// The proxies that lead to the coordinator and to relays.
    pub(crate) proxies: Proxies,
    /// The offloads that the operator leaves on.
    pub(crate) offloads: Switches,
    /// Whether relays are used.
    pub(crate) relays: bool,
    /// Where the numbers are served.
    pub(crate) metrics: Option<SocketAddr>,
    /// How many lanes the data plane may have.
    pub(crate) lanes: usize,
}

/// What the operator says of where other runners reach this one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Reach {
    /// The places; none: the addresses of this machine's interfaces.
    pub(crate) endpoints: Vec<Endpoint>,
    /// Whether the router is asked to forward a port.
    pub(crate) map_port: bool,
}

/// The same by flags alone, of this start and of earlier ones. The configuration, which may change, stands between them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ReachFlags {
    endpoints: Option<Vec<Endpoint>>,
    map_port: Option<bool>,
    remembered: Reach,
}

impl ReachFlags {
    /// What is in effect with this configuration.
    pub(crate) fn with(&self, file: &config::Agent) -> Reach {
        let endpoints = self.endpoints.as_ref().or(file.endpoints.as_ref()).unwrap_or(&self.remembered.endpoints);
        let map_port = self.map_port.or(file.map_port).unwrap_or(self.remembered.map_port);
        Reach { endpoints: endpoints.clone(), map_port }
    }
}

/// The flags of this start; `None`: not given.
#[derive(Debug, Default)]
pub(crate) struct Flags {
    /// `--no-relay`.
    pub(crate) no_relay: bool,
    /// `--listen`.
    pub(crate) listen: Option<u16>,
    /// `--endpoint`; none: `auto`.
    pub(crate) endpoints: Option<Vec<Endpoint>>,
    /// `--map-port`.
    pub(crate) map_port: Option<bool>,
    /// `--proxy`.
    pub(crate) proxy: Option<ProxyChoice>,
    /// `--metrics`.
    pub(crate) metrics: Option<MetricsAt>,
    /// `--lanes`.
    pub(crate) lanes: Option<LaneCount>,
    /// Those that no flag disables.
    pub(crate) offloads: Switches,
}

impl Settings {
    /// The settings in effect, of the three sources; a proxy that none of them names is the environment's. Reads a proxy's file.
    pub(crate) fn choose(flags: &Flags, file: &config::Agent, remembered: &Identity) -> Self {
        let (given, left) = (flags.offloads, file.offloads());
        let reach_flags = ReachFlags {
            endpoints: flags.endpoints.clone(),
            map_port: flags.map_port,
            remembered: Reach { endpoints: remembered.endpoints.clone(), map_port: remembered.map_port },
        };
        Self {
            listen: flags.listen.or(file.listen).or(remembered.listen).unwrap_or(DEFAULT_PORT),
            reach: reach_flags.with(file),
            reach_flags,
            proxies: proxies(flags.proxy.as_ref().or(file.proxy.as_ref()).or(remembered.proxy.as_ref())),
            relays: !flags.no_relay && file.relays,
            metrics: flags.metrics.or(file.metrics).or(remembered.metrics).and_then(MetricsAt::address),
            lanes: flags.lanes.or(file.lanes).or(remembered.lanes).unwrap_or_else(LaneCount::of_machine).get(),
            offloads: Switches {
                tun_gso: given.tun_gso && left.tun_gso,
                udp_gso: given.udp_gso && left.udp_gso,
                udp_gro: given.udp_gro && left.udp_gro,
            },
        }
    }
}

fn proxies(choice: Option<&ProxyChoice>) -> Proxies {
    match Proxies::chosen(choice.unwrap_or(&ProxyChoice::Auto)) {
        Ok(proxies) => {
            if let Some(unused) = proxies.unused() {
                tracing::warn!("{unused}");
            }
            proxies
        }
        Err(error) => {
            tracing::warn!("until that is put right, and the agent started again, no proxy is used: {error}");
            Proxies::none()
        }
    }
}

impl Flags {
    /// Where the configuration says otherwise than these flags, or than flags of an earlier start: in words.
    pub(crate) fn against(&self, file: &config::Agent, remembered: &Identity) -> Vec<String> {
        let of = |name: &str, flag: &str, given: Option<bool>, old: Option<bool>| match (given, old) {
            (Some(true), _) => Some(format!(
                "{flag} counts for this start only: the configuration has another agent.{name}, which counts without the flag"
            )),
            (None, Some(true)) => {
                Some(format!("agent.{name} in the configuration counts, and not the {flag} of an earlier start"))
            }
            _ => None,
        };
        let listen =
            file.listen.map(|file| (self.listen.map(|given| given != file), remembered.listen.map(|old| old != file)));
        let endpoints = file.endpoints.as_ref().map(|file| {
            let old = (!remembered.endpoints.is_empty()).then(|| remembered.endpoints != *file);
            (self.endpoints.as_ref().map(|given| given != file), old)
        });
        let map_port =
            file.map_port.map(|file| (self.map_port.map(|given| given != file), remembered.map_port.then_some(!file)));
        let map_port = map_port.and_then(|(given, old)| of("map_port", "--map-port", given, old));
        let proxy = file.proxy.as_ref().map(|file| {
            (self.proxy.as_ref().map(|given| given != file), remembered.proxy.as_ref().map(|old| old != file))
        });
        let metrics = file
            .metrics
            .map(|file| (self.metrics.map(|given| given != file), remembered.metrics.map(|old| old != file)));
        let lanes =
            file.lanes.map(|file| (self.lanes.map(|given| given != file), remembered.lanes.map(|old| old != file)));
        let lanes = lanes.and_then(|(given, old)| of("lanes", "--lanes", given, old));
        let metrics = metrics.and_then(|(given, old)| of("metrics", "--metrics", given, old));
        let proxy = proxy.and_then(|(given, old)| of("proxy", "--proxy", given, old));
        let listen = listen.and_then(|(given, old)| of("listen", "--listen", given, old));
        let endpoints = endpoints.and_then(|(given, old)| of("endpoints", "--endpoint", given, old));
        listen.into_iter().chain(endpoints).chain(map_port).chain(proxy).chain(metrics).chain(lanes).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> config::Agent {
        toml::from_str(text).unwrap()
    }

    fn remembered(listen: Option<u16>, endpoints: &[&str]) -> Identity {
        let endpoints = endpoints.iter().map(|text| text.parse().unwrap()).collect();
        Identity { listen, endpoints, ..Identity::new().unwrap() }
    }

    #[test]
    fn a_flag_wins_over_the_configuration_and_that_over_an_earlier_flag() {
        let choose = |given, text, old| {
            let flags = Flags { listen: given, ..Flags::default() };
            let settings = Settings::choose(&flags, &file(text), &remembered(old, &[]));
            (settings.listen, flags.against(&file(text), &remembered(old, &[])).len())
        };
        assert_eq!(choose(None, "", None), (51820, 0));
        assert_eq!(choose(None, "", Some(3)), (3, 0));
        assert_eq!(choose(None, "listen = 2", None), (2, 0));
        assert_eq!(choose(None, "listen = 2", Some(2)), (2, 0));
        assert_eq!(choose(None, "listen = 2", Some(3)), (2, 1));
        assert_eq!(choose(Some(1), "listen = 2", Some(1)), (1, 1));
        assert_eq!(choose(Some(2), "listen = 2", Some(3)), (2, 0));
        assert_eq!(choose(Some(1), "", Some(3)), (1, 0));
    }

    #[test]
    fn automatic_endpoints_win_as_named_ones_do() {
        let (old, named) = (remembered(None, &["192.0.2.3:1"]), |text: &str| vec![text.parse::<Endpoint>().unwrap()]);
        let choose = |given: Option<Vec<Endpoint>>, text| {
            let flags = Flags { endpoints: given, ..Flags::default() };
            (Settings::choose(&flags, &file(text), &old).reach.endpoints, flags.against(&file(text), &old).len())
        };
        let two = "endpoints = [\"two:1\"]";
        assert_eq!(choose(None, ""), (named("192.0.2.3:1"), 0));
        assert_eq!(choose(None, two), (named("two:1"), 1));
        assert_eq!(choose(None, "endpoints = []"), (vec![], 1));
        assert_eq!(choose(Some(vec![]), two), (vec![], 1));
        assert_eq!(choose(Some(named("auto:1")), ""), (named("auto:1"), 0));
    }

    #[test]
    fn a_port_is_mapped_by_the_flag_the_configuration_or_an_earlier_flag() {
        let choose = |given, text, old| {
            let flags = Flags { map_port: given, ..Flags::default() };
            let old = Identity { map_port: old, ..remembered(None, &[]) };
            (Settings::choose(&flags, &file(text), &old).reach.map_port, flags.against(&file(text), &old).len())
        };
        assert_eq!(choose(None, "", false), (false, 0));
        assert_eq!(choose(None, "", true), (true, 0));
        assert_eq!(choose(None, "map_port = true", false), (true, 0));
        assert_eq!(choose(None, "map_port = false", true), (false, 1));
        assert_eq!(choose(Some(false), "", true), (false, 0));
        assert_eq!(choose(Some(true), "map_port = false", true), (true, 1));
    }

    #[test]
    fn numbers_are_served_where_the_flag_the_configuration_or_an_earlier_flag_says() {
        let choose = |given: Option<&str>, text, old: Option<&str>| {
            let at = |text: &str| text.parse::<MetricsAt>().unwrap();
            let flags = Flags { metrics: given.map(at), ..Flags::default() };
            let old = Identity { metrics: old.map(at), ..remembered(None, &[]) };
            let settings = Settings::choose(&flags, &file(text), &old);
            (settings.metrics.map(|address| address.port()), flags.against(&file(text), &old).len())
        };
        let two = "metrics = \"127.0.0.1:2\"";
        assert_eq!(choose(None, "", None), (None, 0));
        assert_eq!(choose(None, "", Some("127.0.0.1:3")), (Some(3), 0));
        assert_eq!(choose(None, two, Some("127.0.0.1:3")), (Some(2), 1));
        assert_eq!(choose(Some("[::1]:1"), two, Some("[::1]:1")), (Some(1), 1));
        assert_eq!(choose(Some("no"), "", Some("127.0.0.1:3")), (None, 0));
        assert_eq!(choose(None, "metrics = \"no\"", Some("127.0.0.1:3")), (None, 1));
    }

    #[test]
    fn lanes_are_as_many_as_the_flag_the_configuration_or_an_earlier_flag_says() {
        let choose = |given: Option<&str>, text, old: Option<&str>| {
            let count = |text: &str| text.parse::<LaneCount>().unwrap();
            let flags = Flags { lanes: given.map(count), ..Flags::default() };
            let old = Identity { lanes: old.map(count), ..remembered(None, &[]) };
            (Settings::choose(&flags, &file(text), &old).lanes, flags.against(&file(text), &old).len())
        };
        assert_eq!(choose(None, "", None), (LaneCount::of_machine().get(), 0));
        assert_eq!(choose(None, "", Some("3")), (3, 0));
        assert_eq!(choose(None, "lanes = 2", Some("3")), (2, 1));
        assert_eq!(choose(Some("1"), "lanes = 2", Some("1")), (1, 1));
        assert_eq!(choose(Some("8"), "", Some("3")), (8, 0));
    }

    #[test]
    fn a_changed_configuration_counts_while_no_flag_does() {
        let reach = |given: Option<&str>, text| {
            let endpoints = given.map(|text| vec![text.parse().unwrap()]);
            let flags = Flags { endpoints, ..Flags::default() };
            let old = remembered(None, &["old:1"]);
            let settings = Settings::choose(&flags, &file("endpoints = [\"before:1\"]"), &old);
            settings.reach_flags.with(&file(text)).endpoints[0].to_string()
        };
        assert_eq!(reach(None, "endpoints = [\"after:1\"]"), "after:1");
        assert_eq!(reach(None, ""), "old:1");
        assert_eq!(reach(Some("flag:1"), "endpoints = [\"after:1\"]"), "flag:1");
    }

    #[test]
    fn a_proxy_comes_from_the_flag_the_configuration_or_an_earlier_flag() {
        let at = |text: &str| Some(text.parse::<ProxyChoice>().unwrap());
        let choose = |given: Option<ProxyChoice>, text, old: Option<ProxyChoice>| {
            let flags = Flags { proxy: given, ..Flags::default() };
            let old = Identity { proxy: old, ..remembered(None, &[]) };
            let settings = Settings::choose(&flags, &file(text), &old);
            let leading = settings.proxies.leading_to("coord.invalid", 7443).map(ToString::to_string);
            (leading.unwrap_or_default(), flags.against(&file(text), &old).len())
        };
        let two = "proxy = \"http://me:pw@two:1\"";
        assert_eq!(choose(None, two, None), ("http://two:1".to_owned(), 0));
        assert_eq!(choose(None, two, at("http://three:1")), ("http://two:1".to_owned(), 1));
        assert_eq!(choose(None, "", at("http://three:1")), ("http://three:1".to_owned(), 0));
        assert_eq!(choose(at("http://one:1"), two, at("http://one:1")), ("http://one:1".to_owned(), 1));
        assert_eq!(choose(at("none"), two, at("none")), (String::new(), 1));
        assert_eq!(choose(at("@/nonexistent/proxy"), "", None), (String::new(), 0));
    }

    #[test]
    fn an_offload_is_off_where_either_says_so() {
        let flags = Flags { offloads: Switches { udp_gso: false, ..Switches::default() }, ..Flags::default() };
        let settings = Settings::choose(&flags, &file("tun_gso = false"), &remembered(None, &[]));
        assert_eq!(settings.offloads, Switches { tun_gso: false, udp_gso: false, udp_gro: true });
    }
}
