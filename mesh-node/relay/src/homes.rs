//! At which relays a runner has allocations: at the two nearest, and for a while at those that a peer needs.

use std::time::{Duration, Instant};

use mesh_proto::RelayId;

/// How many relays a runner is at without being asked.
const HOMES: usize = 2;

/// How many it is at because peers need them.
const VISITS: usize = 2;

/// How long an allocation that a peer needed is kept without use.
const VISIT: Duration = Duration::from_secs(300);

/// A relay becomes a home in place of another if it is better by a third and by this much, in three looks in a row.
const BETTER: Duration = Duration::from_millis(10);
const LOOKS: u8 = 3;

/// The time between two looks, while one relay seems better, and otherwise.
const SOON: Duration = Duration::from_secs(30);
const LATER: Duration = Duration::from_secs(300);

/// How far a relay is: a round trip, or `None` if it doesn't answer.
pub type Distance = (RelayId, Option<Duration>);

/// The choice of relays.
#[derive(Debug, Default)]
pub struct Homes {
    homes: Vec<RelayId>,
    visits: Vec<Visit>,
    /// A relay that was better than a home in this many looks.
    better: Option<(RelayId, u8)>,
}

#[derive(Debug)]
struct Visit {
    relay: RelayId,
    used: Instant,
}

impl Homes {
    /// The relays at which there is to be an allocation.
    pub fn wanted(&self) -> impl Iterator<Item = RelayId> {
        self.homes.iter().copied().chain(self.visits.iter().map(|visit| visit.relay))
    }

    /// Whether the runner is at this relay without being asked.
    #[must_use]
    pub fn is_home(&self, relay: RelayId) -> bool {
        self.homes.contains(&relay)
    }

    /// Takes over which relays there are. If there are no more than homes, all of them are.
    pub fn set(&mut self, relays: &[RelayId]) {
        self.homes.retain(|home| relays.contains(home));
        self.visits.retain(|visit| relays.contains(&visit.relay));
        if relays.len() <= HOMES {
            relays.iter().for_each(|relay| self.settle(*relay));
        }
    }

    /// A relay has answered for the first time. The first ones that do are the nearest.
    pub fn answered(&mut self, relay: RelayId) {
        self.settle(relay);
    }

    fn settle(&mut self, relay: RelayId) {
        if self.homes.len() < HOMES && !self.homes.contains(&relay) {
            self.homes.push(relay);
            self.visits.retain(|visit| visit.relay != relay);
        }
    }

    /// Judges how far all relays are, after a look at them. Returns after how long the next look is due.
    pub fn judge(&mut self, distances: &[Distance]) -> Duration {
        let far = |relay: RelayId| distances.iter().find(|(id, _)| *id == relay).and_then(|(_, rtt)| *rtt);
        let others = distances.iter().filter(|(id, _)| !self.homes.contains(id));
        let Some((near, best)) = others.filter_map(|(id, rtt)| Some((*id, (*rtt)?))).min_by_key(|(_, rtt)| *rtt) else {
            self.better = None;
            return LATER;
        };
        let worst = self.homes.iter().copied().max_by_key(|home| far(*home).unwrap_or(Duration::MAX));
        let Some(worst) = worst.filter(|_| self.homes.len() >= HOMES) else {
            self.settle(near);
            return LATER;
        };
        // A home that doesn't answer keeps no relay out that does.
        let looks = match far(worst) {
            None => LOOKS,
            Some(rtt) if best * 3 <= rtt * 2 && best + BETTER <= rtt => {
                self.better.filter(|(relay, _)| *relay == near).map_or(1, |(_, looks)| looks + 1)
            }
            Some(_) => {
                self.better = None;
                return LATER;
            }
        };
        self.better = Some((near, looks));
        if looks >= LOOKS {
            self.homes.retain(|home| *home != worst);
            self.settle(near);
            self.better = None;
            return LATER;
        }
        SOON
    }

    /// A peer can be reached at this relay, and at none of ours. Where there are too many of those, one that turns out to be
    /// of no use makes room. Returns false if there is none.
    pub fn need(&mut self, relay: RelayId, is_vain: impl Fn(RelayId) -> bool, now: Instant) -> bool {
        if self.homes.contains(&relay) {
            return true;
        }
        if !self.visits.iter().any(|visit| visit.relay == relay) {
            if self.visits.len() >= VISITS {
                let Some(vain) = self.visits.iter().position(|visit| is_vain(visit.relay)) else { return false };
                self.visits.remove(vain);
            }
            self.visits.push(Visit { relay, used: now });
        }
        self.used(relay, now);
        true
    }

