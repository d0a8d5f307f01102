//! The relays of this runner: which there are, by the coordinator or from an earlier run, where they are, and what the runner
//! tells of its way to the outside.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use futures_util::future::join_all;
use mesh_proto::{
    RelayId, View,
    endpoint::{self, EndpointError, Fault},
    relay::{Place, Relay, RelayCredential},
};
use mesh_relay_client::{Config, Login, RelayReport, Standing, Transport};
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::sleep};
use zeroize::Zeroizing;

use super::lookup;
use crate::{
    control::{Control, Provided},
    dataplane::Dataplane,
    local,
    state::StateDir,
};

mod dial;
mod outside;

pub(super) use dial::Dialer;
pub(super) use outside::tell;

/// The relays and what this runner logs in with at them, for the times when the coordinator is away. Secret.
pub(crate) const FILE: &str = "relay.json";

/// The most addresses of one relay.
const MAX: usize = 8;

/// The file, version 1.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    version: u32,
    relays: Vec<Relay>,
    credentials: Vec<RelayCredential>,
    /// The credentials before these: an allocation of an earlier agent can be ended by the one only that it was made with.
    #[serde(default)]
    earlier: Vec<RelayCredential>,
}

impl Known {
    /// What an earlier agent has left. A damaged file counts as none.
    fn load(state: &StateDir) -> Self {
        match state.read::<Self>(FILE) {
            Ok(known) => known.filter(|known| known.version == 1).unwrap_or_default(),
            Err(error) => {
                tracing::warn!(%error, "no relays until the coordinator is there");
                Self::default()
            }
        }
    }

    /// Takes over what the coordinator says. Returns whether it is news.
    fn take(&mut self, provided: &Provided) -> bool {
        let Provided { relays, credentials } = provided.clone();
        if (self.version, &self.relays, &self.credentials) == (1, &relays, &credentials) {
            return false;
        }
        let of = |list: &[RelayCredential], relay| list.iter().find(|one| one.relay == relay).cloned();
        self.earlier = credentials
            .iter()
            .filter_map(|new| {
                let before = of(&self.credentials, new.relay).filter(|old| old.username != new.username);
                before.or_else(|| of(&self.earlier, new.relay))
            })
            .collect();
        (self.version, self.relays, self.credentials) = (1, relays, credentials);
        true
    }

    fn places(&self) -> impl Iterator<Item = &Place> {
        self.relays.iter().flat_map(|relay| &relay.public.udp)
    }

    /// The relays that can be used, by what their names mean.
    fn configs(&self, addresses: &BTreeMap<Place, Vec<SocketAddr>>, view: Option<&View>) -> Vec<Config> {
        let login = |list: &[RelayCredential], relay: RelayId| {
            let credential = list.iter().find(|one| one.relay == relay)?;
            Some(Login::new(&credential.username, Zeroizing::new(credential.password.expose().to_owned())))
        };
        let range = view.map(|view| view.network.range);
        // The tunnel's own addresses lead into the tunnel.
        let is_outside =
            |at: &SocketAddr| !matches!(endpoint::check(*at, range), Err(EndpointError::Is(Fault::MeshRange)));
        let config = |relay: &Relay| {
            let found = relay.public.udp.iter().filter_map(|place| addresses.get(place)).flatten();
            let addresses: Vec<SocketAddr> = found.copied().filter(is_outside).take(MAX).collect();
            let (id, earlier) = (relay.id, login(&self.earlier, relay.id));
            let streams = dial::is_possible(relay);
            let login = login(&self.credentials, id)?;
            (streams || !addresses.is_empty()).then_some(Config { id, addresses, streams, login, earlier })
        };
        self.relays.iter().filter_map(config).collect()
    }
}

/// The names of relays, for people.
#[derive(Debug, Clone)]
pub(super) struct Names {
    relays: watch::Receiver<Arc<Vec<Relay>>>,
    used: bool,
}

impl Names {
    /// Whether the operator lets this runner use relays.
    pub(super) const fn are_used(&self) -> bool {
        self.used
    }

    /// The relay's name; its identifier if it is no more.
    pub(super) fn of(&self, id: RelayId) -> String {
        let name = self.relays.borrow().iter().find(|relay| relay.id == id).map(|relay| relay.name.to_string());
        name.unwrap_or_else(|| id.to_string())
    }

