//! What only this store does, with a real etcd.

use std::sync::atomic::Ordering;

use mesh_model::{Record, RunningSeconds, record::Key};

use super::{
    lab::{Between, CA, CERTIFICATE, Etcd, KEY},
    *,
};
use crate::store::conformance::{draft, put};

async fn keys(store: &EtcdStore) -> Vec<Key> {
    let mut keys: Vec<_> = store.load().await.unwrap().records.iter().map(Record::key).collect();
    keys.sort();
    keys
}

fn many(from: u64, to: u64) -> Draft {
    draft((from..to).map(put).collect())
}

fn with_nonce(nonce: u64, draft: Draft) -> Draft {
    Draft { nonce: Nonce(nonce), ..draft }
}

#[tokio::test]
async fn the_commits_of_one_coordinator_are_told_to_the_other() {
    let etcd = Etcd::start();
    let (one, other) = (etcd.open().await, etcd.open().await);
    let mut watch = other.watch(Revision(0)).await.unwrap();
    one.commit(Revision(0), draft(vec![put(1)])).await.unwrap();
    // Each is told of its own and of the other's.
    assert_eq!(other.sync().await, Ok(Revision(1)));
    assert_eq!(watch.next().await.unwrap().changes[..], [put(1)]);
    other.commit(Revision(1), draft(vec![put(2), Change::Delete(Key::Audit(1))])).await.unwrap();
    let mut theirs = one.watch(Revision(1)).await.unwrap();
    assert_eq!(theirs.next().await.unwrap().changes.len(), 2);
    assert_eq!(watch.next().await.unwrap().revision, Revision(2));
    let stale = StoreError::Stale { expected: Revision(1), actual: Revision(2) };
    assert_eq!(one.commit(Revision(1), draft(vec![put(9)])).await, Err(stale));
    assert_eq!((keys(&one).await, keys(&other).await), (vec![Key::Audit(2)], vec![Key::Audit(2)]));
}

#[tokio::test]
async fn a_big_commit_is_whole_for_all() {
    let etcd = Etcd::start();
    let (one, other) = (etcd.open().await, etcd.open().await);
    let mut watch = other.watch(Revision(0)).await.unwrap();
    one.commit(Revision(0), many(0, 5000)).await.unwrap();
    assert_eq!(watch.next().await.unwrap().changes.len(), 5000);
    assert_eq!(keys(&other).await.len(), 5000, "from the parts");
    assert!(etcd.ctl(&["get", "--prefix", "--keys-only", "mesh/r/"]).is_empty());
    // The next commit moves them to the records.
    let changes = (1..2500).map(|n| Change::Delete(Key::Audit(n))).collect();
    other.commit(Revision(1), draft(changes)).await.unwrap();
    one.commit(Revision(2), draft(vec![put(7)])).await.unwrap();
    assert_eq!(keys(&one).await.len(), 2502);
    assert!(etcd.ctl(&["get", "--prefix", "--keys-only", "mesh/part/"]).is_empty());
    for revision in [2, 3] {
        assert_eq!(watch.next().await.unwrap().revision, Revision(revision));
    }
    let third = etcd.open().await;
    assert_eq!(keys(&third).await, keys(&one).await);
}

#[tokio::test]
async fn what_was_confirmed_outlasts_etcds_end() {
    let mut etcd = Etcd::start();
    let store = etcd.open().await;
    let mut watch = store.watch(Revision(0)).await.unwrap();
    for n in 0..20 {
        store.commit(Revision(n), draft(vec![put(n)])).await.unwrap();
    }
    etcd.kill();
    assert_eq!(store.load().await, Err(StoreError::Away));
    assert_eq!(store.sync().await, Err(StoreError::Away));
    let error = store.commit(Revision(20), draft(vec![put(20)])).await.unwrap_err();
    assert!(matches!(error, StoreError::Away | StoreError::Unknown), "{error:?}");
    etcd.restart();
    let other = etcd.open().await;
    assert_eq!(keys(&other).await.len(), 20);
    other.commit(Revision(20), with_nonce(5, draft(vec![put(20)]))).await.unwrap();
    for revision in 1..=21 {
        assert_eq!(watch.next().await.unwrap().revision, Revision(revision), "the watch goes on");
    }
    store.commit(Revision(21), draft(vec![put(21)])).await.unwrap();
}

