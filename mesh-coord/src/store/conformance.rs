//! Tests that every store has to pass.

use std::sync::Arc;

use mesh_model::{
    Change, Record, RunningSeconds, UnixSeconds,
    record::{Audit, By, Calls, Key, Verdict},
};
use mesh_proto::{Epoch, Revision, ServiceId};

use super::{Commit, Draft, Head, Loaded, MemoryStore, Nonce, SqliteStore, Store, StoreError, etcd::lab::Etcd};
use crate::data::scratch::Scratch;

/// Any record.
pub(crate) fn put(number: u64) -> Change {
    Change::Put(Record::Audit(Arc::new(Audit {
        number,
        at: UnixSeconds(number),
        by: By::Socket { uid: 0 },
        action: "apply".to_owned(),
        detail: "日本 \"quoted\" '; DROP TABLE record".to_owned(),
        result: Verdict::Done,
        by_name: None,
        by_team: None,
        team: None,
        object: None,
        runner: None,
    })))
}

/// A record of a kind that older programs don't know.
fn calls(caller: u64) -> Change {
    Change::Put(Record::Calls(Arc::new(Calls { caller: ServiceId(caller), callees: vec![] })))
}

/// A commit of these changes.
pub(crate) fn draft(changes: Vec<Change>) -> Draft {
    Draft { changes, epoch: Epoch([7; 16]), running: RunningSeconds(9), nonce: NONCE, right: None }
}

/// What watchers receive of it.
fn commit(revision: u64, changes: Vec<Change>) -> Commit {
    let Draft { changes, epoch, running, nonce, .. } = draft(changes);
    Commit { revision: Revision(revision), nonce, epoch, running, changes: changes.into() }
}

const NONCE: Nonce = Nonce(u64::MAX - 1);

fn delete(number: u64) -> Change {
    Change::Delete(Key::Audit(number))
}

async fn contents(store: &impl Store) -> (Revision, Vec<Key>) {
    let Loaded { head: Head { revision, .. }, records } = store.load().await.unwrap();
    let mut keys: Vec<Key> = records.iter().map(Record::key).collect();
    keys.sort();
    (revision, keys)
}

async fn a_new_store_is_empty(store: impl Store) {
    assert_eq!(contents(&store).await, (Revision(0), vec![]));
}

async fn the_head_is_what_the_last_commit_has_written(store: impl Store) {
    let head = |revision, epoch: Option<u8>, running| Head {
        revision: Revision(revision),
        epoch: epoch.map(|byte| Epoch([byte; 16])),
        running: RunningSeconds(running),
    };
    assert_eq!(store.load().await.unwrap().head, head(0, None, 0));
    store.commit(Revision(0), draft(vec![put(1)])).await.unwrap();
    assert_eq!(store.load().await.unwrap().head, head(1, Some(7), 9));
    // An epoch can change by itself.
    let renewed = Draft { epoch: Epoch([8; 16]), running: RunningSeconds(10), ..draft(vec![]) };
    store.commit(Revision(1), renewed).await.unwrap();
    assert_eq!(store.load().await.unwrap().head, head(2, Some(8), 10));
    assert!(store.commit(Revision(1), draft(vec![put(2)])).await.is_err());
    assert_eq!(store.load().await.unwrap().head, head(2, Some(8), 10));
}

async fn a_commit_is_there_whole(store: impl Store) {
    assert_eq!(store.commit(Revision(0), draft(vec![put(1), put(2), put(3)])).await, Ok(Revision(1)));
    assert_eq!(store.commit(Revision(1), draft(vec![delete(2), put(4), delete(99), calls(7)])).await, Ok(Revision(2)));
    let (revision, keys) = contents(&store).await;
    let of_calls = Key::Calls(ServiceId(7));
    assert_eq!((revision, keys), (Revision(2), vec![Key::Audit(1), Key::Audit(3), Key::Audit(4), of_calls]));
    let records = store.load().await.unwrap().records;
    assert!(records.iter().all(|record| match record.key() {
        Key::Audit(n) => Change::Put(record.clone()) == put(n),
        _ => Change::Put(record.clone()) == calls(7),
    }));
    assert_eq!(store.commit(Revision(2), draft(vec![Change::Delete(of_calls)])).await, Ok(Revision(3)));
    assert_eq!(contents(&store).await.1.len(), 3);
}

async fn a_stale_commit_changes_nothing(store: impl Store) {
    store.commit(Revision(0), draft(vec![put(1)])).await.unwrap();
    let mut watch = store.watch(Revision(1)).await.unwrap();
    for expected in [Revision(0), Revision(2), Revision(u64::MAX)] {
        let stale = StoreError::Stale { expected, actual: Revision(1) };
        assert_eq!(store.commit(expected, draft(vec![put(2), delete(1)])).await, Err(stale));
    }
    assert_eq!(contents(&store).await, (Revision(1), vec![Key::Audit(1)]));
    // It isn't announced either: watchers receive the next confirmed commit.
    store.commit(Revision(1), draft(vec![put(3)])).await.unwrap();
    assert_eq!(watch.next().await.unwrap(), commit(2, vec![put(3)]));
}

