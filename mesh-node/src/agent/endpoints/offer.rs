//! What this runner says of where others reach it: of what the operator names, what names mean, what the outside sees, what the
//! router forwards, and the addresses of the interfaces.

use std::net::{IpAddr, SocketAddr};

use mesh_proto::{
    Range,
    endpoint::{self, EndpointError, MAX_ENDPOINTS},
};

use super::names::{Meaning, Names};
use crate::{agent::settings::Reach, config::Endpoint, control::Offered};

/// The most addresses of one name.
const MAX_OF_NAME: usize = 8;

/// What is known.
pub(super) struct Known<'a> {
    /// What the operator says.
    pub(super) reach: &'a Reach,
    /// What names mean.
    pub(super) names: &'a Names,
    /// The addresses that the outside sees this runner come from; `None` while it is too early to say that there are none.
    pub(super) seen: Option<&'a [IpAddr]>,
    /// What the router forwards to this runner.
    pub(super) mapped: Option<SocketAddr>,
    /// The addresses of this machine's interfaces, with the UDP port.
    pub(super) interfaces: &'a [SocketAddr],
    /// The mesh's range, once that is known.
    pub(super) range: Option<Range>,
    /// Where relays are.
    pub(super) relays: &'a [SocketAddr],
}

/// What there is to tell: to the coordinator, and to the operator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) offered: Offered,
    pub(super) warnings: Vec<String>,
}

/// Why an address is not told.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error(transparent)]
    Address(#[from] EndpointError),
    #[error("is a relay's")]
    Relay,
}

impl Known<'_> {
    /// Whether peers can use an address that this runner has found out.
    fn check(&self, address: SocketAddr) -> Result<(), Unfit> {
        if self.relays.contains(&address) {
            return Err(Unfit::Relay);
        }
        Ok(endpoint::check(address, self.range)?)
    }

    /// Makes the offer.
    pub(super) fn offer(&self) -> Offer {
        let mut all = Offer::default();
        all.offered.only = !self.reach.endpoints.is_empty();
        for named in &self.reach.endpoints {
            match named {
                Endpoint::At(address) => self.literal(*address, &mut all),
                // Whether they are in the mesh's range can't be said before that is known.
                _ if self.range.is_none() => {}
                Endpoint::Name(place) => self.name(named, self.names.of(place), &mut all),
                Endpoint::Seen(port) => {
                    let seen = self.seen.unwrap_or_default().iter().map(|ip| SocketAddr::new(*ip, port.get()));
                    let usable: Vec<SocketAddr> = seen.filter(|at| self.check(*at).is_ok()).collect();
                    if usable.is_empty() && self.seen.is_some() {
                        all.warnings.push(format!(
                            "the endpoint {named} has no address: no relay has said yet at which address it sees this runner"
                        ));
                    }
                    all.add(usable);
                }
            }
        }
        if self.range.is_some() {
            all.add(self.mapped.filter(|at| self.check(*at).is_ok()));
        }
        if !all.offered.only {
            all.add(self.interfaces.iter().copied());
        }
        let count = all.offered.addresses.len();
        if count > MAX_ENDPOINTS {
            all.warnings.push(format!("the endpoints are {count} addresses: only the first {MAX_ENDPOINTS} are told"));
            all.offered.addresses.truncate(MAX_ENDPOINTS);
        }
        all
    }

    /// An address that was named as such. Peers on the same machine may use one that means another machine elsewhere.
    fn literal(&self, address: SocketAddr, all: &mut Offer) {
        if let Err(why) = endpoint::check(address, self.range) {
            all.warnings.push(format!("the endpoint {address} {why}: no peer uses it"));
            if !why.is_local() {
                return;
            }
        }
        all.add([address]);
    }

    fn name(&self, named: &Endpoint, meaning: Meaning<'_>, all: &mut Offer) {
        let addresses = match meaning {
            Meaning::Unasked => return,
            Meaning::Nothing(why) => {
                all.warnings.push(format!("the endpoint {named} has no address: {why}"));
                return;
            }
            Meaning::Earlier(addresses, why) => {
                all.warnings.push(format!("the endpoint {named} keeps its last addresses, for an hour at most: {why}"));
                addresses
            }
            Meaning::Addresses(addresses) => addresses,
        };
        let (usable, unfit): (Vec<&SocketAddr>, Vec<&SocketAddr>) =
            addresses.iter().partition(|at| self.check(**at).is_ok());
        if let Some((first, why)) = unfit.first().and_then(|at| Some((at.ip(), self.check(**at).err()?))) {
            all.warnings.push(format!("the endpoint {named} means {first}, which {why}: that is not told"));
        }
        if usable.len() > MAX_OF_NAME {
            all.warnings.push(format!(
                "the endpoint {named} has {} addresses: only {MAX_OF_NAME} of one name are told",
                usable.len()
            ));
        }
        all.add(usable.into_iter().copied().take(MAX_OF_NAME));
    }
}