#[tokio::test]
async fn a_commit_without_an_answer_is_unknown_and_its_nonce_tells() {
    let etcd = Etcd::start();
    let between = Between::start(&etcd).await;
    let place = format!("etcd://{}/mesh", between.address).parse().unwrap();
    let store = EtcdStore::open(&place, Access::default()).await.unwrap();
    let mut watch = store.watch(Revision(0)).await.unwrap();
    store.commit(Revision(0), draft(vec![put(1)])).await.unwrap();
    between.deaf.store(true, Ordering::SeqCst);
    let unknown = store.commit(Revision(1), with_nonce(77, draft(vec![put(2)]))).await;
    assert_eq!(unknown, Err(StoreError::Unknown));
    between.deaf.store(false, Ordering::SeqCst);
    // It was made; an empty commit finds that out.
    let stale = StoreError::Stale { expected: Revision(1), actual: Revision(2) };
    assert_eq!(store.commit(Revision(1), with_nonce(78, draft(vec![]))).await, Err(stale));
    assert_eq!(watch.next().await.unwrap().revision, Revision(1));
    assert_eq!(watch.next().await.unwrap().nonce, Nonce(77));
}

#[tokio::test]
async fn lost_history_is_a_gap_and_not_a_loss() {
    let mut etcd = Etcd::start();
    let store = etcd.open().await;
    store.commit(Revision(0), draft(vec![put(1)])).await.unwrap();
    let mut watch = store.watch(Revision(1)).await.unwrap();
    // While the store can't listen, another one commits, and etcd forgets it.
    let address = etcd.address.clone();
    etcd.kill();
    etcd.restart();
    assert_eq!(etcd.address, address);
    let other = etcd.open().await;
    let began = Instant::now();
    for n in 1..4 {
        other.commit(Revision(n), draft(vec![put(n)])).await.unwrap();
    }
    let revision = etcd.ctl(&["get", "mesh/head", "--write-out", "json"]);
    let revision: serde_json::Value = serde_json::from_str(&revision).unwrap();
    etcd.ctl(&["compact", &revision["header"]["revision"].to_string()]);
    // Whether it heard of them before doesn't matter: it gets there.
    let mut at = Revision(1);
    while at < Revision(4) {
        match watch.next().await {
            Ok(commit) => at = commit.revision,
            Err(StoreError::Gap(_)) => {
                at = store.load().await.unwrap().head.revision;
                watch = store.watch(at).await.unwrap();
            }
            Err(error) => panic!("{error} after {:?}", began.elapsed()),
        }
    }
    store.commit(Revision(4), draft(vec![put(9)])).await.unwrap();
}

#[tokio::test]
async fn a_database_that_was_put_back_is_noticed_at_once() {
    let etcd = Etcd::start();
    let store = etcd.open().await;
    let head = |etcd: &Etcd| etcd.ctl(&["get", "mesh/head", "--print-value-only"]).trim().to_owned();
    store.commit(Revision(0), draft(vec![put(1)])).await.unwrap();
    let before = head(&etcd);
    store.commit(Revision(1), draft(vec![put(2)])).await.unwrap();
    let mut watch = store.watch(Revision(2)).await.unwrap();
    etcd.ctl(&["put", "mesh/head", &before]);
    assert_eq!(watch.next().await, Err(StoreError::PutBack));
    assert_eq!(store.sync().await, Err(StoreError::PutBack));
    assert_eq!(store.load().await, Err(StoreError::PutBack));
    assert_eq!(store.commit(Revision(2), draft(vec![put(3)])).await, Err(StoreError::PutBack));
}