async fn of_two_writers_one_wins(store: impl Store) {
    let other = Draft { nonce: Nonce(5), ..draft(vec![put(2)]) };
    let (a, b) = tokio::join!(store.commit(Revision(0), draft(vec![put(1)])), store.commit(Revision(0), other));
    assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
    assert_eq!(contents(&store).await.1.len(), 1);
}

async fn a_watch_tells_each_commit_once_and_in_order(store: impl Store) {
    let mut from_start = store.watch(Revision(0)).await.unwrap();
    for n in 0..5 {
        store.commit(Revision(n), draft(vec![put(n)])).await.unwrap();
    }
    let mut from_three = store.watch(Revision(3)).await.unwrap();
    let expected = |n: u64| commit(n + 1, vec![put(n)]);
    for n in 0..5 {
        assert_eq!(from_start.next().await.unwrap(), expected(n));
    }
    for n in 3..5 {
        assert_eq!(from_three.next().await.unwrap(), expected(n));
    }
    // Both have received all commits, and a dropped wait loses none.
    assert!(futures_util::FutureExt::now_or_never(from_start.next()).is_none());
    let (told, committed) = tokio::join!(from_start.next(), store.commit(Revision(5), draft(vec![put(5)])));
    assert_eq!((told.unwrap(), committed.unwrap()), (expected(5), Revision(6)));
    assert_eq!(from_three.next().await.unwrap(), expected(5));
}

async fn a_gap_is_told(store: impl Store) {
    let mut slow = store.watch(Revision(0)).await.unwrap();
    for n in 0..300 {
        store.commit(Revision(n), draft(vec![put(1)])).await.unwrap();
    }
    assert_eq!(slow.next().await, Err(StoreError::Gap(Revision(0))));
    assert_eq!(store.watch(Revision(0)).await.err(), Some(StoreError::Gap(Revision(0))));
    assert_eq!(store.watch(Revision(301)).await.err(), Some(StoreError::Gap(Revision(301))));
    let now = store.load().await.unwrap().head.revision;
    assert!(store.watch(now).await.is_ok(), "a watch can begin at the loaded revision");
}

async fn what_was_confirmed_is_in_a_sync(store: impl Store) {
    assert_eq!(store.sync().await, Ok(Revision(0)));
    for n in 0..3 {
        store.commit(Revision(n), draft(vec![put(n)])).await.unwrap();
        let (one, other) = tokio::join!(store.sync(), store.sync());
        assert_eq!((one, other), (Ok(Revision(n + 1)), Ok(Revision(n + 1))));
    }
}

macro_rules! conform {
    ($($test:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test] async fn $test() { super::$test(super::MemoryStore::new()).await; })*
        }
        mod sqlite {
            $(#[tokio::test] async fn $test() {
                let scratch = super::Scratch::new();
                super::$test(super::SqliteStore::open(&scratch.path().join("db")).await.unwrap()).await;
            })*
        }
        mod etcd {
            $(#[tokio::test] async fn $test() {
                let etcd = super::Etcd::start();
                super::$test(etcd.open().await).await;
            })*
        }
    };
}

conform! {
    a_new_store_is_empty,
    the_head_is_what_the_last_commit_has_written,
    a_commit_is_there_whole,
    a_stale_commit_changes_nothing,
    of_two_writers_one_wins,
    a_watch_tells_each_commit_once_and_in_order,
    a_gap_is_told,
    what_was_confirmed_is_in_a_sync,
}

/// Only for a store that outlives its process.
#[tokio::test]
async fn what_was_confirmed_is_there_after_reopening() {
    let scratch = Scratch::new();
    let path = scratch.path().join("db");
    let store = SqliteStore::open(&path).await.unwrap();
    store.commit(Revision(0), draft(vec![put(1), put(2)])).await.unwrap();
    store.commit(Revision(1), draft(vec![delete(1)])).await.unwrap();
    let before = store.load().await.unwrap();
    drop(store);
    let store = SqliteStore::open(&path).await.unwrap();
    assert_eq!(store.load().await.unwrap(), before);
    assert_eq!(store.watch(Revision(1)).await.err(), Some(StoreError::Gap(Revision(1))));
    assert_eq!(store.commit(Revision(2), draft(vec![put(3)])).await, Ok(Revision(3)));
}

/// The disk after a power cut: the file and its log, copied while the store is open.
#[tokio::test]
async fn what_was_confirmed_is_in_the_files_at_once() {
    let scratch = Scratch::new();
    let path = scratch.path().join("db");
    let store = SqliteStore::open(&path).await.unwrap();
    for n in 0..20 {
        store.commit(Revision(n), draft(vec![put(n)])).await.unwrap();
        let copy = scratch.path().join(format!("copy-{n}"));
        for side in ["", "-wal"] {
            let (from, to) = (format!("{}{side}", path.display()), format!("{}{side}", copy.display()));
            std::fs::copy(from, to).unwrap();
        }
        let (revision, keys) = contents(&SqliteStore::open(&copy).await.unwrap()).await;
        assert_eq!((revision, keys.len()), (Revision(n + 1), usize::try_from(n).unwrap() + 1));
    }
}
