use std::{fs, os::unix::fs::MetadataExt as _};

use mesh_model::RunningSeconds;

use super::*;
use crate::{
    data::scratch::Scratch,
    store::{
        Head,
        conformance::{draft, put},
    },
};

#[tokio::test]
async fn the_files_are_private() {
    let scratch = Scratch::new();
    let path = scratch.path().join("db");
    let store = SqliteStore::open(&path).await.unwrap();
    store.commit(Revision(0), draft(vec![put(1)])).await.unwrap();
    for entry in fs::read_dir(scratch.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_nothing_is_half_done() {
    let scratch = Scratch::new();
    let path = scratch.path().join("db");
    let few_pages = |connection: &Connection| {
        connection.pragma_update_and_check(None, "max_page_count", 8, |row| row.get::<_, i64>(0)).map(drop)
    };
    let store = SqliteStore::open_with(&path, few_pages).await.unwrap();
    store.commit(Revision(0), draft(vec![put(1)])).await.unwrap();
    let before = store.load().await.unwrap();
    let much = (2..2000).map(put).collect();
    assert_eq!(store.commit(Revision(1), draft(much)).await, Err(StoreError::Full));
    assert_eq!(store.load().await.unwrap(), before);
    // It continues as soon as there is room.
    assert_eq!(store.commit(Revision(1), draft(vec![put(1)])).await, Ok(Revision(2)));
    drop(store);
    assert_eq!(SqliteStore::open(&path).await.unwrap().load().await.unwrap().head.revision, Revision(2));
}

#[tokio::test]
async fn a_read_only_database_is_told() {
    let scratch = Scratch::new();
    let path = scratch.path().join("db");
    drop(SqliteStore::open(&path).await.unwrap());
    let read_only = |connection: &Connection| connection.pragma_update(None, "query_only", "on");
    let store = SqliteStore::open_with(&path, read_only).await.unwrap();
    assert_eq!(store.commit(Revision(0), draft(vec![put(1)])).await, Err(StoreError::ReadOnly));
    assert_eq!(store.load().await.unwrap().head.revision, Revision(0));
}

#[tokio::test]
async fn what_is_not_our_database_is_refused_and_left_alone() {
    let scratch = Scratch::new();
    let path = scratch.path().join("db");
    fs::write(&path, "this is a text, and a long enough one to be looked at as a database header, or so I hope")
        .unwrap();
    assert!(matches!(SqliteStore::open(&path).await, Err(StoreError::Damaged(_))));
    fs::remove_file(&path).unwrap();

    let other = Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE theirs (x); PRAGMA user_version = 3").unwrap();
    drop(other);
    let error = SqliteStore::open(&path).await.unwrap_err();
    assert!(error.to_string().contains("some other program's"), "{error}");
    fs::remove_file(&path).unwrap();

    drop(SqliteStore::open(&path).await.unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 7).unwrap();
    let error = SqliteStore::open(&path).await.unwrap_err();
    assert_eq!(error, StoreError::Newer { found: 7, known: 2 });
}

/// The database of a coordinator of 0.1, which nothing before relays changes for older programs.
#[tokio::test]
async fn an_old_database_is_marked_as_newer_only_once_there_is_a_relay() {
    let scratch = Scratch::new();
    let path = scratch.path().join("db");
    let old = concat!(env!("CARGO_MANIFEST_DIR"), "/../netns-tests/files/0.1/coordinator/mesh-coord.db");
    fs::copy(old, &path).unwrap();
    let format = || -> i64 {
        Connection::open(&path).unwrap().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    };
    let store = SqliteStore::open(&path).await.unwrap();
    let Loaded { head, records } = store.load().await.unwrap();
    let Head { revision, epoch, running } = head;
    assert_eq!((epoch, running), (None, RunningSeconds(0)), "what 0.1 has not written");
    let number = records.len();
    let state = mesh_model::State::load(revision, records).unwrap();
    assert!(state.active_runners().count() > 0 && state.relays().count() == 0);
    let calls = r#"{"kind":"calls","caller":"s-1","callees":[]}"#;
    let calls = Change::Put(serde_json::from_str(calls).unwrap());
    let revision = store.commit(revision, draft(vec![put(999), calls])).await.unwrap();
    assert_eq!(format(), 1);
    let older = "SELECT count(*) FROM record WHERE key LIKE 'calls/%'";
    let seen: i64 = Connection::open(&path).unwrap().query_row(older, [], |row| row.get(0)).unwrap();
    assert_eq!(seen, 0, "what an older program can't read");
    let relay = r#"{"kind":"relay","id":"relay-1","name":"fra-1","relay":"turn","udp":["203.0.113.9:3478"],"added":5,"secret":"000000000000abcd"}"#;
    let relay = Change::Put(serde_json::from_str(relay).unwrap());
    store.commit(revision, draft(vec![relay])).await.unwrap();
    drop(store);
    assert_eq!(format(), 2);
    assert_eq!(SqliteStore::open(&path).await.unwrap().load().await.unwrap().records.len(), number + 3);
}

#[tokio::test]
async fn a_record_that_makes_no_sense_is_named() {
    let scratch = Scratch::new();
    let path = scratch.path().join("db");
    drop(SqliteStore::open(&path).await.unwrap());
    Connection::open(&path).unwrap().execute("INSERT INTO record VALUES ('runner/r-9', 1, '{}')", []).unwrap();
    let error = SqliteStore::open(&path).await.unwrap().load().await.unwrap_err();
    assert!(matches!(&error, StoreError::Damaged(what) if what.contains("runner/r-9")), "{error}");
}

#[tokio::test]
async fn foreign_commits_are_a_gap_for_watchers() {
    let scratch = Scratch::new();
    let path = scratch.path().join("db");
    let store = SqliteStore::open(&path).await.unwrap();
    store.commit(Revision(0), draft(vec![put(1)])).await.unwrap();
    let mut watch = store.watch(Revision(1)).await.unwrap();
    let write = |revision: i64| {
        Connection::open(&path).unwrap().execute("UPDATE head SET revision = ?1", [revision]).unwrap();
    };
    write(9);
    let stale = StoreError::Stale { expected: Revision(1), actual: Revision(9) };
    assert_eq!(store.commit(Revision(1), draft(vec![put(2)])).await, Err(stale));
    assert_eq!(watch.next().await, Err(StoreError::Gap(Revision(1))));
    let mut watch = store.watch(Revision(9)).await.unwrap();
    store.commit(Revision(9), draft(vec![put(3)])).await.unwrap();
    assert_eq!(watch.next().await.unwrap().revision, Revision(10));
    // A restored backup doesn't continue what the agents were sent.
    write(4);
    let error = store.commit(Revision(10), draft(vec![put(2)])).await.unwrap_err();
    assert!(error.to_string().contains("from revision 10 to 4 while in use: restart mesh-coord"), "{error}");
}
