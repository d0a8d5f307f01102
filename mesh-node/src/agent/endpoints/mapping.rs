//! When the router is asked to forward a port, and how long its answer counts. Times are passed in.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use mesh_process::interfaces::reaches_far;
use mesh_proto::endpoint;
use tokio::time::Instant;

use super::gateway::Way;

/// How long a mapping is asked for, in seconds: as long as one lasts that a killed agent leaves.
pub(super) const LIFETIME: u32 = 600;
/// How long an answer counts at most, whatever it says.
const LONGEST: Duration = Duration::from_secs(86_400);
/// A mapping is renewed at half its time, or sooner: a router that was started again has forgotten it.
const CHECK: Duration = Duration::from_secs(60);
/// The least time between two requests, and the most where they are in vain.
const SOONEST: Duration = Duration::from_secs(15);
const LATEST: Duration = Duration::from_secs(600);

/// What a router was asked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// RFC 6887.
    Pcp,
    /// RFC 6886.
    NatPmp,
}

/// What a router has granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) protocol: Protocol,
    /// The address that leads to this runner.
    pub(super) outside: SocketAddr,
    pub(super) lifetime: Duration,
}

/// Why a router has granted nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// There was no answer: what was granted before may stand.
    Silent(String),
    /// It refuses.
    Refused(String),
}

/// What stands, and what there is to say of it.
#[derive(Debug, Default)]
pub(super) struct Mapping {
    held: Option<Held>,
    error: Option<String>,
    /// How often it was asked in vain.
    failures: u32,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    way: Way,
    granted: Granted,
    until: Instant,
}

impl Mapping {
    /// The router has answered, or not. Returns how long to wait before the next request.
    pub(super) fn answered(&mut self, way: Way, answer: Result<Granted, Failure>, now: Instant) -> Duration {
        if self.held.is_some_and(|held| held.way != way) {
            self.held = None;
        }
        match answer.and_then(sensible) {
            Ok(granted) => {
                self.held = Some(Held { way, granted, until: now + granted.lifetime });
                (self.error, self.failures) = (None, 0);
                (granted.lifetime / 2).clamp(SOONEST, CHECK)
            }
            Err(failure) => {
                let error = match failure {
                    Failure::Silent(error) => error,
                    Failure::Refused(error) => {
                        self.held = None;
                        error
                    }
                };
                self.error = Some(error);
                self.expire(now);
                let doubled = SOONEST * 2_u32.saturating_pow(self.failures.min(16));
                self.failures += 1;
                if self.held.is_some() { SOONEST } else { doubled.min(LATEST) }
            }
        }
    }

    /// There is no router to ask.
    pub(super) fn no_way(&mut self) -> Duration {
        *self = Self {
            error: Some("there is no default route by IPv4, so no router to ask".to_owned()),
            ..Self::default()
        };
        CHECK
    }

    /// What has lapsed counts no more. Returns when the rest does.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Instant> {
        self.held = self.held.filter(|held| now < held.until);
        self.held.map(|held| held.until)
    }

    /// What the router forwards to this runner.
    pub(super) fn granted(&self) -> Option<(Way, Granted)> {
        self.held.map(|held| (held.way, held.granted))
    }

    /// What is wrong, in words.
    pub(super) fn error(&self) -> Option<String> {
        let behind = || {
            let outside = self.held?.granted.outside.ip();
            (!reaches_far(outside))
                .then(|| format!("the router itself is behind a NAT: its address outside is {outside}"))
        };
        self.error.clone().or_else(behind)
    }
}

