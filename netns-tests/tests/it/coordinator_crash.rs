//! The coordinator is killed at random instants; its disk fails as in a power cut, fills up, or can't be written:
//! everything that it has confirmed is there, and nothing is half done.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    hash::{BuildHasher as _, RandomState},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use mesh_netns_tests::{
    Coordinator, Daemon, Outcome, Stack, World, isolated, isolated_for, run,
    traffic::{Answer, ping},
    wait,
};

use crate::common::{SHOP, declare, reaches};

/// Clients that write at once, and how much all of them write.
const WRITERS: usize = 4;
const WRITES: usize = 500;

/// What the coordinator has confirmed.
#[derive(Debug, Default, Clone)]
struct Confirmed {
    /// Deployments, made in pairs by one command.
    pairs: BTreeSet<String>,
    /// Of a pair, `a` trusts `b`.
    trusting: BTreeSet<String>,
    tokens: BTreeSet<String>,
}

impl Confirmed {
    fn count(&self) -> usize {
        self.pairs.len() + self.trusting.len() + self.tokens.len()
    }
}

/// Clients that write until they are stopped.
struct Writers {
    stop: Arc<AtomicBool>,
    confirmed: Arc<Mutex<Confirmed>>,
    threads: Vec<JoinHandle<()>>,
}

/// A command to the coordinator of a data directory, by its socket.
fn command(data: &Path, arguments: &[&str]) -> Outcome {
    let mut command = Command::new(std::env::var("MESH_COORD").expect("the program under test"));
    command.args(arguments).arg("--json").env("MESH_COORD_DATA", data);
    run(command)
}

impl Writers {
    /// Names begin with `round`. `confirmed` is what was confirmed before.
    fn start(coordinator: &Coordinator, round: &str, confirmed: &Arc<Mutex<Confirmed>>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..WRITERS).map(|writer| {
            let (stop, confirmed) = (Arc::clone(&stop), Arc::clone(confirmed));
            let (data, round) = (coordinator.data().to_owned(), round.to_owned());
            thread::spawn(move || {
                for n in 0.. {
                    if stop.load(Ordering::Acquire) {
                        return;
                    }
                    write(&data, &format!("{round}-{writer}-{n}"), &confirmed);
                }
            })
        });
        Self { threads: threads.collect(), stop, confirmed: Arc::clone(confirmed) }
    }

    /// Waits until this many more are confirmed.
    fn wait_more(&self, more: usize) {
        let enough = lock(&self.confirmed).count() + more;
        wait::until_true("writes to be confirmed", || lock(&self.confirmed).count() >= enough);
    }

    fn finish(self) {
        self.stop.store(true, Ordering::Release);
        self.threads.into_iter().for_each(|thread| thread.join().expect("a writer"));
    }
}

fn lock(confirmed: &Mutex<Confirmed>) -> std::sync::MutexGuard<'_, Confirmed> {
    confirmed.lock().expect("no thread panics with it")
}

/// One command of each kind. An unanswered one may have been executed or not, but not by half.
fn write(data: &Path, name: &str, confirmed: &Mutex<Confirmed>) {
    let files = ["a", "b"].map(|half| {
        let path = format!("/run/{half}-{name}.toml");
        fs::write(&path, format!("deployment = \"{half}-{name}\"\n[services.x]\n[services.y]\n")).expect("a file");
        path
    });
    if command(data, &["apply", &files[0], &files[1]]).code == Some(0) {
        lock(confirmed).pairs.insert(name.to_owned());
        let trust = ["trust", &format!("b-{name}"), "--app", &format!("a-{name}")];
        if command(data, &trust).code == Some(0) {
            lock(confirmed).trusting.insert(name.to_owned());
        }
    }
    let made = command(data, &["token", "create", "--any"]);
    if made.code == Some(0) {
        let id = made.json()["id"].as_str().expect("an identifier").to_owned();
        lock(confirmed).tokens.insert(id);
    }
    for file in files {
        let _ = fs::remove_file(file);
    }
}

/// By deployment: the deployments that it trusts, and the number of its services.
type Deployments = BTreeMap<String, (Vec<String>, u64)>;

/// The content of a coordinator: the deployments and the tokens.
fn held(data: &Path) -> (Deployments, BTreeSet<String>) {
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let all = command(data, &["deployments"]).done().json();
    let deployments = all["deployments"].as_array().expect("an array").iter().map(|deployment| {
        let trusts = deployment["trusts"].as_array().expect("an array").iter().map(text).collect();
        (text(&deployment["deployment"]), (trusts, deployment["services"].as_u64().expect("a number")))
    });
    let tokens = command(data, &["token", "list"]).done().json();
    let tokens = tokens["tokens"].as_array().expect("an array").iter().map(|token| text(&token["id"]));
    (deployments.collect(), tokens.collect())
}