#[tokio::test]
async fn a_later_format_and_other_texts_are_refused() {
    let etcd = Etcd::start();
    etcd.ctl(&["put", "mesh/head", r#"{"format":9}"#]);
    let error = EtcdStore::open(&etcd.place(), Access::default()).await.unwrap_err();
    assert_eq!(error, StoreError::Newer { found: 9, known: 3 });
    etcd.ctl(&["put", "mesh/head", "?"]);
    let error = EtcdStore::open(&etcd.place(), Access::default()).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged(_)), "{error:?}");
    etcd.ctl(&["del", "mesh/head"]);
    etcd.ctl(&["put", "mesh/r/runner/r-9", "{}"]);
    let error = etcd.open().await.load().await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged(_)), "{error:?}");
}

fn holder(host: &str) -> Holder {
    Holder { host: host.to_owned(), urls: vec![], version: "1".to_owned() }
}

async fn joined(etcd: &Etcd, id: u64) -> (EtcdStore, Seat, Vec<Seated>) {
    etcd.open().await.join(MemberId(id), format!("text {id}").into()).await.unwrap()
}

fn ids(seated: &[Seated]) -> Vec<u64> {
    let mut seated = seated.to_vec();
    seated.sort_by_key(|seated| seated.since);
    seated.iter().map(|seated| seated.id.0).collect()
}

#[tokio::test]
async fn coordinators_know_of_each_other_and_all_commit() {
    let etcd = Etcd::start();
    let (one, seat, seated) = joined(&etcd, 9).await;
    assert_eq!((ids(&seated), one.member()), (vec![9], Some(MemberId(9))));
    let (two, other, seated) = joined(&etcd, 3).await;
    assert_eq!(ids(&seated), [9, 3], "who came first");
    one.commit(Revision(0), draft(vec![put(1)])).await.unwrap();
    two.commit(Revision(1), with_nonce(5, draft(vec![put(2)]))).await.unwrap();
    let seated = seat.beat("anew".into(), RunningSeconds(0)).await.unwrap();
    assert_eq!(
        (ids(&seated), &seated.iter().find(|seated| seated.id.0 == 9).unwrap().text[..]),
        (vec![9, 3], &b"anew"[..])
    );
    other.leave().await;
    assert_eq!(ids(&seat.beat("still".into(), RunningSeconds(0)).await.unwrap()), [9]);
    assert_eq!(two.commit(Revision(2), draft(vec![put(3)])).await, Err(StoreError::Replaced));
    one.commit(Revision(2), draft(vec![put(3)])).await.unwrap();
}

#[tokio::test]
async fn the_running_time_outlives_the_coordinators_that_told_it() {
    let etcd = Etcd::start();
    let (_one, seat, _) = joined(&etcd, 9).await;
    assert_eq!(seat.running(), RunningSeconds(0));
    seat.beat("text".into(), RunningSeconds(400)).await.unwrap();
    seat.leave().await;
    let (_two, other, seated) = joined(&etcd, 3).await;
    assert_eq!((ids(&seated), other.running()), (vec![3], RunningSeconds(400)));
    other.beat("text".into(), RunningSeconds(10)).await.unwrap();
    let (_three, last, _) = joined(&etcd, 4).await;
    assert_eq!(last.running(), RunningSeconds(400), "it never goes back");
}

#[tokio::test]
async fn a_place_whose_lease_has_ended_is_taken_again() {
    let etcd = Etcd::start();
    let (_one, seat, _) = joined(&etcd, 9).await;
    let (_two, other, _) = joined(&etcd, 3).await;
    etcd.end_leases();
    let none = etcd.ctl(&["get", "--prefix", "--keys-only", "mesh/member/"]);
    assert!(none.is_empty(), "{none}");
    seat.beat("text".into(), RunningSeconds(0)).await.unwrap();
    assert_eq!(ids(&other.beat("text".into(), RunningSeconds(0)).await.unwrap()), [9, 3]);
}