/// A grant, unless it makes no sense.
fn sensible(granted: Granted) -> Result<Granted, Failure> {
    let Granted { outside, lifetime, .. } = granted;
    if lifetime.is_zero() {
        return Err(Failure::Refused("it grants a mapping for no time".to_owned()));
    }
    let IpAddr::V4(_) = outside.ip() else {
        return Err(Failure::Refused(format!("it says that {outside} leads here, which is of another kind")));
    };
    endpoint::check(outside, None)
        .map_err(|why| Failure::Refused(format!("it says that {outside} leads here, which {why}")))?;
    Ok(Granted { lifetime: lifetime.min(LONGEST), ..granted })
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);
    const WAY: Way =
        Way { router: std::net::Ipv4Addr::new(192, 168, 1, 1), own: std::net::Ipv4Addr::new(192, 168, 1, 2) };

    fn granted(outside: &str, seconds: u32) -> Result<Granted, Failure> {
        Ok(Granted { protocol: Protocol::Pcp, outside: outside.parse().unwrap(), lifetime: S * seconds })
    }

    fn silent() -> Result<Granted, Failure> {
        Err(Failure::Silent("no answer".into()))
    }

    fn outside(mapping: &Mapping) -> Option<String> {
        mapping.granted().map(|(_, granted)| granted.outside.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn a_mapping_is_renewed_at_half_its_time_or_each_minute() {
        let (now, mut mapping) = (Instant::now(), Mapping::default());
        for (lifetime, wait) in [(600, 60), (100, 50), (20, 15), (u32::MAX, 60)] {
            assert_eq!(mapping.answered(WAY, granted("198.51.100.7:1", lifetime), now), S * wait, "{lifetime}");
            assert_eq!((outside(&mapping).as_deref(), mapping.error()), (Some("198.51.100.7:1"), None));
        }
        assert_eq!(mapping.expire(now), Some(now + LONGEST), "a day at most");
        mapping.answered(WAY, granted("198.51.100.7:2", 600), now);
        assert_eq!(outside(&mapping).as_deref(), Some("198.51.100.7:2"), "the router has changed it");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_silent_router_has_granted_counts_until_its_end_and_what_it_refuses_does_not() {
        let (now, mut mapping) = (Instant::now(), Mapping::default());
        mapping.answered(WAY, granted("198.51.100.7:1", 600), now);
        assert_eq!(mapping.answered(WAY, silent(), now + 599 * S), SOONEST);
        assert_eq!((outside(&mapping).is_some(), mapping.error().as_deref()), (true, Some("no answer")));
        mapping.answered(WAY, silent(), now + 600 * S);
        assert_eq!(outside(&mapping), None);
        mapping.answered(WAY, granted("198.51.100.7:1", 600), now);
        mapping.answered(WAY, Err(Failure::Refused("not authorized".into())), now + S);
        assert_eq!((outside(&mapping), mapping.error().as_deref()), (None, Some("not authorized")));
        mapping.answered(WAY, granted("198.51.100.7:1", 600), now);
        mapping.answered(Way { router: [10, 0, 0, 1].into(), ..WAY }, silent(), now + S);
        assert_eq!(outside(&mapping), None, "it was another router's");
    }

    #[tokio::test(start_paused = true)]
    async fn a_router_that_maps_nothing_is_asked_less_and_less_often() {
        let (now, mut mapping) = (Instant::now(), Mapping::default());
        let waits: Vec<u64> = (0..40).map(|_| mapping.answered(WAY, silent(), now).as_secs()).collect();
        assert_eq!(waits[..7], [15, 30, 60, 120, 240, 480, 600]);
        assert_eq!(waits[39], 600);
        mapping.answered(WAY, granted("198.51.100.7:1", 600), now);
        assert_eq!(mapping.answered(WAY, silent(), now + 601 * S), SOONEST);
        assert_eq!(mapping.no_way(), CHECK);
        assert!(mapping.error().unwrap().contains("no default route"));
    }

    #[tokio::test(start_paused = true)]
    async fn answers_without_sense_map_nothing() {
        let (now, mut mapping) = (Instant::now(), Mapping::default());
        for (at, lifetime) in [
            ("0.0.0.0:1", 600),
            ("127.0.0.1:1", 600),
            ("224.0.0.1:1", 600),
            ("198.51.100.7:0", 600),
            ("[2001:db8::1]:1", 600),
            ("198.51.100.7:1", 0),
        ] {
            assert_eq!(mapping.answered(WAY, granted("198.51.100.7:1", 600), now), CHECK);
            mapping.answered(WAY, granted(at, lifetime), now);
            assert!(outside(&mapping).is_none() && mapping.error().is_some(), "{at} for {lifetime} s");
        }
        mapping.answered(WAY, granted("10.0.0.7:1", 600), now);
        assert!(mapping.error().unwrap().contains("behind a NAT"));
    }
}
