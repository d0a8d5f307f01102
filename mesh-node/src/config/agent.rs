//! The agent's own settings.

use mesh_link::ProxyChoice;
use mesh_proto::message::Switches;
use serde::Deserialize;

use super::{Config, ConfigError, Endpoint, LaneCount, MetricsAt, endpoint, read};
use crate::state::StateDir;

/// What `mesh-node join` reads when it starts. The flags of the same names win.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Agent {
    /// The UDP port, or 0 for any.
    pub(crate) listen: Option<u16>,
    /// The places at which other runners reach this one; none: the addresses of its interfaces.
    #[serde(deserialize_with = "endpoint::deserialize")]
    pub(crate) endpoints: Option<Vec<Endpoint>>,
    /// Whether the router is asked to forward a port.
    pub(crate) map_port: Option<bool>,
    /// The proxy to the coordinator and to relays.
    pub(crate) proxy: Option<ProxyChoice>,
    /// Where the numbers are served.
    pub(crate) metrics: Option<MetricsAt>,
    /// How many lanes the data plane has.
    pub(crate) lanes: Option<LaneCount>,
    /// TCP super-packets on mesh0.
    tun_gso: bool,
    /// `UDP_SEGMENT` on send.
    udp_gso: bool,
    /// `UDP_GRO` on receive.
    udp_gro: bool,
    /// Whether relays are used.
    pub(crate) relays: bool,
}

impl Default for Agent {
    fn default() -> Self {
        let Switches { tun_gso, udp_gso, udp_gro } = Switches::default();
        Self {
            listen: None,
            endpoints: None,
            map_port: None,
            proxy: None,
            metrics: None,
            lanes: None,
            tun_gso,
            udp_gso,
            udp_gro,
            relays: true,
        }
    }
}

impl Agent {
    /// The offloads that are left on.
    pub(crate) const fn offloads(&self) -> Switches {
        Switches { tun_gso: self.tun_gso, udp_gso: self.udp_gso, udp_gro: self.udp_gro }
    }
}

impl Config {
    /// The agent's own settings, whatever is wrong in the rest of the file: a misspelt setting for containers must not move a
    /// runner to another port.
    ///
    /// # Errors
    /// If they can't be determined.
    pub(crate) fn agent(state: &StateDir) -> Result<Agent, ConfigError> {
        let error = match Self::load(state) {
            Ok(config) => return Ok(config.agent),
            Err(error) => error,
        };
        let text = String::from_utf8_lossy(&read(&Self::path(state))?).into_owned();
        match text.parse::<toml::Table>().map(|mut table| table.remove("agent").map(toml::Value::try_into)) {
            Ok(None) => Ok(Agent::default()),
            Ok(Some(Ok(agent))) => Ok(agent),
            Ok(Some(Err(_))) | Err(_) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{config::FILE, state::tests::Scratch};

    #[test]
    fn the_agents_settings_are_found_beside_mistakes_and_never_guessed() {
        let scratch = Scratch::new("config-agent");
        let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
        assert_eq!(Config::agent(&state).unwrap(), Agent::default(), "no file");
        let some =
            "[agent]\nlisten = 0\nendpoints = [\"192.0.2.1:51820\", \"runner:1\", \"auto:2\"]\nudp_gro = false\n";
        for (text, listen, gro) in [
            (some.to_owned(), Some(0), false),
            (format!("{some}[containers]\nfial = \"open\"\n"), Some(0), false),
            ("[containers]\nfial = \"open\"\n".to_owned(), None, true),
        ] {
            fs::write(scratch.0.join(FILE), &text).unwrap();
            let agent = Config::agent(&state).unwrap();
            assert_eq!((agent.listen, agent.offloads().udp_gro), (listen, gro), "{text}");
            assert_eq!(agent.endpoints.is_some(), listen.is_some());
            assert!(agent.offloads().tun_gso && agent.offloads().udp_gso);
        }
        for text in [
            "[agent]\nlisten = 65536\n",
            "[agent]\nlistne = 1\n",
            "[agent]\nendpoints = [\"here\"]\n",
            "[agent]\nendpoints = [\"auto:1\", \"auto:2\"]\n",
            "[agent]\nmetrics = \"9744\"\n",
            "[agent]\nlanes = 0\n",
            "[agent]\nlanes = 9\n",
            "[agent]\nlanes = \"2\"\n",
            "[agent]\nproxy = \"socks5://me:hunter2@p\"\n",
            "[agent\n",
        ] {
            fs::write(scratch.0.join(FILE), text).unwrap();
            let error = Config::agent(&state).unwrap_err();
            assert!(matches!(error, ConfigError::Invalid { .. }), "{text}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_proxy_is_read_and_its_password_is_in_no_debug_output() {
        let agent: Agent = toml::from_str("proxy = \"http://me:hunter2@p:3128\"").unwrap();
        assert!(agent.proxy.as_ref().unwrap().has_credentials() && !format!("{agent:?}").contains("hunter2"));
        let agent: Agent = toml::from_str("proxy = \"none\"").unwrap();
        assert_eq!(agent.proxy, Some(ProxyChoice::None));
    }
}
