//! What has just left the map: what comes from there for a while is late, and nothing to worry about.

use std::{
    collections::VecDeque,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use mesh_proto::PublicKey;

/// How long a runner may go on before it has heard that it is not to: the time for which a handshake is tried.
const GRACE: Duration = Duration::from_secs(120);

/// How many of a kind are remembered.
const REMEMBERED: usize = 256;

/// The latest of a kind that have left.
#[derive(Debug)]
pub(crate) struct Recent<T>(VecDeque<(Instant, T)>);

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T: PartialEq> Recent<T> {
    /// It has left.
    pub(crate) fn note(&mut self, one: T, now: Instant) {
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((now, one));
    }

    /// Whether it left a moment ago.
    pub(crate) fn holds(&self, one: &T, now: Instant) -> bool {
        let lately = |then: Instant| now.saturating_duration_since(then) < GRACE;
        self.0.iter().rev().take_while(|(then, _)| lately(*then)).any(|(_, other)| other == one)
    }
}

/// Runners, by key and by the sessions that they had, and addresses.
#[derive(Debug, Default)]
pub(crate) struct Departed {
    pub(crate) keys: Recent<PublicKey>,
    pub(crate) sessions: Recent<u32>,
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