/// Everything confirmed is there, and nothing unconfirmed is half there. `all`: nothing may be missing.
#[track_caller]
fn check(data: &Path, confirmed: &Confirmed, all: bool) {
    let (deployments, tokens) = held(data);
    for (name, (trusts, services)) in &deployments {
        assert_eq!(*services, 2, "{name} is whole");
        let (half, pair) = name.split_once('-').expect("a half and a name");
        let other = format!("{}-{pair}", if half == "a" { "b" } else { "a" });
        assert!(deployments.contains_key(&other), "{name} without {other}");
        assert!(half == "b" || trusts.is_empty() || *trusts == [other], "{name}: {trusts:?}");
    }
    if all {
        for name in &confirmed.pairs {
            assert!(deployments.contains_key(&format!("a-{name}")), "{name} was confirmed");
        }
        for name in &confirmed.trusting {
            assert_eq!(deployments[&format!("a-{name}")].0, [format!("b-{name}")], "{name}'s trust was confirmed");
        }
        let missing: Vec<_> = confirmed.tokens.difference(&tokens).collect();
        assert!(missing.is_empty(), "tokens that were confirmed: {missing:?}");
    }
}

/// SQLite's own check of a database that isn't open.
#[track_caller]
fn check_integrity(data: &Path) {
    let database = rusqlite::Connection::open(data.join("mesh-coord.db")).expect("the database");
    let said: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("an answer");
    assert_eq!(said, "ok");
}

/// A random number below `bound`; a failure prints it.
fn random(bound: usize) -> usize {
    let drawn = RandomState::new().hash_one(0) as usize % bound;
    println!("drawn: {drawn} of {bound}");
    drawn
}

#[test]
fn killed_at_random_instants_it_keeps_what_it_has_confirmed() {
    isolated(|| {
        let world = World::new();
        let mut coordinator = world.coordinator(&[]);
        let confirmed = Arc::new(Mutex::new(Confirmed::default()));
        let mut round = 0;
        while lock(&confirmed).count() < WRITES {
            let writers = Writers::start(&coordinator, &format!("r{round}"), &confirmed);
            writers.wait_more(20 + random(60));
            coordinator.kill();
            writers.finish();
            check_integrity(coordinator.data());
            coordinator.start();
            check(coordinator.data(), &lock(&confirmed), true);
            round += 1;
        }
        println!("{} writes confirmed, killed {round} times", lock(&confirmed).count());
    });
}

/// A coordinator on a copy of another one's directory.
fn serve(copy: &Path) -> Daemon {
    let mut command = Command::new(std::env::var("MESH_COORD").expect("the program under test"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(copy);
    let mut daemon = Daemon::start(command, &copy.with_extension("log"));
    wait::until_true("the coordinator to answer", || {
        assert!(daemon.runs(), "it ended at once:\n{}", daemon.log());
        self::command(copy, &["nodes"]).code == Some(0)
    });
    daemon
}

/// Copies a directory without its socket.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a directory");
    for entry in fs::read_dir(from).expect("the data directory") {
        let entry = entry.expect("an entry");
        if entry.file_type().expect("a type").is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("cannot copy a file");
        }
    }
}

#[test]
fn a_power_cut_at_any_instant_leaves_what_was_confirmed() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        let confirmed = Arc::new(Mutex::new(Confirmed::default()));
        let writers = Writers::start(&coordinator, "p", &confirmed);
        let mut copies: Vec<(PathBuf, Confirmed)> = vec![];
        for n in 0..8 {
            writers.wait_more(1 + random(30));
            let to = PathBuf::from(format!("/run/copy{n}"));
            let then = coordinator.frozen(|| {
                let then = lock(&confirmed).clone();
                copy(coordinator.data(), &to);
                then
            });
            copies.push((to, then));
        }
        writers.finish();
        for (n, (data, then)) in copies.into_iter().enumerate() {
            // In every other copy the end of the log never reached the disk, and is torn even within a page.
            let torn = n % 2 == 1;
            if torn {
                let log = fs::OpenOptions::new().write(true).open(data.join("mesh-coord.db-wal")).expect("the log");
                let length = log.metadata().expect("its length").len();
                log.set_len(length - random(length as usize) as u64).expect("cannot shorten it");
            }
            let mut daemon = serve(&data);
            check(&data, &then, !torn);
            command(&data, &["token", "create", "--any"]).done();
            assert!(daemon.runs());
            daemon.kill();
            check_integrity(&data);
        }
    });
}

fn mount(options: &str) {
    let mut command = Command::new("mount");
    run({
        command.args(["-t", "tmpfs", "-o", options, "tmpfs", "/run/coord"]);
        command
    })
    .done();
}

fn fill() {
    // Until the disk is full: the last write fails.
    let _ = fs::write("/run/coord/filler", vec![7; 64 << 20]);
}

