use mesh_model::{Noted, UnixSeconds};
use mesh_proto::{
    InstanceId,
    telemetry::{PathKind, Telemetry},
};

use super::*;
use crate::testing::World;

const ONE: RunnerId = RunnerId(1);
const TWO: RunnerId = RunnerId(2);

fn pair(side: Side, opened: u64, open: u64, sent: u64) -> Pair {
    let counts = Counts { opened, open, sent, ..Counts::default() };
    Pair { caller: ServiceId(7), callee: ServiceId(8), side, counts }
}

/// A report that the state agrees with.
fn honest(life: u64, pairs: Vec<Pair>) -> Checked {
    let hosted = vec![true; pairs.len()];
    Checked { report: Telemetry { life, pairs, ..Telemetry::default() }, hosted, names: vec![], foreign: 0 }
}

fn refused(count: u64, port: u16, age: u64) -> Checked {
    let party = |service| Party { address: Ipv4Addr::new(100, 112, 0, 1), service: Some(ServiceId(service)) };
    let refused = Refused { caller: party(7), callee: party(8), port, reason: "no-trust".to_owned(), count, age };
    let names = vec![[Some("shop/app".parse().unwrap()), None]];
    Checked {
        report: Telemetry { life: 1, refused: vec![refused], ..Telemetry::default() },
        hosted: vec![],
        names,
        foreign: 0,
    }
}

fn counts(book: &Book) -> Vec<(u64, u64, u64)> {
    book.sums().edges().into_iter().map(|Edge { counts, .. }| (counts.opened, counts.open, counts.sent)).collect()
}

#[test]
fn both_ends_of_a_connection_are_one_and_local_ones_are_added() {
    let (mut book, now) = (Book::default(), Instant::now());
    book.take(ONE, honest(1, vec![pair(Side::From, 3, 2, 100), pair(Side::Both, 5, 1, 10)]), now);
    assert_eq!(counts(&book), [(8, 3, 110)]);
    book.take(TWO, honest(9, vec![pair(Side::To, 3, 2, 100)]), now);
    assert_eq!(counts(&book), [(8, 3, 110)]);
    // A caller that can't be heard is known by its callee.
    book.take(TWO, honest(9, vec![pair(Side::To, 4, 3, 150)]), now);
    assert_eq!(counts(&book), [(9, 4, 160)]);
}

#[test]
fn a_lost_or_repeated_report_changes_nothing_and_a_restart_of_the_agent_loses_nothing() {
    let (mut book, now) = (Book::default(), Instant::now());
    for _ in 0..3 {
        book.take(ONE, honest(1, vec![pair(Side::From, 3, 2, 100)]), now);
    }
    assert_eq!(counts(&book), [(3, 2, 100)]);
    book.take(ONE, honest(2, vec![]), now);
    assert_eq!(counts(&book), [(3, 0, 100)], "nothing is open until the new agent says so");
    book.take(ONE, honest(2, vec![pair(Side::From, 1, 1, 10)]), now);
    assert_eq!(counts(&book), [(4, 1, 110)]);
    assert_eq!(book.open_at(ONE), Some(1));
    assert_eq!(book.open_at(TWO), None);
}

#[test]
fn use_is_what_a_report_says_of_new_or_open_connections() {
    let (mut book, start) = (Book::default(), Instant::now());
    let after = |seconds| start + Duration::from_secs(seconds);
    let used = |book: &Book| book.sums().edges()[0].used.map(|used| (used - start).as_secs());
    book.take(ONE, honest(1, vec![pair(Side::From, 0, 0, 0)]), start);
    assert_eq!(used(&book), None);
    book.take(ONE, honest(1, vec![pair(Side::From, 1, 1, 0)]), after(10));
    // A report without the pair says that nothing has changed.
    book.take(ONE, honest(1, vec![]), after(20));
    assert_eq!(used(&book), Some(20));
    book.take(ONE, honest(1, vec![pair(Side::From, 1, 0, 0)]), after(30));
    book.take(ONE, honest(1, vec![]), after(40));
    assert_eq!(used(&book), Some(30));
}

/// What isn't noted: the connections by their callers' runners and by their callees', and when they were last in use.
fn unnoted(book: &Book, now: Instant) -> Vec<(u64, u64, u64)> {
    let of = |Noted { used, hour, .. }: Noted| (hour.by_callers.opened, hour.by_callees.opened, used.0);
    book.unnoted(UnixSeconds(1_000_000), (now, UnixSeconds(1_000_000))).into_iter().map(of).collect()
}