impl Offer {
    fn add(&mut self, addresses: impl IntoIterator<Item = SocketAddr>) {
        for address in addresses {
            if !self.offered.addresses.contains(&address) {
                self.offered.addresses.push(address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// What is told of these endpoints with these answers of the resolver (of the name `runner`).
    fn offer(endpoints: &[&str], answer: Option<Result<&[&str], &str>>) -> Offer {
        let reach = Reach { endpoints: endpoints.iter().map(|text| text.parse().unwrap()).collect(), map_port: false };
        let mut names = Names::default();
        if let Some(answer) = answer {
            let answer = answer.map(|all| all.iter().map(|text| at(text)).collect()).map_err(str::to_owned);
            names.learn("runner:5".parse().unwrap(), answer, Instant::now());
        }
        let seen = ["198.51.100.7".parse().unwrap(), "127.0.0.1".parse().unwrap()];
        let (interfaces, relays) = ([at("192.168.1.5:51820")], [at("203.0.113.9:5")]);
        let (mapped, range) = (Some(at("198.51.100.8:40000")), Some(Range::DEFAULT));
        let seen = Some(&seen[..]);
        Known { reach: &reach, names: &names, seen, mapped, interfaces: &interfaces, range, relays: &relays }.offer()
    }

    fn told(offer: &Offer) -> Vec<String> {
        offer.offered.addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_named_stands_in_place_of_the_interfaces_addresses() {
        let automatic = offer(&[], None);
        assert_eq!(told(&automatic), ["198.51.100.8:40000", "192.168.1.5:51820"]);
        assert!(!automatic.offered.only && automatic.warnings.is_empty());
        let named = offer(&["192.0.2.1:1", "runner:5", "auto:7"], Some(Ok(&["192.0.2.3:5", "192.0.2.1:1"])));
        assert_eq!(told(&named), ["192.0.2.1:1", "192.0.2.3:5", "198.51.100.7:7", "198.51.100.8:40000"]);
        assert!(named.offered.only && named.warnings.is_empty(), "{named:?}");
    }

    #[test]
    fn a_name_that_leads_where_no_peer_can_be_is_refused_as_an_address_is() {
        for (unfit, why) in [
            ("127.0.0.1:5", "loopback"),
            ("100.112.0.9:5", "mesh's own range"),
            ("169.254.1.1:5", "link-local"),
            ("224.0.0.1:5", "multicast"),
            ("[::1]:5", "loopback"),
            ("[64:ff9b::7f00:1]:5", "loopback"),
            ("203.0.113.9:5", "relay's"),
        ] {
            let offer = offer(&["runner:5"], Some(Ok(&["192.0.2.3:5", unfit])));
            assert_eq!(told(&offer), ["192.0.2.3:5", "198.51.100.8:40000"], "{unfit}");
            assert!(offer.warnings.len() == 1 && offer.warnings[0].contains(why), "{:?}", offer.warnings);
        }
        let literal = offer(&["100.112.0.9:5", "127.0.0.1:5"], None);
        assert_eq!(told(&literal), ["127.0.0.1:5", "198.51.100.8:40000"], "the coordinator knows whether it is of use");
        assert_eq!(literal.warnings.len(), 2);
    }

    #[test]
    fn a_name_without_addresses_is_warned_of_and_before_the_first_answer_nothing_is_said() {
        assert_eq!(offer(&["runner:5"], None).warnings, [""; 0]);
        let failed = offer(&["runner:5"], Some(Err("no such host")));
        assert_eq!(told(&failed), ["198.51.100.8:40000"]);
        assert_eq!(failed.warnings, ["the endpoint runner:5 has no address: no such host"]);
    }

    #[test]
    fn the_addresses_of_a_name_and_of_all_are_bounded() {
        let many: Vec<String> = (1..=60).map(|n| format!("192.0.2.{n}:5")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let one = offer(&["runner:5"], Some(Ok(&many)));
        assert_eq!(one.offered.addresses.len(), MAX_OF_NAME + 1);
        assert_eq!(one.warnings, ["the endpoint runner:5 has 60 addresses: only 8 of one name are told"]);
        let all = offer(&many, None);
        assert_eq!(all.offered.addresses.len(), MAX_ENDPOINTS);
        assert_eq!(all.warnings.len(), 1);
        let unfit = offer(&["runner:5"], Some(Ok(&["127.0.0.1:5", "127.0.0.2:5", "127.0.0.3:5"])));
        assert_eq!(unfit.warnings.len(), 1, "{:?}", unfit.warnings);
    }

    #[test]
    fn what_was_found_out_waits_for_the_meshs_range() {
        let reach =
            Reach { endpoints: vec!["192.0.2.1:1".parse().unwrap(), "auto:7".parse().unwrap()], map_port: false };
        let seen = ["100.112.0.9".parse().unwrap()];
        let known = |range| {
            let mapped = Some(at("100.112.0.9:40000"));
            let names = Names::default();
            let (names, reach) = (&names, &reach);
            told(&Known { reach, names, seen: Some(&seen), mapped, interfaces: &[], range, relays: &[] }.offer())
        };
        assert_eq!(known(None), ["192.0.2.1:1"]);
        assert_eq!(known(Some(Range::DEFAULT)), ["192.0.2.1:1"]);
    }
}
