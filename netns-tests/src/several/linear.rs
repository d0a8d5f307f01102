//! Whether a history has an order: Wing and Gong's search (Testing and Verifying Concurrent Objects, 1993) with Lowe's memory
//! of where it was (Testing for Linearizability, 2017). Pure.

use std::collections::{BTreeSet, HashSet};

/// What a client did to one object, or saw of it. An object holds a set of values; no value is written twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// From then on it holds this alone.
    Put(u32),
    /// From then on it holds this as well.
    Add(u32),
    /// From then on it holds nothing.
    Clear,
    /// It held exactly these.
    Saw(BTreeSet<u32>),
}

/// An act, with when it began and when its answer came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it was.
    pub act: Act,
    /// When the client began it.
    pub from: u64,
    /// When the client had the answer that it was done; `None`: there was none. It may have taken effect at any time since, or never.
    pub to: Option<u64>,
}

/// What the search has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order of all acts, each between its beginning and its end, in which each sees what was there.
    Fits,
    /// There is none.
    Contradicts,
    /// The search has come to its limit.
    Undecided,
}

/// A place of the search: which acts were ordered, and what the object holds after them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    done: Vec<u64>,
    holds: BTreeSet<u32>,
}

impl Place {
    fn has(&self, number: usize) -> bool {
        self.done[number / 64] & (1 << (number % 64)) != 0
    }

    fn after(&self, number: usize, holds: BTreeSet<u32>) -> Self {
        let mut done = self.done.clone();
        done[number / 64] |= 1 << (number % 64);
        Self { done, holds }
    }
}

/// Looks for an order of an object's history, which begins with nothing in it. At most `limit` places are gone through.
#[must_use]
pub fn check(history: &[Entry], limit: usize) -> Verdict {
    let entries = of_interest(history);
    let mut known = HashSet::new();
    let mut open = vec![Place { done: vec![0; entries.len() / 64 + 1], holds: BTreeSet::new() }];
    while let Some(place) = open.pop() {
        if entries.iter().enumerate().all(|(number, entry)| entry.to.is_none() || place.has(number)) {
            return Verdict::Fits;
        }
        if known.contains(&place) {
            continue;
        }
        if known.len() >= limit {
            return Verdict::Undecided;
        }
        open.extend(next(&entries, &place));
        known.insert(place);
    }
    Verdict::Contradicts
}

/// The acts by their beginning, without those of unknown outcome that left no trace: a value that was never seen need never
/// have been there.
fn of_interest(history: &[Entry]) -> Vec<&Entry> {
    let seen: BTreeSet<u32> = history
        .iter()
        .filter_map(|entry| match &entry.act {
            Act::Saw(values) => Some(values),
            _ => None,
        })
        .flatten()
        .copied()
        .collect();
    let counts = |entry: &&Entry| match &entry.act {
        Act::Put(value) | Act::Add(value) => entry.to.is_some() || seen.contains(value),
        Act::Clear => true,
        Act::Saw(_) => entry.to.is_some(),
    };
    let mut entries: Vec<&Entry> = history.iter().filter(counts).collect();
    entries.sort_by_key(|entry| entry.from);
    entries
}

/// The places to go to from here, the most promising last: that of the act which had to be done first.
fn next(entries: &[&Entry], place: &Place) -> Vec<Place> {
    let left = || entries.iter().enumerate().filter(|(number, _)| !place.has(*number));
    let end = |entry: &Entry| entry.to.unwrap_or(u64::MAX);
    let first_end = left().map(|(_, entry)| end(entry)).min().unwrap_or(u64::MAX);
    let mut ready: Vec<(usize, &&Entry)> = left().filter(|(_, entry)| entry.from <= first_end).collect();
    // A look that fits changes nothing. To take it at once excludes no order.
    let fits = |entry: &Entry| matches!(&entry.act, Act::Saw(values) if *values == place.holds);
    if let Some((number, _)) = ready.iter().find(|(_, entry)| fits(entry)) {
        return vec![place.after(*number, place.holds.clone())];
    }
    ready.sort_by_key(|(_, entry)| std::cmp::Reverse(end(entry)));
    let mut cleared = false;
    ready
        .into_iter()
        .filter_map(|(number, entry)| {
            let holds = match &entry.act {
                // Of those of unknown outcome one is as good as another.
                Act::Clear if entry.to.is_none() && std::mem::replace(&mut cleared, true) => return None,
                Act::Clear => BTreeSet::new(),
                Act::Put(value) => BTreeSet::from([*value]),
                Act::Add(value) => place.holds.iter().copied().chain([*value]).collect(),
                Act::Saw(_) => return None,
            };
            Some(place.after(number, holds))
        })
        .collect()
}