fn note(book: &mut Book, now: Instant) -> Vec<Noted> {
    book.take_unnoted(UnixSeconds(1_000_000), (now, UnixSeconds(1_000_000)))
}

#[test]
fn what_passed_is_noted_once_by_each_end() {
    let (mut book, now) = (Book::default(), Instant::now());
    let after = |seconds| now + Duration::from_secs(seconds);
    let young = |life, pairs| {
        let mut checked = honest(life, pairs);
        checked.report.age = Some(5);
        checked
    };
    book.take(ONE, young(1, vec![pair(Side::From, 3, 0, 100), pair(Side::Both, 5, 0, 10)]), now);
    book.take(TWO, young(1, vec![pair(Side::To, 3, 0, 100)]), now);
    assert_eq!(unnoted(&book, after(60)), [(8, 8, 999_940)]);
    note(&mut book, after(60));
    assert_eq!(unnoted(&book, after(70)), []);
    // The agent begins anew, and the other one isn't heard.
    book.take(ONE, young(2, vec![pair(Side::From, 2, 1, 0)]), after(80));
    assert_eq!(unnoted(&book, after(80)), [(2, 0, 1_000_000)]);
    let noted = note(&mut book, after(80));
    book.owe(noted);
    assert_eq!(unnoted(&book, after(80)), [(2, 0, 1_000_000)], "the records could not be written");
    note(&mut book, after(80));
    // A connection that stands is in use.
    book.take(ONE, young(2, vec![]), after(140));
    assert_eq!(unnoted(&book, after(150)), [(0, 0, 999_990)]);
}

#[test]
fn what_was_counted_before_this_coordinator_is_not_noted_again_but_when_it_was_in_use_is() {
    let (mut book, now) = (Book::default(), Instant::now());
    let mut first = honest(1, vec![pair(Side::From, 30, 0, 100)]);
    (first.report.age, first.report.idle) = (Some(86_400), vec![1000]);
    // What didn't fit into the first report follows.
    while first.report.pairs.len() < MOST_PAIRS {
        let callee = ServiceId(100 + first.report.pairs.len() as u64);
        first.report.pairs.push(Pair { callee, ..pair(Side::From, 1, 0, 0) });
        first.hosted.push(true);
    }
    book.take(ONE, first, now + Duration::from_secs(1000));
    let mut next = honest(1, vec![Pair { callee: ServiceId(9), ..pair(Side::From, 4, 0, 100) }]);
    next.report.age = Some(86_400);
    book.take(ONE, next, now + Duration::from_secs(1000));
    let all = unnoted(&book, now + Duration::from_secs(1000));
    assert_eq!(all[..2], [(0, 0, 999_000), (0, 0, 1_000_000)]);
    assert_eq!(all.iter().map(|(callers, ..)| callers).sum::<u64>(), 0);
    // From now on each new pair is one that has begun since.
    book.take(ONE, honest(1, vec![Pair { callee: ServiceId(10), ..pair(Side::From, 4, 0, 100) }]), now);
    assert_eq!(unnoted(&book, now + Duration::from_secs(1000))[2].0, 4);
}

#[test]
fn a_runner_that_reports_without_end_takes_its_own_room_only() {
    let (mut book, now) = (Book::default(), Instant::now());
    for round in 0..200 {
        let pairs = (0..1000).map(|n| Pair { callee: ServiceId(1000 * round + n), ..pair(Side::From, 1, 0, 0) });
        book.take(ONE, honest(1, pairs.collect()), now);
        book.take(ONE, refused(1, round as u16, 0), now + Duration::from_secs(round));
    }
    assert_eq!(book.size(), PAIRS_OF_RUNNER);
    assert_eq!(book.refusals(1000).len(), REFUSALS_OF_RUNNER);
    let last = book.refusals(2);
    assert_eq!((last.len(), last[0].port, last[1].port), (2, 199, 198), "the oldest make room");
    assert_eq!(book.refused().len(), 1);
    assert!(book.received().1 > 100_000);
    book.take(TWO, honest(1, vec![pair(Side::To, 1, 0, 0)]), now);
    assert_eq!(book.size(), PAIRS_OF_RUNNER + 1);
}

#[test]
fn sums_of_absurd_counts_stay_numbers() {
    let (mut book, now) = (Book::default(), Instant::now());
    for life in 0..3 {
        book.take(ONE, honest(life, vec![pair(Side::From, u64::MAX, u64::MAX, u64::MAX)]), now);
    }
    assert_eq!(counts(&book), [(u64::MAX, u64::MAX, u64::MAX)]);
}

