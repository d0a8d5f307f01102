//! What a watch tells, put together to commits. Pure: etcd loses and doubles events in some versions, so each commit is
//! held to what its head says of it.

use std::collections::BTreeMap;

use super::{
    commit::known,
    layout::{Layout, Named, Texts},
    position::Known,
    wire::Event,
};
use crate::store::StoreError;

/// What was told of one commit.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    /// Its head.
    pub known: Known,
    /// Its changes.
    pub what: What,
}

/// The changes of a commit.
#[derive(Debug, PartialEq, Eq)]
pub enum What {
    /// They are all there.
    Whole(Texts),
    /// They are in parts, which have to be read.
    InParts,
    /// Some were lost on the way.
    Lost,
}

/// The commits of one message, in order. Each of etcd's revisions is within one message.
///
/// # Errors
/// If a head can't be read, or was deleted.
pub fn commits(layout: &Layout, events: &[Event]) -> Result<Vec<Told>, StoreError> {
    let mut revisions: BTreeMap<i64, (Option<Known>, Texts)> = BTreeMap::new();
    for event in events {
        let Some(kv) = &event.kv else { continue };
        let is_deleted = event.kind == 1;
        let (head, texts) = revisions.entry(kv.mod_revision).or_default();
        match layout.named(&kv.key) {
            Named::Head if is_deleted => return Err(StoreError::PutBack),
            Named::Head => *head = Some(known(layout, kv)?),
            Named::Record(key) => {
                let text = if is_deleted {
                    None
                } else {
                    let damaged = |_| StoreError::Damaged(format!("the record `{key}` is no text"));
                    Some(String::from_utf8(kv.value.clone()).map_err(damaged)?)
                };
                texts.0.insert(key.to_owned(), text);
            }
            Named::Member(_) | Named::Other => {}
        }
    }
    let told = revisions.into_values().filter_map(|(head, texts)| {
        // Without a head, a part was folded into the records.
        let known = head?;
        let what = match known.top.parts {
            0 if known.top.is_of(&texts) => What::Whole(texts),
            0 => What::Lost,
            _ => What::InParts,
        };
        Some(Told { known, what })
    });
    Ok(told.collect())
}

#[cfg(test)]
mod tests {
    use mesh_model::{Change, record::Key};

    use super::{
        super::{
            commit::plan,
            wire::{KeyValue, Request},
        },
        *,
    };
    use crate::testing::{draft, put};

    fn layout() -> Layout {
        Layout::new("mesh")
    }

    /// The commit of these changes after `before`, and what a watch tells of it.
    fn committed(before: Option<&Known>, changes: Vec<Change>, at: i64) -> (Known, Vec<Event>) {
        let plan = plan(&layout(), before, &draft(changes)).unwrap();
        let event = |kind, key, value| Event {
            kind,
            kv: Some(KeyValue { key, value, mod_revision: at, ..KeyValue::default() }),
        };
        let events = plan.swap.success.into_iter().filter_map(|op| match op.request? {
            Request::Put(put) => Some(event(0, put.key, put.value)),
            Request::Delete(delete) => Some(event(1, delete.key, vec![])),
            Request::Range(_) => None,
        });
        (Known { top: plan.top, at }, events.collect())
    }

    #[test]
    fn commits_are_told_whole_and_in_order() {
        let changes = |n| vec![put(n), put(n + 1), Change::Delete(Key::Audit(n + 5))];
        let (first, mut events) = committed(None, changes(1), 4);
        let (second, more) = committed(Some(&first), changes(2), 7);
        events.extend(more.iter().cloned());
        // A doubled event changes nothing, and neither does one of another key.
        events.push(more[1].clone());
        let kv = KeyValue { key: b"mesh/active".to_vec(), mod_revision: 9, ..KeyValue::default() };
        events.push(Event { kind: 0, kv: Some(kv) });
        let told = commits(&layout(), &events).unwrap();
        assert_eq!(told.iter().map(|told| told.known).collect::<Vec<_>>(), [first, second]);
        for (told, n) in told.iter().zip([1, 2]) {
            let What::Whole(texts) = &told.what else { panic!("{told:?}") };
            let mut expected = changes(n);
            expected.sort_by_key(|change| change.key().to_string());
            assert_eq!(texts.changes().unwrap(), expected);
        }
    }

    #[test]
    fn a_lost_or_changed_event_is_noticed() {
        let (_, events) = committed(None, vec![put(1), put(2), Change::Delete(Key::Audit(3))], 4);
        for lost in 1..events.len() {
            let mut rest = events.clone();
            rest.remove(lost);
            assert_eq!(commits(&layout(), &rest).unwrap()[0].what, What::Lost, "{lost}");
        }
        let mut other = events;
        other[1].kv.as_mut().unwrap().value = serde_json::to_vec("another text").unwrap();
        assert_eq!(commits(&layout(), &other).unwrap()[0].what, What::Lost);
    }

    #[test]
    fn a_big_commit_is_told_by_its_head_and_folding_it_is_no_commit() {
        let (known, events) = committed(None, (0..500).map(put).collect(), 9);
        assert_eq!(commits(&layout(), &events).unwrap(), [Told { known, what: What::InParts }]);
        let folded = committed(None, vec![put(1)], 10).1.split_off(1);
        assert_eq!(commits(&layout(), &folded).unwrap(), []);
    }

    #[test]
    fn a_head_that_is_deleted_is_a_database_that_is_gone() {
        let kv = KeyValue { key: b"mesh/head".to_vec(), mod_revision: 3, ..KeyValue::default() };
        assert_eq!(commits(&layout(), &[Event { kind: 1, kv: Some(kv) }]), Err(StoreError::PutBack));
    }
}