#[tokio::test]
async fn what_was_decided_before_its_coordinator_lost_its_place_is_not_committed() {
    let etcd = Etcd::start();
    let (store, seat, _) = joined(&etcd, 9).await;
    let decided = || Draft { right: store.right(), ..draft(vec![put(1)]) };
    let (early, late) = (decided(), decided());
    store.commit(Revision(0), early).await.unwrap();
    etcd.end_leases();
    assert_eq!(store.commit(Revision(1), late.clone()).await, Err(StoreError::Ended), "no sign of life follows");
    seat.beat("text".into(), RunningSeconds(0)).await.unwrap();
    // By the new place, it is decided on again: the time may be another.
    let again = StoreError::Stale { expected: Revision(1), actual: Revision(1) };
    assert_eq!(store.commit(Revision(1), late).await, Err(again.clone()));
    store.commit(Revision(1), decided()).await.unwrap();
    // One that gives signs of life again meanwhile is told as soon as it has its place.
    let late = decided();
    etcd.end_leases();
    let beat = async {
        seat.ended().await;
        seat.beat("text".into(), RunningSeconds(0)).await
    };
    let (refused, beat) = tokio::join!(store.commit(Revision(2), late), beat);
    assert_eq!(
        (refused, beat.unwrap().len()),
        (Err(StoreError::Stale { expected: Revision(2), actual: Revision(2) }), 1)
    );
    assert_eq!(store.load().await.unwrap().head.revision, Revision(2), "nothing was changed");
    store.commit(Revision(2), decided()).await.unwrap();
}

