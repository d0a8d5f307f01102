mod group;

use std::sync::Mutex;

use mesh_model::{Admin, AdminCommand};
use mesh_proto::{Epoch, Label};

use super::*;
use crate::{
    data::scratch::Scratch,
    store::{MemoryStore, SqliteStore, Watch},
    testing::file,
};

fn apply(name: &str) -> Command {
    let what =
        AdminCommand::Apply { files: vec![file(name, "acme", &["db"])], dry_run: false, force: false, prune: None };
    Command::Admin { by: Admin::socket(0), what }
}

async fn names(coordinator: &Coordinator) -> Vec<Label> {
    let rows = coordinator.visit(|core| core.state.deployments(&Admin::socket(0))).await.unwrap();
    rows.into_iter().map(|row| row.deployment).collect()
}

fn choose(range: Option<&str>, mtu: Option<u16>) -> Choice {
    Choice { range: range.map(|text| text.parse().unwrap()), mtu }
}

#[tokio::test]
async fn what_was_confirmed_outlasts_the_coordinator_and_so_do_the_epoch_and_the_running_time() {
    let scratch = Scratch::new();
    let path = scratch.path().join("db");
    let mut epochs = Vec::new();
    for name in ["one", "two"] {
        let store = SqliteStore::open(&path).await.unwrap();
        let (coordinator, writer) = Coordinator::start(store, Choice::default()).await.unwrap();
        coordinator.submit(apply(name)).await.unwrap();
        epochs.push(coordinator.visit(|core| core.sessions.epoch()).await.unwrap());
        drop(coordinator);
        writer.await.unwrap();
    }
    let store = SqliteStore::open(&path).await.unwrap();
    let (coordinator, _) = Coordinator::start(store, Choice::default()).await.unwrap();
    assert_eq!(names(&coordinator).await.iter().map(|name| &**name).collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(epochs[0], epochs[1]);
    drop(coordinator);

    // The time goes on from the last commit, and not from the last address that was freed.
    let store = MemoryStore::new();
    let meta = set_up(&Loaded { head: store.load().await.unwrap().head, records: vec![] }, Choice::default()).unwrap();
    let running = mesh_model::RunningSeconds(1_000_000);
    store.commit(Revision(0), Draft { running, ..theirs(meta) }).await.unwrap();
    let (coordinator, _) = Coordinator::start(store, Choice::default()).await.unwrap();
    assert!(coordinator.clock.now().running >= running);
}

/// One that has a database of 0.1 draws an epoch and keeps it, and so does one that can't write it at first.
#[tokio::test]
async fn a_database_without_an_epoch_gets_one() {
    let scratch = Scratch::new();
    let path = scratch.path().join("db");
    let old = concat!(env!("CARGO_MANIFEST_DIR"), "/../netns-tests/files/0.1/coordinator/mesh-coord.db");
    std::fs::copy(old, &path).unwrap();
    let mut epochs = Vec::new();
    for _ in 0..2 {
        let store = SqliteStore::open(&path).await.unwrap();
        let (coordinator, writer) = Coordinator::start(store, Choice::default()).await.unwrap();
        epochs.push(coordinator.visit(|core| core.sessions.epoch()).await.unwrap());
        drop(coordinator);
        writer.await.unwrap();
    }
    assert_eq!(epochs[0], epochs[1]);

    let store = SqliteStore::open(&path).await.unwrap();
    assert_eq!(store.load().await.unwrap().head.epoch, Some(epochs[0]));
    drop(store);
    // A program of 0.2 writes its revision only.
    let script = "UPDATE head SET epoch = NULL, revision = revision + 1";
    rusqlite::Connection::open(&path).unwrap().execute(script, []).unwrap();
    let store = Troubled { store: Arc::new(MemoryStore::new()), ..Troubled::new() };
    let loaded = SqliteStore::open(&path).await.unwrap().load().await.unwrap();
    assert_eq!(loaded.head.epoch, None);
    let records = loaded.records.into_iter().map(Change::Put).collect();
    store.store.commit(Revision(0), theirs(records)).await.unwrap();
    store.store.forget_epoch();
    *store.next.lock().unwrap() = Some(Trouble::Full);
    let (coordinator, _) = Coordinator::start(store.clone(), Choice::default()).await.unwrap();
    let epoch = coordinator.visit(|core| core.sessions.epoch()).await.unwrap();
    assert_eq!(store.load().await.unwrap().head.epoch, None, "there was no room");
    coordinator.submit(apply("one")).await.unwrap();
    assert_eq!(store.load().await.unwrap().head.epoch, Some(epoch));
}

#[tokio::test]
async fn the_range_is_chosen_once_and_the_mtu_may_change() {
    let scratch = Scratch::new();
    let path = scratch.path().join("db");
    let start = |choice| {
        let path = path.clone();
        async move {
            let (coordinator, writer) = Coordinator::start(SqliteStore::open(&path).await.unwrap(), choice).await?;
            let network = coordinator.visit(|core| core.state.network()).await.unwrap();
            drop(coordinator);
            writer.await.unwrap();
            Ok::<_, anyhow::Error>((network.range.to_string(), network.mtu))
        }
    };
    let error = start(choose(None, Some(10))).await.unwrap_err().to_string();
    assert!(error.contains("MTU of 10"), "{error}");
    assert_eq!(start(choose(Some("10.8.0.0/16"), None)).await.unwrap(), ("10.8.0.0/16".to_owned(), 1344));
    let error = start(choose(Some("10.9.0.0/16"), None)).await.unwrap_err().to_string();
    assert!(error.contains("has the range 10.8.0.0/16") && error.contains("leave --range out"), "{error}");
    assert_eq!(start(choose(Some("10.8.0.0/16"), Some(1280))).await.unwrap().1, 1280);
    assert_eq!(start(choose(None, None)).await.unwrap().1, 1280);
}

#[tokio::test]
async fn a_refused_command_and_one_that_changes_nothing_make_no_revision() {
    let (coordinator, _) = Coordinator::start(MemoryStore::new(), Choice::default()).await.unwrap();
    let first = coordinator.submit(apply("one")).await.unwrap();
    let again = coordinator.submit(apply("one")).await.unwrap();
    assert_eq!(first.revision, again.revision);
    let what = AdminCommand::Delete { deployment: "other".parse().unwrap(), force: false };
    let refused = coordinator.submit(Command::Admin { by: Admin::socket(0), what }).await;
    assert!(matches!(refused, Err(Failure::Refused(_))), "{refused:?}");
    assert_eq!(coordinator.visit(|core| core.state.revision()).await.unwrap(), first.revision);
}

/// A store that fails on demand, or that another coordinator writes to.
#[derive(Clone)]
struct Troubled {
    store: Arc<MemoryStore>,
    next: Arc<Mutex<Option<Trouble>>>,
    /// A commit without an answer that is still under way.
    late: Arc<Mutex<Option<(Revision, Draft)>>>,
}

enum Trouble {
    Full,
    OtherWriter(Vec<Change>),
    /// The commit has no answer.
    Unanswered(Unanswered),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unanswered {
    /// It was made.
    Made,
    /// It was not made.
    Lost,
    /// It is made when the store is asked for the next one.
    MadeLater,
    /// It was not made, and another coordinator commits in its place.
    Outpaced,
}

/// Another coordinator's commit.
fn theirs(changes: Vec<Change>) -> Draft {
    let nonce = Nonce(random::number().unwrap());
    Draft { changes, epoch: Epoch([7; 16]), running: mesh_model::RunningSeconds(0), nonce, right: None }
}

impl Troubled {
    fn new() -> Self {
        Self { store: Arc::new(MemoryStore::new()), next: Arc::default(), late: Arc::default() }
    }
}

impl Store for Troubled {
    async fn load(&self) -> Result<Loaded, StoreError> {
        self.store.load().await
    }

    async fn commit(&self, expected: Revision, draft: Draft) -> Result<Revision, StoreError> {
        let late = self.late.lock().unwrap().take();
        if let Some((expected, late)) = late {
            self.store.commit(expected, late).await.unwrap();
        }
        let trouble = self.next.lock().unwrap().take();
        match trouble {
            Some(Trouble::Full) => return Err(StoreError::Full),
            Some(Trouble::OtherWriter(changes)) => {
                let epoch = draft.epoch;
                self.store.commit(expected, Draft { epoch, ..theirs(changes) }).await.unwrap();
            }
            Some(Trouble::Unanswered(how)) => {
                match how {
                    Unanswered::Made => drop(self.store.commit(expected, draft).await.unwrap()),
                    Unanswered::Lost => {}
                    Unanswered::MadeLater => *self.late.lock().unwrap() = Some((expected, draft)),
                    Unanswered::Outpaced => {
                        let epoch = draft.epoch;
                        self.store.commit(expected, Draft { epoch, ..theirs(vec![]) }).await.unwrap();
                    }
                }
                return Err(StoreError::Unknown);
            }
            None => {}
        }
        self.store.commit(expected, draft).await
    }

    async fn watch(&self, from: Revision) -> Result<Watch, StoreError> {
        self.store.watch(from).await
    }

    async fn sync(&self) -> Result<Revision, StoreError> {
        self.store.sync().await
    }
}

#[tokio::test]
async fn a_store_that_fails_leaves_everything_as_it_was() {
    let store = Troubled::new();
    let (coordinator, _) = Coordinator::start(store.clone(), Choice::default()).await.unwrap();
    *store.next.lock().unwrap() = Some(Trouble::Full);
    assert!(matches!(coordinator.submit(apply("one")).await, Err(Failure::Store(StoreError::Full))));
    assert!(names(&coordinator).await.is_empty());
    coordinator.submit(apply("one")).await.unwrap();
    assert_eq!(names(&coordinator).await.len(), 1);
}

#[tokio::test]
async fn a_commit_without_an_answer_is_there_once_wherever_it_went() {
    for how in [Unanswered::Made, Unanswered::Lost, Unanswered::MadeLater, Unanswered::Outpaced] {
        let store = Troubled::new();
        let (coordinator, _) = Coordinator::start(store.clone(), Choice::default()).await.unwrap();
        *store.next.lock().unwrap() = Some(Trouble::Unanswered(how));
        let first = coordinator.submit(apply("one")).await.unwrap();
        // Made twice, it would have two numbers.
        let again = coordinator.submit(apply("one")).await.unwrap();
        assert!(again.revision >= first.revision, "{how:?}");
        let loaded = store.load().await.unwrap();
        assert_eq!(loaded.head.revision, again.revision, "{how:?}");
        let deployments = loaded.records.iter().filter(|record| matches!(record, Record::Deployment(_))).count();
        assert_eq!((deployments, names(&coordinator).await.len()), (1, 1), "{how:?}");
        let audit = coordinator.visit(|core| core.state.audit(&Admin::socket(0), 9)).await.unwrap();
        assert_eq!(audit.iter().filter(|entry| entry.action == "apply").count(), 1, "{how:?}");
    }
}

#[tokio::test]
async fn a_command_is_decided_on_anew_when_another_coordinator_was_first() {
    let store = Troubled::new();
    let (coordinator, _) = Coordinator::start(store.clone(), Choice::default()).await.unwrap();
    let theirs = {
        let command = apply("theirs");
        coordinator.visit(move |core| core.state.decide(&command, UnixSeconds(1)).unwrap().changes).await.unwrap()
    };
    *store.next.lock().unwrap() = Some(Trouble::OtherWriter(theirs));
    coordinator.submit(apply("ours")).await.unwrap();
    let rows = coordinator.visit(|core| core.state.deployments(&Admin::socket(0))).await.unwrap();
    assert_eq!(rows.len(), 2);
    assert_ne!(rows[0].id, rows[1].id, "each number is given once");
}

#[tokio::test]
async fn what_another_coordinator_writes_is_taken_in() {
    let store = Troubled::new();
    let (coordinator, _) = Coordinator::start(store.clone(), Choice::default()).await.unwrap();
    let (revision, theirs) = {
        let command = apply("theirs");
        let decide = move |core: &mut Core| {
            (core.state.revision(), core.state.decide(&command, UnixSeconds(1)).unwrap().changes)
        };
        coordinator.visit(decide).await.unwrap()
    };
    store.store.commit(revision, self::theirs(theirs)).await.unwrap();
    while names(&coordinator).await.is_empty() {
        tokio::task::yield_now().await;
    }
}

/// A store that doesn't answer, and a command that waits for it.
async fn hanging() -> (Coordinator, Arc<tokio::sync::watch::Sender<bool>>, JoinHandle<Result<Done, Failure>>) {
    let store = MemoryStore::new();
    let answers = store.answers();
    let (coordinator, _) = Coordinator::start(store, Choice::default()).await.unwrap();
    answers.send_replace(false);
    let first = tokio::spawn({
        let coordinator = coordinator.clone();
        async move { coordinator.submit(apply("first")).await }
    });
    tokio::task::yield_now().await;
    (coordinator, answers, first)
}

#[tokio::test]
async fn a_disk_that_hangs_refuses_commands_and_delays_no_reader() {
    let (coordinator, answers, first) = hanging().await;
    assert!(names(&coordinator).await.is_empty(), "looking goes on");
    let second = coordinator.submit(apply("second"));
    for refused in [first.await.unwrap(), second.await, coordinator.submit(apply("third")).await] {
        assert!(matches!(refused, Err(Failure::Store(StoreError::Slow))), "{refused:?}");
    }
    assert!(names(&coordinator).await.is_empty());
    // It recovers by itself, and the pending commit is done.
    answers.send_replace(true);
    coordinator.submit(apply("fourth")).await.unwrap();
    assert_eq!(names(&coordinator).await.iter().map(|name| &**name).collect::<Vec<_>>(), ["first", "fourth"]);
}

#[tokio::test]
async fn the_end_of_the_coordinator_leaves_open_what_became_of_a_command_that_was_under_way() {
    let store = MemoryStore::new();
    let answers = store.answers();
    let (coordinator, writer) = Coordinator::start(store, Choice::default()).await.unwrap();
    answers.send_replace(false);
    let first = coordinator.submit(apply("first"));
    let ended = async {
        tokio::task::yield_now().await;
        writer.abort();
    };
    let (first, ()) = tokio::join!(first, ended);
    assert!(matches!(&first, Err(Failure::Store(error)) if error.is_unknown()), "{first:?}");
    let second = coordinator.submit(apply("second")).await;
    assert!(matches!(second, Err(Failure::Ending)), "that one was never begun: {second:?}");
}

#[tokio::test]
async fn a_tenant_that_asks_without_end_is_one_of_two_in_the_writers_turns() {
    let (coordinator, answers, first) = hanging().await;
    let of = |team: &str, runner| Tenant {
        team: team.into(),
        who: crate::tenant::Who::Runner(mesh_proto::RunnerId(runner)),
    };
    let ask = |tenant: Tenant, name: String| {
        let coordinator = coordinator.on_account(Some(&tenant));
        tokio::spawn(async move { coordinator.submit(apply(&name)).await.unwrap().revision })
    };
    let loud: Vec<_> = (0..60).map(|n| ask(of("loud", n % 6), format!("loud-{n}"))).collect();
    tokio::task::yield_now().await;
    let quiet = ask(of("quiet", 99), "quiet".to_owned());
    tokio::task::yield_now().await;
    let operator = tokio::spawn({
        let coordinator = coordinator.clone();
        async move { coordinator.submit(apply("operator")).await.unwrap().revision }
    });
    tokio::task::yield_now().await;
    answers.send_replace(true);
    let begun = first.await.unwrap().unwrap().revision;
    assert_eq!(operator.await.unwrap(), Revision(begun.0 + 1), "the operator is next");
    assert!(quiet.await.unwrap().0 <= begun.0 + 3, "then one of the loud team's at most");
    for answer in loud {
        answer.await.unwrap();
    }
}

#[tokio::test]
async fn the_keyring_knows_what_was_committed_and_nothing_else() {
    let (coordinator, _) = Coordinator::start(MemoryStore::new(), Choice::default()).await.unwrap();
    let runner = crate::testing::enrolled(&coordinator).await;
    let secret = |byte| mesh_proto::Secret::from_bytes([byte; 32]);
    let credential = |byte| mesh_proto::token::Credential { runner, secret: secret(byte) };
    let known = coordinator.keyring.runner(&credential(1)).unwrap();
    assert_eq!((&*known.team, known.who), ("", crate::tenant::Who::Runner(runner)));
    assert!(coordinator.keyring.runner(&credential(2)).is_none());
    let token = mesh_proto::TokenId(1);
    assert!(coordinator.keyring.token(token, &secret(1)).is_some());
    assert!(coordinator.keyring.token(token, &secret(2)).is_none());
    assert!(coordinator.keyring.token(mesh_proto::TokenId(2), &secret(1)).is_none());
}
