//! The answers that are kept: found, and forgotten, without a look at all of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mesh_model::Via;
use tokio::time::Instant;

use super::{ANSWERS, Answer, BYTES, KEPT, Request};

/// All that is kept.
#[derive(Default)]
pub(super) struct Kept {
    of: BTreeMap<Via, Own>,
    /// The entries with an answer, those that are forgotten first in front.
    due: BTreeMap<(Instant, u64), Via>,
    /// How many bytes each has, the largest last.
    sizes: BTreeSet<(usize, Via)>,
    bytes: usize,
    /// The number of the next entry.
    next: u64,
}

/// What is kept for one, the oldest in front: at most [`ANSWERS`].
#[derive(Default)]
struct Own {
    entries: VecDeque<Entry>,
    bytes: usize,
}

struct Entry {
    number: u64,
    key: String,
    request: Request,
    /// `None`: it is being carried out.
    answer: Option<(Answer, Instant)>,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.answer.as_ref().map_or(0, |(answer, _)| answer.bytes.len())
    }
}

impl Kept {
    /// What was asked with this key, and its answer if there is one.
    pub(super) fn find(&self, by: Via, key: &str) -> Option<(&Request, Option<&Answer>)> {
        let entry = self.of.get(&by)?.entries.iter().find(|entry| entry.key == key)?;
        Some((&entry.request, entry.answer.as_ref().map(|(answer, _)| answer)))
    }

    /// A request begins to be carried out.
    pub(super) fn begin(&mut self, by: Via, key: &str, request: Request) {
        let number = self.next;
        self.next += 1;
        let own = self.of.entry(by).or_default();
        own.entries.push_back(Entry { number, key: key.to_owned(), request, answer: None });
        if own.entries.len() > ANSWERS {
            self.drop_oldest(by);
        }
    }

    /// Its answer is there.
    pub(super) fn finish(&mut self, by: Via, key: &str, answer: Answer, now: Instant) {
        let size = answer.bytes.len();
        let own = self.of.get_mut(&by);
        let entry = own.and_then(|own| own.entries.iter_mut().find(|entry| entry.key == key));
        let Some(entry) = entry.filter(|entry| entry.answer.is_none()) else { return };
        entry.answer = Some((answer, now));
        self.due.insert((now, entry.number), by);
        self.resize(by, |bytes| bytes + size);
        while self.bytes > BYTES {
            let Some((_, largest)) = self.sizes.last() else { break };
            self.drop_oldest(*largest);
        }
    }

    /// It was not carried out, or its answer isn't one to keep: the key is free again.
    pub(super) fn release(&mut self, by: Via, key: &str) {
        if let Some(own) = self.of.get_mut(&by) {
            own.entries.retain(|entry| entry.key != key || entry.answer.is_some());
            if own.entries.is_empty() {
                self.of.remove(&by);
            }
        }
    }

    /// Drops answers that were kept for long enough.
    pub(super) fn forget(&mut self, now: Instant) {
        while let Some((&(at, number), &by)) = self.due.first_key_value() {
            if now.saturating_duration_since(at) < KEPT {
                break;
            }
            self.drop_where(by, |entry| entry.number == number);
        }
    }

    fn drop_oldest(&mut self, by: Via) {
        self.drop_where(by, |_| true);
    }

    /// Drops the first entry of which that holds.
    fn drop_where(&mut self, by: Via, is_it: impl Fn(&Entry) -> bool) {
        let Some(own) = self.of.get_mut(&by) else { return };
        let at = own.entries.iter().position(is_it);
        let Some(entry) = at.and_then(|at| own.entries.remove(at)) else { return };
        if let Some((_, at)) = &entry.answer {
            self.due.remove(&(*at, entry.number));
        }
        let size = entry.bytes();
        self.resize(by, |bytes| bytes - size);
        if self.of.get(&by).is_some_and(|own| own.entries.is_empty()) {
            self.of.remove(&by);
        }
    }

    fn resize(&mut self, by: Via, size: impl Fn(usize) -> usize) {
        let Some(own) = self.of.get_mut(&by) else { return };
        let (before, after) = (own.bytes, size(own.bytes));
        own.bytes = after;
        self.bytes = self.bytes - before + after;
        self.sizes.remove(&(before, by));
        if after > 0 {
            self.sizes.insert((after, by));
        }
    }

    /// The bytes that are kept, if all that is counted agrees with what there is.
    #[cfg(test)]
    pub(super) fn checked_bytes(&self) -> usize {
        let of = |own: &Own| own.entries.iter().map(Entry::bytes).sum::<usize>();
        assert!(self.of.values().all(|own| own.bytes == of(own) && (1..=ANSWERS).contains(&own.entries.len())));
        let sizes: BTreeSet<_> =
            self.of.iter().map(|(by, own)| (own.bytes, *by)).filter(|(size, _)| *size > 0).collect();
        assert_eq!((&self.sizes, self.bytes), (&sizes, self.of.values().map(of).sum()));
        let answered = self.of.values().flat_map(|own| &own.entries).filter(|entry| entry.answer.is_some()).count();
        assert_eq!(self.due.len(), answered);
        self.bytes
    }
}