#[tokio::test]
async fn who_has_the_records_alone_and_coordinators_exclude_each_other() {
    let etcd = Etcd::start();
    let (sole, release) = etcd.open().await.into_sole(&holder("alpha")).await.unwrap();
    sole.commit(Revision(0), draft(vec![put(1)])).await.unwrap();
    let refused = etcd.open().await.join(MemberId(1), vec![]).await.unwrap_err();
    assert_eq!(refused, StoreError::Held("the coordinator on alpha".to_owned()));
    let refused = etcd.open().await.into_sole(&holder("beta")).await.unwrap_err();
    assert_eq!(refused, StoreError::Held("the coordinator on alpha".to_owned()));

    // Its end lets a coordinator begin at once.
    let waiting = etcd.open().await;
    let next = tokio::spawn(async move { waiting.join(MemberId(1), br#"{"host":"gamma"}"#.to_vec()).await });
    release.now().await;
    let (_one, seat, _) = next.await.unwrap().unwrap();
    let beating = seat.clone();
    let beats = tokio::spawn(async move {
        loop {
            beating.beat(br#"{"host":"gamma"}"#.to_vec(), RunningSeconds(0)).await.unwrap();
            sleep(BEAT).await;
        }
    });
    let refused = etcd.open().await.into_sole(&holder("beta")).await.unwrap_err();
    beats.abort();
    assert!(matches!(refused, StoreError::InUse(_)), "{refused:?}");
    // So does a coordinator's, whose kind keeps those out that serve alone.
    seat.leave().await;
    let active = etcd.ctl(&["get", "mesh/active", "--write-out", "json"]);
    assert!(active.contains("kvs") && !active.contains("lease"), "{active}");
    let (_sole, _release) = etcd.open().await.into_sole(&holder("beta")).await.unwrap();
}

#[tokio::test]
async fn one_that_was_away_while_another_has_the_records_alone_stops() {
    let etcd = Etcd::start();
    let (one, seat, _) = joined(&etcd, 9).await;
    one.commit(Revision(0), draft(vec![put(1)])).await.unwrap();
    // As though it had been away for longer than its lease.
    etcd.ctl(&["del", "--prefix", "mesh/member/"]);
    let (_sole, _release) = etcd.open().await.into_sole(&holder("alpha")).await.unwrap();
    assert_eq!(seat.beat("text".into(), RunningSeconds(0)).await, Err(StoreError::Replaced));
    assert_eq!(one.commit(Revision(1), draft(vec![put(2)])).await, Err(StoreError::Replaced));
}

#[tokio::test]
async fn one_that_was_replaced_cannot_commit_and_is_told() {
    let etcd = Etcd::start();
    let holder = holder("alpha");
    let (first, _release) = etcd.open().await.into_sole(&holder).await.unwrap();
    first.commit(Revision(0), draft(vec![put(1)])).await.unwrap();
    let mut watch = first.watch(Revision(1)).await.unwrap();
    // As though it had been away for longer than its lease.
    etcd.ctl(&["del", "mesh/active"]);
    let (second, _kept) = etcd.open().await.into_sole(&holder).await.unwrap();
    let late = first.commit(Revision(1), with_nonce(9, draft(vec![put(2)]))).await;
    assert_eq!(late, Err(StoreError::Replaced));
    assert_eq!(watch.next().await, Err(StoreError::Replaced));
    second.commit(Revision(1), draft(vec![put(3)])).await.unwrap();

    // One that only waits learns of it too.
    etcd.ctl(&["del", "mesh/active"]);
    let mut watch = second.watch(Revision(2)).await.unwrap();
    let (_third, _kept) = etcd.open().await.into_sole(&holder).await.unwrap();
    let lost = async {
        loop {
            if let Err(error) = watch.next().await {
                return error;
            }
        }
    };
    assert_eq!(lost.await, StoreError::Replaced);
}

#[tokio::test]
async fn an_etcd_without_space_is_told_and_goes_on_once_it_has_some() {
    let etcd = Etcd::start_with(&["--quota-backend-bytes", "12000000"]);
    let store = etcd.open().await;
    let mut confirmed = 0;
    let error = loop {
        match store.commit(Revision(confirmed), many(0, 1000)).await {
            Ok(_) => confirmed += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, StoreError::Quota);
    assert_eq!(store.load().await.unwrap().head.revision, Revision(confirmed));
    let head = etcd.ctl(&["get", "mesh/head", "--write-out", "json"]);
    let head: serde_json::Value = serde_json::from_str(&head).unwrap();
    // Without --physical it answers before there is space for `defrag` to return.
    let compact = ["compact", "--physical", &head["header"]["revision"].to_string()];
    for arguments in [&compact[..], &["defrag"], &["alarm", "disarm"]] {
        etcd.ctl(arguments);
    }
    store.commit(Revision(confirmed), draft(vec![put(1)])).await.unwrap();
}

#[tokio::test]
async fn by_tls_each_end_proves_who_it_is() {
    let etcd = Etcd::start_secured();
    let read = |name: &str| std::fs::read(etcd.data.path().join(name)).unwrap();
    let identity = Some((read(CERTIFICATE), read(KEY).into()));
    let access = Access { ca: Some(read(CA)), identity, login: None };
    let store = EtcdStore::open(&etcd.place(), access.clone()).await.unwrap();
    let mut watch = store.watch(Revision(0)).await.unwrap();
    store.commit(Revision(0), draft(vec![put(1)])).await.unwrap();
    assert_eq!(watch.next().await.unwrap().revision, Revision(1));
    let other = Etcd::start_secured();
    for wrong in [
        Access { identity: None, ..access.clone() },
        Access::default(),
        Access { ca: Some(std::fs::read(other.data.path().join(CA)).unwrap()), ..access },
    ] {
        assert_eq!(EtcdStore::open(&etcd.place(), wrong).await.unwrap_err(), StoreError::Away);
    }
}

#[tokio::test]
async fn a_user_is_let_in_by_its_password() {
    let etcd = Etcd::start();
    for arguments in [
        &["user", "add", "root:very-secret"][..],
        &["user", "grant-role", "root", "root"],
        &["user", "add", "mesh:secret"],
        &["role", "add", "mesh"],
        &["role", "grant-permission", "mesh", "--prefix=true", "readwrite", "mesh/"],
        &["user", "grant-role", "mesh", "mesh"],
        &["auth", "enable"],
    ] {
        etcd.ctl(arguments);
    }
    let open = async |login: Option<&str>| {
        let login = login.map(|password| ("mesh".to_owned(), password.to_owned().into()));
        EtcdStore::open(&etcd.place(), Access { login, ..Access::default() }).await
    };
    let store = open(Some("secret")).await.unwrap();
    let mut watch = store.watch(Revision(0)).await.unwrap();
    let (store, _release) = store.into_sole(&holder("alpha")).await.unwrap();
    store.commit(Revision(0), draft(vec![put(1)])).await.unwrap();
    assert_eq!(watch.next().await.unwrap().revision, Revision(1));
    for login in [None, Some("wrong")] {
        let error = open(login).await.unwrap_err();
        assert!(!matches!(error, StoreError::Away), "{error:?}");
        assert!(!error.to_string().contains("wrong"), "{error}");
    }
}
