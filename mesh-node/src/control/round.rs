//! Which of the coordinator's URLs are tried next. A round tries each once, in a random order, so that runners spread over
//! several coordinators. Only after a whole round is there a pause.

use mesh_link::Url;

/// What is left of a round.
#[derive(Debug, Default)]
pub(super) struct Round {
    all: Vec<Url>,
    left: Vec<Url>,
}

impl Round {
    /// From now on, these are all. New ones are tried first.
    pub(super) fn know(&mut self, urls: Vec<Url>) {
        if self.all == urls {
            return;
        }
        self.left.retain(|url| urls.contains(url));
        // Otherwise the next round has them.
        if !self.left.is_empty() {
            let new: Vec<Url> = urls.iter().filter(|url| !self.all.contains(url)).cloned().collect();
            self.left.splice(0..0, new);
        }
        self.all = urls;
    }

    /// The URLs to try now: those that are left, or all of them in the next round.
    pub(super) fn urls(&mut self, random: impl FnMut() -> u64) -> &[Url] {
        if self.left.is_empty() {
            self.left = shuffled(self.all.clone(), random);
        }
        &self.left
    }

    /// A long stream to this URL has ended. The next round begins with the others.
    pub(super) fn lost(&mut self, url: &Url, random: impl FnMut() -> u64) {
        let (mut this, others) = self.all.iter().cloned().partition(|other| other == url);
        self.left = shuffled(others, random);
        self.left.append(&mut this);
    }

    /// This URL was of no use. Returns whether others are left.
    pub(super) fn failed(&mut self, url: &Url) -> bool {
        self.left.retain(|other| other != url);
        !self.left.is_empty()
    }

    /// None of those that are left is of use.
    pub(super) fn all_failed(&mut self) {
        self.left.clear();
    }
}

/// In another order (Fisher and Yates).
fn shuffled(mut urls: Vec<Url>, mut random: impl FnMut() -> u64) -> Vec<Url> {
    for last in (1..urls.len()).rev() {
        let other = usize::try_from(random() % (last as u64 + 1)).unwrap_or(last);
        urls.swap(last, other);
    }
    urls
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn urls(names: &[&str]) -> Vec<Url> {
        names.iter().map(|name| format!("https://{name}:7443").parse().unwrap()).collect()
    }

    fn round_of(urls: Vec<Url>) -> Round {
        let mut round = Round::default();
        round.know(urls);
        round
    }

    #[test]
    fn those_that_the_agent_is_told_of_are_tried_next_and_those_that_are_gone_are_not() {
        let mut round = round_of(urls(&["a", "b"]));
        let first = round.urls(numbers(1))[0].clone();
        assert!(round.failed(&first));
        let other = urls(&["a", "b"]).into_iter().find(|url| *url != first).unwrap();
        let all: Vec<Url> = [other.clone()].into_iter().chain(urls(&["c"])).collect();
        round.know(all.clone());
        assert_eq!(round.urls(numbers(2)), [urls(&["c"])[0].clone(), other]);
        round.know(all);
        assert_eq!(round.urls(numbers(3)).len(), 2, "nothing is new");
        round.know(urls(&["d"]));
        assert_eq!(round.urls(numbers(4)), urls(&["d"]));
    }

    /// Numbers that differ, from a seed (splitmix64).
    fn numbers(seed: u64) -> impl FnMut() -> u64 {
        let mut state = seed;
        move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }
    }

    #[test]
    fn a_round_tries_each_once_and_every_order_occurs() {
        let all = urls(&["a", "b", "c"]);
        let mut orders = BTreeSet::new();
        for seed in 0..100 {
            let mut round = round_of(all.clone());
            let order = round.urls(numbers(seed)).to_vec();
            orders.insert(format!("{order:?}"));
            assert!(round.failed(&order[0]), "two are left");
            assert_eq!(round.urls(numbers(seed)), &order[1..], "the same round goes on");
            assert!(round.failed(&order[1]) && !round.failed(&order[2]), "the round is over");
            assert_eq!(round.urls(numbers(seed)).len(), 3);
            round.all_failed();
            assert_eq!(round.urls(numbers(seed)).len(), 3);
        }
        assert_eq!(orders.len(), 6);
    }

    #[test]
    fn after_a_long_stream_the_others_come_first() {
        let all = urls(&["a", "b", "c"]);
        for seed in 0..100 {
            let mut round = round_of(all.clone());
            round.urls(numbers(seed));
            round.lost(&all[1], numbers(seed));
            assert_eq!(round.urls(numbers(seed)).last(), Some(&all[1]));
            assert!(round.failed(&all[1]), "it was the one that ended, so only the others are tried at once");
            assert_eq!(round.urls(numbers(seed)).len(), 2);
        }
        // With one URL, each attempt is a round.
        let mut round = round_of(urls(&["a"]));
        round.urls(numbers(1));
        round.lost(&all[0], numbers(1));
        assert!(!round.failed(&all[0]));
        assert_eq!(round.urls(numbers(1)), &all[..1]);
    }
}