#[test]
fn refusals_keep_their_count_when_the_agent_begins_anew_or_forgets_them() {
    let (mut book, now) = (Book::default(), Instant::now());
    let later = now + Duration::from_secs(100);
    book.take(ONE, refused(5, 80, 30), later);
    book.take(ONE, refused(9, 80, 0), later);
    book.take(ONE, refused(2, 80, 0), later);
    let all = book.refusals(1000);
    assert_eq!((all.len(), all[0].count, all[0].port), (1, 11, 80));
    assert_eq!(all[0].caller.path.as_ref().map(ToString::to_string), Some("shop/app".to_owned()));
    book.take(ONE, honest(2, vec![]), later);
    assert_eq!(book.refusals(1000)[0].count, 11);
}

/// What a runner says of pairs that it hosts no end of doesn't count.
#[tokio::test]
async fn a_runner_reports_of_what_it_hosts_and_of_nothing_else() {
    let world = World::new().await;
    world.deploy("shop", "acme", &["app", "db"]).await;
    let mut agent = world.agent("one").await;
    assert_eq!(agent.attach("shop/app").await.0, InstanceId(1));
    let look = |core: &mut crate::coordinator::Core| {
        let service = |path: &str| core.state.service_at(&path.parse().unwrap()).unwrap().id;
        let (app, db) = (service("shop/app"), service("shop/db"));
        let runner = core.state.runner_named("one").unwrap().id;
        let of = |caller, callee, side| Pair { caller, callee, side, counts: Counts::default() };
        let pairs = vec![
            of(app, db, Side::From),
            of(db, app, Side::To),
            of(db, app, Side::From),
            of(app, db, Side::To),
            of(app, db, Side::Both),
        ];
        let path = Path { runner: RunnerId(9), kind: PathKind::Direct, relay: None, rtt: None, tries: 0 };
        let report = Telemetry { life: 1, pairs, paths: vec![path; 5000], ..Telemetry::default() };
        let checked = Checked::new(report, runner, &core.state);
        (checked.hosted.clone(), checked.report.paths.len())
    };
    let (hosted, paths) = world.coordinator.visit(look).await.unwrap();
    assert_eq!(hosted, [true, true, false, false, false]);
    assert_eq!(paths, MOST_PATHS);
}

/// What a confined runner says of refusals between others doesn't count, and what it says of reasons is a word.
#[tokio::test]
async fn a_runner_tells_of_refusals_of_its_own_and_with_words_that_there_can_be() {
    let world = World::new().await;
    world.deploy("shop", "acme", &["app"]).await;
    world.deploy("bank", "other", &["vault", "ledger"]).await;
    let purpose = mesh_model::NewPurpose::JoinTeams { teams: ["acme".parse().unwrap()].into(), uses: 1 };
    let token = world.token(purpose).await;
    let wish = world.wish(&token, "one", &mesh_proto::PrivateKey::from_bytes([9; 32])).await;
    world.enrol(&wish).await.unwrap();
    let look = |core: &mut crate::coordinator::Core| {
        let service = |path: &str| Some(core.state.service_at(&path.parse().unwrap()).unwrap().id);
        let [app, vault, ledger] = ["shop/app", "bank/vault", "bank/ledger"].map(service);
        let party = |service| Party { address: Ipv4Addr::new(100, 112, 0, 1), service };
        let of = |caller, callee, reason: &str| {
            let (caller, callee, reason) = (party(caller), party(callee), reason.to_owned());
            Refused { caller, callee, port: 1, reason, count: 1, age: 0 }
        };
        let long = "x".repeat(5000);
        let refused = vec![
            of(app, vault, "no-trust"),
            of(vault, ledger, "no-trust"),
            of(None, vault, "no-trust"),
            of(app, None, "<script>"),
            of(None, None, &long),
        ];
        let runner = core.state.runner_named("one").unwrap().id;
        let checked = Checked::new(Telemetry { life: 1, refused, ..Telemetry::default() }, runner, &core.state);
        let reasons = checked.report.refused.iter().map(|refused| refused.reason.clone()).collect::<Vec<_>>();
        (reasons, checked.foreign, checked.names.len())
    };
    let (reasons, foreign, names) = world.coordinator.visit(look).await.unwrap();
    assert_eq!((reasons, foreign, names), (vec!["no-trust".into(), "other".into(), "other".into()], 2, 3));
}
