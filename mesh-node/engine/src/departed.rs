//! Runners, sessions and addresses that have just left the map. Their packets are late and harmless.

use std::{
    collections::VecDeque,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use mesh_proto::PublicKey;

use crate::tunnel::TunnelIx;

/// How long a runner may go on until it learns that it has been removed: as long as a handshake is tried.
const GRACE: Duration = Duration::from_secs(120);

/// How many of each kind are remembered.
const REMEMBERED: usize = 256;

/// The latest departures of one kind.
#[derive(Debug)]
pub(crate) struct Recent<T>(VecDeque<(Instant, T)>);

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T: PartialEq> Recent<T> {
    /// Notes a departure.
    pub(crate) fn note(&mut self, one: T, now: Instant) {
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((now, one));
    }

    /// Whether it has left lately.
    pub(crate) fn holds(&self, one: &T, now: Instant) -> bool {
        let lately = |then: Instant| now.saturating_duration_since(then) < GRACE;
        self.0.iter().rev().take_while(|(then, _)| lately(*then)).any(|(_, other)| other == one)
    }
}

/// Runners by key and by session, and addresses.
#[derive(Debug, Default)]
pub(crate) struct Departed {
    pub(crate) keys: Recent<PublicKey>,
    pub(crate) sessions: Recent<TunnelIx>,
    pub(crate) addresses: Recent<Ipv4Addr>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_left_is_remembered_for_a_while_and_so_many() {
        let (start, mut recent) = (Instant::now(), Recent::default());
        recent.note(1, start);
        assert!(recent.holds(&1, start) && !recent.holds(&2, start) && !recent.holds(&1, start + GRACE));
        (2..1000).for_each(|one| recent.note(one, start));
        assert!(recent.0.len() == REMEMBERED && recent.holds(&999, start) && !recent.holds(&1, start));
    }
}
