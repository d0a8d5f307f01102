//! The order of requests: the operator's first, then the teams' in turn, and within a team its members' in turn. A
//! tenant with many requests waits for its own; one with few comes after one request of each other tenant.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::Arc,
};

use crate::tenant::{Tenant, Who};

/// The account that a request counts for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lane {
    /// The coordinator's own requests, and the operator's at the socket.
    First,
    /// A runner's or token's.
    Tenant(Tenant),
}

/// Waiting requests.
#[derive(Debug)]
pub(crate) struct Fair<T> {
    first: VecDeque<T>,
    teams: Turns<Arc<str>, Turns<Who, VecDeque<T>>>,
}

impl<T> Default for Fair<T> {
    fn default() -> Self {
        Self { first: VecDeque::new(), teams: Turns::default() }
    }
}

impl<T> Fair<T> {
    pub(crate) fn push(&mut self, lane: &Lane, item: T) {
        match lane {
            Lane::First => self.first.push_back(item),
            Lane::Tenant(tenant) => {
                self.teams.at(tenant.team.clone()).at(tenant.who).push_back(item);
            }
        }
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        self.first.pop_front().or_else(|| {
            self.teams.turn(|team| {
                let item = team.turn(|own| (own.pop_front(), own.is_empty()));
                (item, team.order.is_empty())
            })
        })
    }
}

/// Values whose keys get turns, in the order of these turns.
#[derive(Debug)]
struct Turns<K, V> {
    order: VecDeque<K>,
    waiting: HashMap<K, V>,
}

impl<K, V> Default for Turns<K, V> {
    fn default() -> Self {
        Self { order: VecDeque::new(), waiting: HashMap::new() }
    }
}

impl<K: Clone + Eq + Hash, V: Default> Turns<K, V> {
    fn at(&mut self, key: K) -> &mut V {
        if !self.waiting.contains_key(&key) {
            self.order.push_back(key.clone());
        }
        self.waiting.entry(key).or_default()
    }

    /// Takes from the next value. `take` also returns whether the value is used up.
    fn turn<T>(&mut self, take: impl FnOnce(&mut V) -> (Option<T>, bool)) -> Option<T> {
        let key = self.order.pop_front()?;
        let (item, empty) = take(self.waiting.get_mut(&key)?);
        if empty {
            self.waiting.remove(&key);
        } else {
            self.order.push_back(key);
        }
        item
    }
}

#[cfg(test)]
mod tests {
    use mesh_proto::RunnerId;

    use super::*;

    fn of(team: &str, runner: u64) -> Lane {
        Lane::Tenant(Tenant { team: team.into(), who: Who::Runner(RunnerId(runner)) })
    }

    fn all(mut fair: Fair<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| fair.pop()).collect()
    }

    #[test]
    fn a_tenant_with_few_requests_waits_for_one_of_each_of_the_others() {
        let mut fair = Fair::default();
        for _ in 0..100 {
            fair.push(&of("loud", 1), "loud");
        }
        fair.push(&of("loud", 2), "its neighbour");
        fair.push(&of("quiet", 3), "quiet");
        fair.push(&Lane::First, "operator");
        assert_eq!(all(fair)[..4], ["operator", "loud", "quiet", "its neighbour"]);
    }

    #[test]
    fn many_runners_of_a_team_have_no_more_than_one_of_another_team() {
        let mut fair = Fair::default();
        for runner in 0..50 {
            fair.push(&of("loud", runner), "loud");
            fair.push(&of("loud", runner), "loud");
        }
        for _ in 0..3 {
            fair.push(&of("quiet", 99), "quiet");
        }
        assert_eq!(all(fair)[..6], ["loud", "quiet", "loud", "quiet", "loud", "quiet"]);
    }

    #[test]
    fn the_order_of_each_is_kept_and_nothing_is_left_behind() {
        let mut fair = Fair::default();
        for item in ["one", "two", "three"] {
            fair.push(&of("a", 1), item);
        }
        assert_eq!((fair.pop(), fair.pop()), (Some("one"), Some("two")));
        fair.push(&of("a", 1), "four");
        assert_eq!(fair.pop(), Some("three"));
        assert_eq!(fair.pop(), Some("four"));
        assert!(fair.pop().is_none() && fair.teams.order.is_empty() && fair.teams.waiting.is_empty());
    }
}
