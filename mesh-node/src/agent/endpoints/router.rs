//! Asks the router to forward a port, by PCP or NAT-PMP, for as long as that is wanted.

use std::{net::SocketAddr, num::NonZeroU16, sync::Arc, time::Duration};

use crab_nat::{InternetProtocol, PortMapping, PortMappingOptions, PortMappingType, TimeoutConfig, natpmp, pcp};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};

use super::{
    gateway::{self, Way},
    mapping::{Failure, Granted, LIFETIME, Mapping, Protocol},
};
use crate::{agent::settings::Reach, local, state::StateDir};

/// What shows a router that a later request is by the same runner (RFC 6887 §11.2). An agent that is started again asks for the
/// same mapping with it.
pub(in crate::agent) const FILE: &str = "port-mapping.json";

/// Four requests within four seconds, and two at the end of the agent.
const PATIENT: TimeoutConfig =
    TimeoutConfig { initial_timeout: Duration::from_millis(250), max_retries: 3, max_retry_timeout: None };
const HASTY: TimeoutConfig = TimeoutConfig { max_retries: 1, ..PATIENT };

/// The least time between two requests, however much changes.
const PAUSE: Duration = Duration::from_secs(5);

/// What is known of the mapping, for others: `None` where none is wanted.
pub(super) type Shown = Option<local::PortMapping>;

/// The file, version 1.
#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    version: u32,
    nonce: pcp::Nonce,
}

/// A port of this machine that is to be reached from outside.
pub(super) struct Port {
    port: NonZeroU16,
    nonce: pcp::Nonce,
}

impl Port {
    /// A UDP port, unless it is 0.
    pub(super) fn new(port: u16, state: &StateDir) -> Option<Self> {
        let port = NonZeroU16::new(port)?;
        let known = state.read::<Remembered>(FILE).ok().flatten().filter(|known| known.version == 1);
        if let Some(known) = known {
            return Some(Self { port, nonce: known.nonce });
        }
        let part = || getrandom::u32().ok();
        let nonce = [part()?, part()?, part()?];
        if let Err(error) = state.remember(FILE, &Remembered { version: 1, nonce }) {
            tracing::warn!(%error, "a restarted agent may get another port of the router");
        }
        Some(Self { port, nonce })
    }

    /// Asks for a mapping, first by what was granted last.
    async fn map(&self, way: Way, before: Option<Granted>) -> Result<Granted, Failure> {
        let outside = before.map(|granted| granted.outside);
        let order = match before.map(|granted| granted.protocol) {
            Some(Protocol::NatPmp) => [Protocol::NatPmp, Protocol::Pcp],
            Some(Protocol::Pcp) | None => [Protocol::Pcp, Protocol::NatPmp],
        };
        match self.map_by(order[0], way, outside).await {
            Err(Failure::Silent(_)) => self.map_by(order[1], way, outside).await,
            answer => answer,
        }
    }

    async fn map_by(&self, protocol: Protocol, way: Way, outside: Option<SocketAddr>) -> Result<Granted, Failure> {
        let (router, udp) = (way.router.into(), InternetProtocol::Udp);
        let options = PortMappingOptions {
            external_port: outside.and_then(|at| NonZeroU16::new(at.port())).or(Some(self.port)),
            lifetime_seconds: Some(LIFETIME),
            timeout_config: Some(PATIENT),
        };
        let said =
            |error: &dyn std::fmt::Display| format!("the router {} refuses to forward a port: {error}", way.router);
        let mute = || Failure::Silent(format!("the router {} answers neither PCP nor NAT-PMP", way.router));
        let granted = |mapping: &PortMapping, ip| Granted {
            protocol,
            outside: SocketAddr::new(ip, mapping.external_port().get()),
            lifetime: Duration::from_secs(mapping.lifetime().into()),
        };
        match protocol {
            Protocol::Pcp => {
                let wish = pcp::BaseMapRequest::new(router, way.own.into(), udp, self.port);
                let asked = pcp::port_mapping(wish, Some(self.nonce), outside.map(|at| at.ip()), options).await;
                let mapping =
                    asked.map_err(|error| if speaks_pcp(&error) { Failure::Refused(said(&error)) } else { mute() })?;
                match mapping.mapping_type() {
                    PortMappingType::Pcp { external_ip, .. } => Ok(granted(&mapping, external_ip)),
                    PortMappingType::NatPmp => Err(mute()),
                }
            }
            Protocol::NatPmp => {
                let failure = |error: natpmp::Failure| match error {
                    natpmp::Failure::Socket(_) | natpmp::Failure::Timeout | natpmp::Failure::InvalidResponse(_) => {
                        mute()
                    }
                    error => Failure::Refused(said(&error)),
                };
                let ip = natpmp::external_address(router, Some(PATIENT)).await.map_err(failure)?;
                let mapping = natpmp::port_mapping(router, udp, self.port, options).await.map_err(failure)?;
                Ok(granted(&mapping, ip.into()))
            }
        }
    }