#[test]
fn a_disk_that_is_full_or_read_only_stops_nothing_but_changes() {
    isolated(|| {
        let world = World::new();
        fs::create_dir("/run/coord").expect("a directory");
        mount("size=4m,mode=700");
        let mut coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let ovh = world.runner(&coordinator, "ovh", Stack::Dual);
        let (app, db) = (aws.attach("shop/app"), ovh.attach("shop/db"));
        let _server = db.serve(5432, Answer::Echo);
        let mut standing = app.connect(db.service_address, 5432).expect("a connection");

        fill();
        for words in [["full", "room"]; 2] {
            coordinator.command(&["trust", "other", "--app", "shop"]).refused(&words);
            coordinator.command(&["token", "create", "--any"]).refused(&words);
            aws.command(&["attach", "shop/db", "--netns", "/run/netns/aws-0"]).refused(&[]);
            let services = coordinator.json(&["services"]);
            assert_eq!(services["services"].as_array().map(Vec::len), Some(2), "it goes on answering: {services:#}");
            for name in ["aws", "ovh"] {
                assert_eq!(coordinator.node(name).expect("it is listed")["state"], "online");
            }
            ping(&mut standing, b"still there?").expect("the old connection");
            reaches(&app, db.service_address, 5432);
        }
        fs::remove_file("/run/coord/filler").expect("it was made");
        coordinator.command(&["token", "create", "--any"]).done();
        coordinator.command(&["trust", "other", "--app", "shop"]).done();
        let trust = coordinator.json(&["trust", "--app", "shop"]);
        assert_eq!(trust["trust"].as_array().map(Vec::len), Some(1), "what was refused is not there: {trust:#}");

        // Read-only from the start (an open file can't be made so): readers are served, and nothing is lost.
        let admin = coordinator.command(&["token", "create", "--admin"]).done().stdout.trim().to_owned();
        coordinator.stop();
        mount("remount,ro");
        let reader = Daemon::start(coordinator.prepare(&["serve"]), Path::new("/run/reader.log"));
        let afar = |arguments: &[&str]| {
            let mut command = coordinator.prepare(arguments);
            command.args(["--url", &coordinator.url(false)]).env("MESH_ADMIN_TOKEN", &admin);
            run(command)
        };
        wait::until_true("the agents to be served", || {
            let nodes = afar(&["nodes", "--json"]);
            nodes.code == Some(0)
                && nodes.json()["nodes"].as_array().is_some_and(|all| all.iter().all(|node| node["state"] == "online"))
        });
        afar(&["trust", "third", "--app", "shop"]).refused(&["ead-only", "writable"]);
        assert!(reader.log().contains("no admin socket"), "{}", reader.log());
        ping(&mut standing, b"still there?").expect("the old connection");
        assert!(reader.terminate().success());
        // A coordinator that has never run there says what is wrong.
        coordinator.command(&["serve", "--data", "/run/coord/other"]).refused(&["/run/coord/other", "ead-only"]);
        mount("remount,rw");
        coordinator.start();
        wait::until_true("the agents to be back", || {
            ["aws", "ovh"].iter().all(|name| coordinator.node(name).is_some_and(|node| node["state"] == "online"))
        });
        reaches(&app, db.service_address, 5432);
    });
}

/// The number of agents.
const AGENTS: usize = 200;
/// How long all of them together may take, in a debug build on a busy machine.
const LIMIT: Duration = Duration::from_secs(240);

/// A process's resident memory in bytes (proc(5)).
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

#[test]
fn two_hundred_agents_come_back_at_once() {
    isolated_for(3 * LIMIT, || {
        let world = World::new();
        let mut coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let machine = world.machine("machine", Stack::V4);
        let token = coordinator.token(&["--any", "--uses", &AGENTS.to_string()]);
        let url = coordinator.url(false);
        let agents: Vec<Daemon> = (0..AGENTS)
            .map(|n| {
                let state = format!("/run/agent{n}");
                let name = format!("agent{n}");
                let join = ["join", &url, &token, "--name", &name, "--listen", "0", "--state", &state];
                Daemon::start(machine.prepare(&join), Path::new(&format!("/run/{name}.log")))
            })
            .collect();
        let online = |coordinator: &Coordinator| {
            let nodes = coordinator.json(&["nodes"]);
            let up = |node: &&serde_json::Value| node["state"] == "online" && node["revision"].is_u64();
            nodes["nodes"].as_array().expect("an array").iter().filter(up).count()
        };
        wait::true_within(LIMIT, "all to join", || online(&coordinator) == AGENTS);
        let before = resident(coordinator.pid());
        coordinator.kill();
        coordinator.start();
        wait::true_within(LIMIT, "all to be back", || online(&coordinator) == AGENTS);
        let after = resident(coordinator.pid());
        println!("{AGENTS} agents: {} kB resident before the restart, {} kB after", before >> 10, after >> 10);
        assert!(after < 200 << 20, "{after} bytes for {AGENTS} agents");
        declare(&coordinator, &["deployment = \"more\"\n[services.x]\n"]);
        drop(agents);
    });
}