    /// The relay itself, if there still is one.
    fn relay(&self, id: RelayId) -> Option<Relay> {
        self.relays.borrow().iter().find(|relay| relay.id == id).cloned()
    }

    /// The relays for `status`.
    pub(super) fn shown(&self, reports: &[RelayReport], dialer: &Dialer) -> impl Iterator<Item = local::Relay> {
        reports.iter().map(|report| local::Relay {
            name: self.of(report.id),
            transport: match report.transport {
                Transport::Datagram => "udp".to_owned(),
                Transport::Stream => dialer.transport(report.id).to_owned(),
            },
            address: report.address,
            relayed: report.standing.and_then(|standing| match standing {
                Standing::Allocated(relayed) => Some(relayed),
                Standing::Asking | Standing::Unanswered | Standing::Refused(_) => None,
            }),
            reflexive: report.reflexive,
            rtt_ms: report.rtt.map(Into::into),
            error: report.standing.and_then(error),
        })
    }
}

/// What is wrong with an allocation, in words.
fn error(standing: Standing) -> Option<String> {
    match standing {
        Standing::Asking | Standing::Allocated(_) => None,
        Standing::Unanswered => Some("no answer by UDP".to_owned()),
        Standing::Refused(401) => Some("it refuses the credentials".to_owned()),
        Standing::Refused(403) => Some("it doesn't relay to its own address: see allowed-peer-ip".to_owned()),
        Standing::Refused(437 | 441) => Some("it still has an allocation of an earlier agent".to_owned()),
        Standing::Refused(486 | 508) => Some("it is full".to_owned()),
        Standing::Refused(code) => Some(format!("it refuses (error {code})")),
    }
}

/// Hands the relays to the data plane, those of an earlier run at first, for as long as the agent runs. Without `used` there
/// are none.
pub(super) fn follow(state: StateDir, dataplane: Arc<Dataplane>, control: &Control, used: bool) -> Names {
    let known = if used { Known::load(&state) } else { Known::default() };
    let (names, receiver) = watch::channel(Arc::new(known.relays.clone()));
    if used {
        let (provided, views) = (control.relays(), control.views());
        tokio::spawn(keep(state, dataplane, known, provided, views, names));
    }
    Names { relays: receiver, used }
}

async fn keep(
    state: StateDir,
    dataplane: Arc<Dataplane>,
    mut known: Known,
    mut provided: watch::Receiver<Option<Arc<Provided>>>,
    views: watch::Receiver<Option<Arc<View>>>,
    names: watch::Sender<Arc<Vec<Relay>>>,
) {
    let (mut addresses, mut told) = (BTreeMap::new(), vec![]);
    loop {
        resolve(known.places(), &mut addresses).await;
        let view = views.borrow().clone();
        let configs = known.configs(&addresses, view.as_deref());
        if configs != told {
            dataplane.set_relays(configs.clone());
            told = configs;
        }
        tokio::select! {
            changed = provided.changed() => {
                if changed.is_err() {
                    return;
                }
                let news = provided.borrow_and_update().clone();
                if news.is_some_and(|news| known.take(&news)) {
                    names.send_replace(Arc::new(known.relays.clone()));
                    if let Err(error) = state.remember(FILE, &known) {
                        tracing::warn!(%error, "a restart while the coordinator is away will know no relays");
                    }
                }
            }
            () = sleep(lookup::AGAIN) => {}
        }
    }
}

/// Finds the addresses of places. A name that can't be resolved keeps those that it had.
async fn resolve(places: impl Iterator<Item = &Place>, known: &mut BTreeMap<Place, Vec<SocketAddr>>) {
    let found = join_all(places.map(|place| async move { (place.clone(), lookup::addresses(place).await) }));
    let mut before = std::mem::take(known);
    for (place, answer) in found.await {
        match answer {
            Ok(addresses) => drop(known.insert(place, addresses)),
            Err(error) => {
                tracing::debug!(%place, "the name of a relay can't be resolved: {error}");
                if let Some(addresses) = before.remove(&place) {
                    known.insert(place, addresses);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
