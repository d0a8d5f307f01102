//! How this runner reaches the outside and other runners, in the agent's answers.

use std::net::SocketAddr;

use mesh_proto::{Label, relay::Mapping};
use serde::{Deserialize, Serialize};

use super::{Millis, Path, PortMapping, Relay};

/// `netcheck`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Netcheck {
    /// [`super::VERSION`].
    pub(crate) version: u32,
    /// Whether UDP gets out, as far as is known.
    pub(crate) udp: bool,
    /// What a NAT between this machine and the relays does with its port.
    pub(crate) mapping: Mapping,
    /// The addresses that this runner offers: those of its interfaces, or the operator's.
    pub(crate) addresses: Vec<SocketAddr>,
    /// The addresses at which relays see it, where these are others.
    pub(crate) reflexive: Vec<SocketAddr>,
    /// The port of the router that leads here, if one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) port_mapping: Option<PortMapping>,
    /// The relays.
    pub(crate) relays: Vec<Relay>,
    /// What stands in the way, in words.
    pub(crate) warnings: Vec<String>,
}

/// `ping`: the answer to one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ping {
    /// [`super::VERSION`].
    pub(crate) version: u32,
    /// The number of the ping, from 1.
    pub(crate) seq: u32,
    /// The runner that answered.
    pub(crate) runner: Label,
    /// How it was reached.
    pub(crate) path: Path,
    /// The relay's name.
    pub(crate) relay: Option<String>,
    /// The address that the ping went to; with a relay, that of the runner there.
    pub(crate) endpoint: SocketAddr,
    /// The round trip.
    pub(crate) rtt_ms: Millis,
    /// The longest packet in bytes that the path carries; absent until pings have found that out.
    pub(crate) mtu: Option<u16>,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    fn frozen<T: Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T, shape: Value) {
        assert_eq!(serde_json::to_value(value).unwrap(), shape);
        assert_eq!(&serde_json::from_value::<T>(shape).unwrap(), value);
    }

    #[test]
    fn ping_is_frozen() {
        let ping = Ping {
            version: 1,
            seq: 3,
            runner: "b".parse().unwrap(),
            path: Path::Relay,
            relay: Some("fra-1".into()),
            endpoint: "203.0.113.7:50001".parse().unwrap(),
            rtt_ms: Millis::from(Duration::from_micros(12_300)),
            mtu: Some(1312),
        };
        frozen(
            &ping,
            json!({"version": 1, "seq": 3, "runner": "b", "path": "relay", "relay": "fra-1",
                "endpoint": "203.0.113.7:50001", "rtt_ms": 12.3, "mtu": 1312}),
        );
    }

    #[test]
    fn netcheck_is_frozen() {
        let mut netcheck = Netcheck {
            version: 1,
            udp: true,
            mapping: Mapping::Varies,
            addresses: vec!["192.168.1.5:51820".parse().unwrap()],
            reflexive: vec!["198.51.100.7:1024".parse().unwrap()],
            port_mapping: None,
            relays: vec![],
            warnings: vec!["so".into()],
        };
        frozen(
            &netcheck,
            json!({"version": 1, "udp": true, "mapping": "varies", "addresses": ["192.168.1.5:51820"],
                "reflexive": ["198.51.100.7:1024"], "relays": [], "warnings": ["so"]}),
        );
        netcheck.port_mapping = Some(PortMapping {
            protocol: Some("pcp".into()),
            router: Some([192, 168, 1, 1].into()),
            outside: Some("198.51.100.7:51820".parse().unwrap()),
            error: None,
        });
        let shape = serde_json::to_value(&netcheck).unwrap();
        assert_eq!(
            shape["port_mapping"],
            json!({"protocol": "pcp", "router": "192.168.1.1", "outside": "198.51.100.7:51820", "error": null})
        );
    }
}