    /// A datagram went by this relay.
    pub fn used(&mut self, relay: RelayId, now: Instant) {
        if let Some(visit) = self.visits.iter_mut().find(|visit| visit.relay == relay) {
            visit.used = now;
        }
    }

    /// Leaves relays that no peer has needed for five minutes. Returns whether there were any.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        let before = self.visits.len();
        self.visits.retain(|visit| now < visit.used + VISIT);
        self.visits.len() < before
    }

    /// When [`Homes::handle_timeout`] has to be called.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.visits.iter().map(|visit| visit.used + VISIT).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn relays(n: u64) -> Vec<RelayId> {
        (1..=n).map(RelayId).collect()
    }

    fn settled(distances: &[u32]) -> (Homes, Vec<RelayId>) {
        let (mut homes, all) = (Homes::default(), relays(distances.len() as u64));
        homes.set(&all);
        let mut order: Vec<_> = all.iter().zip(distances).collect();
        order.sort_by_key(|(_, ms)| **ms);
        order.iter().for_each(|(relay, _)| homes.answered(**relay));
        (homes, all)
    }

    fn far(all: &[RelayId], ms: &[u32]) -> Vec<Distance> {
        all.iter().zip(ms).map(|(id, ms)| (*id, (*ms > 0).then(|| MS * *ms))).collect()
    }

    fn wanted(homes: &Homes) -> Vec<u64> {
        let mut wanted: Vec<u64> = homes.wanted().map(|relay| relay.0).collect();
        wanted.sort_unstable();
        wanted
    }

    #[test]
    fn the_two_that_answer_first_are_home() {
        assert_eq!(wanted(&settled(&[30, 10, 20, 5]).0), [2, 4]);
        let mut homes = Homes::default();
        homes.set(&relays(1));
        assert_eq!(wanted(&homes), [1], "without a look, where there is no choice");
        homes.set(&relays(3));
        assert_eq!(wanted(&homes), [1]);
    }

    #[test]
    fn a_home_is_left_only_for_a_much_better_relay_three_times_in_a_row() {
        let (mut homes, all) = settled(&[10, 40, 50]);
        for _ in 0..9 {
            assert_eq!(homes.judge(&far(&all, &[10, 40, 28])), LATER, "12 ms better, and not by a third");
            assert_eq!(homes.judge(&far(&all, &[10, 40, 20])), SOON);
            assert_eq!(homes.judge(&far(&all, &[10, 40, 20])), SOON);
        }
        assert_eq!(wanted(&homes), [1, 2]);
        homes.judge(&far(&all, &[1, 8, 50]));
        assert_eq!(homes.judge(&far(&all, &[1, 8, 2])), LATER, "by a third, and not by 10 ms");
        for _ in 0..3 {
            homes.judge(&far(&all, &[10, 40, 20]));
        }
        assert_eq!(wanted(&homes), [1, 3]);
    }

    #[test]
    fn a_home_that_is_silent_is_left_at_once() {
        let (mut homes, all) = settled(&[10, 40, 50]);
        homes.judge(&far(&all, &[0, 40, 500]));
        assert_eq!(wanted(&homes), [2, 3]);
        homes.judge(&far(&all, &[0, 0, 0]));
        assert_eq!(wanted(&homes), [2, 3], "nowhere to go");
    }

    #[test]
    fn a_relay_that_a_peer_needs_is_kept_while_it_is_used() {
        let (mut homes, _) = settled(&[10, 20, 30, 40, 50]);
        let start = Instant::now();
        let all_work = |_| false;
        assert!(homes.need(RelayId(3), all_work, start) && homes.need(RelayId(4), all_work, start));
        assert!(!homes.need(RelayId(5), all_work, start), "a peer can't send us everywhere");
        assert_eq!(wanted(&homes), [1, 2, 3, 4]);
        homes.used(RelayId(4), start + Duration::from_secs(200));
        assert!(homes.handle_timeout(start + VISIT));
        assert_eq!(wanted(&homes), [1, 2, 4]);
        assert_eq!(homes.next_timeout(), Some(start + Duration::from_secs(500)));
        homes.set(&relays(3));
        assert_eq!(wanted(&homes), [1, 2]);
    }

    #[test]
    fn a_relay_that_does_not_answer_makes_room_for_another_that_a_peer_needs() {
        let (mut homes, _) = settled(&[10, 20, 30, 40, 50, 60]);
        let (start, is_vain) = (Instant::now(), |relay| relay == RelayId(3));
        assert!(homes.need(RelayId(3), is_vain, start) && homes.need(RelayId(4), is_vain, start));
        assert!(homes.need(RelayId(5), is_vain, start));
        assert_eq!(wanted(&homes), [1, 2, 4, 5]);
        assert!(!homes.need(RelayId(6), is_vain, start));
    }
}
