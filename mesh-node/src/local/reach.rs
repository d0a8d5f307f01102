//! How this runner reaches the outside, in the agent's answers.

use std::net::SocketAddr;

use mesh_proto::relay::Mapping;
use serde::{Deserialize, Serialize};

use super::Relay;

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
    /// The relays.
    pub(crate) relays: Vec<Relay>,
    /// What stands in the way, in words.
    pub(crate) warnings: Vec<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn frozen<T: Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T, shape: Value) {
        assert_eq!(serde_json::to_value(value).unwrap(), shape);
        assert_eq!(&serde_json::from_value::<T>(shape).unwrap(), value);
    }

    #[test]
    fn netcheck_is_frozen() {
        let netcheck = Netcheck {
            version: 1,
            udp: true,
            mapping: Mapping::Varies,
            addresses: vec!["192.168.1.5:51820".parse().unwrap()],
            reflexive: vec!["198.51.100.7:1024".parse().unwrap()],
            relays: vec![],
            warnings: vec!["so".into()],
        };
        frozen(
            &netcheck,
            json!({"version": 1, "udp": true, "mapping": "varies", "addresses": ["192.168.1.5:51820"],
                "reflexive": ["198.51.100.7:1024"], "relays": [], "warnings": ["so"]}),
        );
    }
}
