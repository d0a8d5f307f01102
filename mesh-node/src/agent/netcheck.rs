//! What stands between this runner and the others, for `netcheck`.

use mesh_proto::{Range, relay::Mapping};

use super::Agent;
use crate::{
    attach,
    control::Outside,
    dataplane::Report,
    local::{self, VERSION},
};

impl Agent {
    pub(super) async fn netcheck(&self) -> local::Netcheck {
        let report = self.dataplane.report().await;
        let Outside { reflexive, nat, .. } = self.outside.borrow().clone();
        let relays: Vec<local::Relay> =
            report.iter().flat_map(|report| self.relays.shown(&report.relays, &self.dialer)).collect();
        let udp = nat.map_or_else(|| report.as_ref().is_some_and(has_direct_path), |nat| nat.udp);
        let asked = match nat {
            _ if !self.relays.are_used() => Asked::Never,
            None => Asked::NotYet,
            Some(_) => Asked::All,
        };
        let mapping = nat.map_or(Mapping::Unknown, |nat| nat.mapping);
        let facts = Facts { udp, asked, mapping, forwarded: self.endpoints.are_forwarded() };
        let mut warnings = warnings(&facts, &relays);
        warnings.extend(self.endpoints.warnings());
        let range = self.control.view().map_or(Range::DEFAULT, |view| view.network.range);
        if let Ok(Ok(Some(clash))) = tokio::task::spawn_blocking(move || attach::clash(range)).await {
            warnings.push(format!("the mesh's range {range} clashes with this machine's routes: {clash}"));
        }
        local::Netcheck {
            version: VERSION,
            udp: facts.udp,
            mapping: facts.mapping,
            addresses: self.endpoints.addresses(),
            reflexive,
            port_mapping: self.endpoints.mapping(),
            relays,
            warnings,
        }
    }
}

/// Whether a runner has answered by UDP, without a relay.
fn has_direct_path(report: &Report) -> bool {
    report.engine.peers.iter().any(|peer| peer.endpoint.is_some())
}

/// What was found out.
struct Facts {
    udp: bool,
    asked: Asked,
    mapping: Mapping,
    /// Whether a port elsewhere leads here.
    forwarded: bool,
}

/// Which relays were asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// None: the operator has it so.
    Never,
    NotYet,
    All,
}

fn warnings(facts: &Facts, relays: &[local::Relay]) -> Vec<String> {
    let mut warnings = Vec::new();
    if facts.asked == Asked::Never {
        warnings.push(
            "this runner uses no relay (`--no-relay`, or `agent.relays`): of two runners one has to be reachable by UDP".to_owned(),
        );
    } else if relays.is_empty() {
        warnings.push(
            "this runner knows no relay: of two runners one has to be reachable by UDP (`mesh-coord relays` lists them)"
                .to_owned(),
        );
    } else if facts.asked == Asked::All && !facts.udp {
        warnings.push(
            "no relay answers by UDP: a firewall between this machine and the internet drops it, so everything goes by a relay over \
             TCP; let UDP out to have direct paths"
                .to_owned(),
        );
    }
    if facts.mapping == Mapping::Varies && !facts.forwarded {
        warnings.push(
            "a NAT gives this machine another port for each destination: runners behind most other NATs are reached by a relay \
             only; a forwarded port helps (`join --map-port`, or `join --endpoint auto:PORT`)"
                .to_owned(),
        );
    }
    let broken = relays.iter().filter_map(|relay| Some(format!("relay {}: {}", relay.name, relay.error.as_ref()?)));
    warnings.extend(broken);
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay(error: Option<&str>) -> local::Relay {
        local::Relay {
            name: "fra-1".into(),
            transport: "udp".into(),
            address: None,
            relayed: None,
            reflexive: None,
            rtt_ms: None,
            error: error.map(Into::into),
        }
    }

    #[test]
    fn what_stands_in_the_way_is_said_and_nothing_else() {
        let facts = |udp, mapping| Facts { udp, asked: Asked::All, mapping, forwarded: false };
        let said = |udp, mapping, relays: &[local::Relay]| warnings(&facts(udp, mapping), relays).join("\n");
        assert_eq!(said(true, Mapping::Same, &[relay(None)]), "");
        assert!(said(true, Mapping::Unknown, &[]).contains("knows no relay"));
        assert!(said(false, Mapping::Unknown, &[relay(Some("no answer by UDP"))]).contains("drops it"));
        assert!(said(true, Mapping::Varies, &[relay(None)]).contains("another port for each destination"));
        assert_eq!(said(true, Mapping::None, &[relay(Some("it is full"))]), "relay fra-1: it is full");
        let unused = Facts { asked: Asked::Never, ..facts(true, Mapping::Unknown) };
        assert!(warnings(&unused, &[]).join("\n").contains("--no-relay"));
        let forwarded = Facts { forwarded: true, ..facts(true, Mapping::Varies) };
        assert_eq!(warnings(&forwarded, &[relay(None)]), [""; 0]);
    }
}