    /// Takes a mapping back.
    async fn release(&self, way: Way, granted: Granted) {
        let (router, udp) = (way.router.into(), InternetProtocol::Udp);
        let error = match granted.protocol {
            Protocol::Pcp => {
                let range = pcp::DropMappingRange::Single { internal_port: self.port, protocol: udp };
                let asked = pcp::try_drop_mapping(router, way.own.into(), self.nonce, range, Some(HASTY)).await;
                asked.err().map(|error| error.to_string())
            }
            Protocol::NatPmp => {
                let asked = natpmp::try_drop_mapping(router, udp, Some(self.port), Some(HASTY)).await;
                asked.err().map(|error| error.to_string())
            }
        };
        match error {
            None => {
                tracing::info!(router = %way.router, outside = %granted.outside, "the router forwards no port any more")
            }
            Some(error) => {
                tracing::warn!(router = %way.router, outside = %granted.outside, "the router may forward a port still: {error}");
            }
        }
    }
}

/// Whether a failure is the word of a router that knows PCP.
fn speaks_pcp(error: &pcp::Failure) -> bool {
    use pcp::Failure as F;
    !matches!(error, F::Socket(_) | F::Timeout | F::Nonce | F::InvalidResponse(_) | F::UnsupportedVersion(_))
}

/// Keeps a mapping while one is wanted, and tells what stands. Asks at once when the bell rings.
pub(super) async fn keep(port: Port, mut reach: watch::Receiver<Reach>, bell: Arc<Notify>, told: watch::Sender<Shown>) {
    loop {
        if reach.wait_for(|reach| reach.map_port).await.is_err() {
            return;
        }
        let mut mapping = Mapping::default();
        told.send_replace(Some(shown(&mapping)));
        let unwanted = async {
            let _ = reach.wait_for(|reach| !reach.map_port).await;
        };
        tokio::select! {
            () = ask_again(&port, &mut mapping, &bell, &told) => {}
            () = unwanted => {}
        }
        if let Some((way, granted)) = mapping.granted() {
            port.release(way, granted).await;
        }
        told.send_replace(None);
    }
}

async fn ask_again(port: &Port, mapping: &mut Mapping, bell: &Notify, told: &watch::Sender<Shown>) {
    loop {
        let wait = match gateway::way() {
            Some(way) => {
                let before = mapping.granted().filter(|(before, _)| *before == way).map(|(_, granted)| granted);
                let answer = port.map(way, before).await;
                mapping.answered(way, answer, Instant::now())
            }
            None => mapping.no_way(),
        };
        let asked = Instant::now();
        loop {
            tell(mapping, told);
            let until = mapping.expire(Instant::now()).map_or(asked + wait, |lapse| lapse.min(asked + wait));
            tokio::select! {
                () = sleep_until(until) => {}
                () = bell.notified() => {
                    sleep_until(asked + PAUSE).await;
                    break;
                }
            }
            mapping.expire(Instant::now());
            if Instant::now() >= asked + wait {
                break;
            }
        }
    }
}

/// Tells what stands, and writes what is news to the log.
fn tell(mapping: &Mapping, told: &watch::Sender<Shown>) {
    let now = shown(mapping);
    told.send_if_modified(|before| {
        let (outside, error) = before.as_ref().map_or((None, None), |old| (old.outside, old.error.clone()));
        if let (Some(at), true) = (now.outside, now.outside != outside) {
            tracing::info!(outside = %at, router = now.router.map(tracing::field::display), "the router forwards a port");
        }
        if let Some(why) = now.error.as_ref().filter(|_| now.error != error) {
            tracing::warn!("--map-port: {why}");
        }
        before.replace(now.clone()).as_ref() != Some(&now)
    });
}

fn shown(mapping: &Mapping) -> local::PortMapping {
    let granted = mapping.granted();
    local::PortMapping {
        protocol: granted.map(|(_, granted)| match granted.protocol {
            Protocol::Pcp => "pcp".to_owned(),
            Protocol::NatPmp => "nat-pmp".to_owned(),
        }),
        router: granted.map(|(way, _)| way.router),
        outside: granted.map(|(_, granted)| granted.outside),
        error: mapping.error(),
    }
}
