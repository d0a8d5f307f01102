//! The address at which the outside sees this runner, by what relays say. It outlives them for an hour.

use std::{net::IpAddr, time::Duration};

use tokio::time::Instant;

use super::names::KEPT;
use crate::dataplane::RelayNews;

/// The most addresses: relays may lie, and a network may have several ways out.
const MAX: usize = 4;
/// How long relays may take to say it.
const PATIENCE: Duration = Duration::from_secs(15);

/// The addresses.
#[derive(Debug)]
pub(super) struct Seen {
    began: Instant,
    said: Option<Instant>,
    addresses: Vec<IpAddr>,
}

impl Seen {
    pub(super) fn new(now: Instant) -> Self {
        Self { began: now, said: None, addresses: vec![] }
    }

    /// Relays have news. Returns whether the outside sees another address.
    pub(super) fn learn(&mut self, news: &RelayNews, now: Instant) -> bool {
        let mut addresses: Vec<IpAddr> = vec![];
        for seen in news.reports.iter().filter_map(|report| report.reflexive) {
            let ip = seen.ip().to_canonical();
            if !addresses.contains(&ip) && addresses.len() < MAX {
                addresses.push(ip);
            }
        }
        if addresses.is_empty() {
            return false;
        }
        addresses.sort_unstable();
        self.said = Some(now);
        std::mem::replace(&mut self.addresses, addresses) != self.addresses
    }

    /// The addresses; `None` while it is too early to say that there are none.
    pub(super) fn addresses(&self, now: Instant) -> Option<&[IpAddr]> {
        match self.said {
            Some(said) if now < said + KEPT => Some(&self.addresses),
            None if now < self.began + PATIENCE => None,
            _ => Some(&[]),
        }
    }
}

#[cfg(test)]
mod tests {
    use mesh_proto::RelayId;
    use mesh_relay_client::{RelayReport, Transport};

    use super::*;

    fn news(seen: &[&str]) -> RelayNews {
        let report = |text: &&str| RelayReport {
            id: RelayId(1),
            address: None,
            transport: Transport::Datagram,
            standing: None,
            rtt: None,
            reflexive: (!text.is_empty()).then(|| text.parse().unwrap()),
        };
        RelayNews { relayed: vec![], reports: seen.iter().map(report).collect() }
    }

    #[tokio::test(start_paused = true)]
    async fn what_relays_said_last_counts_for_an_hour() {
        let now = Instant::now();
        let mut seen = Seen::new(now);
        assert_eq!(seen.addresses(now), None, "they may say it yet");
        assert_eq!(seen.addresses(now + PATIENCE), Some(&[][..]));
        assert!(seen.learn(&news(&["198.51.100.7:1", "[::ffff:198.51.100.7]:2", ""]), now));
        let known = ["198.51.100.7".parse::<IpAddr>().unwrap()];
        assert_eq!(seen.addresses(now), Some(&known[..]));
        assert!(!seen.learn(&news(&[""]), now + PATIENCE) && !seen.learn(&news(&["198.51.100.7:9"]), now));
        assert_eq!(seen.addresses(now + KEPT - PATIENCE), Some(&known[..]));
        assert_eq!(seen.addresses(now + KEPT), Some(&[][..]));
        let many: Vec<String> = (1..9).map(|n| format!("198.51.100.{n}:1")).collect();
        assert!(seen.learn(&news(&many.iter().map(String::as_str).collect::<Vec<_>>()), now));
        assert_eq!(seen.addresses(now).unwrap().len(), MAX);
    }
}
