//! How much memory an agent takes: alone, for each peer that it only knows, and for each with a session.

use std::{
    fmt::Write as _,
    fs, thread,
    time::{Duration, Instant},
};

use mesh_netns_tests::{Namespace, Runner, Stack, World, wait};
use serde_json::{Value, json};

use crate::known;

/// Peers that are known, and those of them with which there are sessions.
const KNOWN: usize = 1000;
const SESSIONS: usize = 200;

/// Memory that hasn't changed for so long has settled.
const SETTLED: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Memory {
    /// Resident, of an agent that has joined and knows no others.
    pub(crate) alone_kib: f64,
    /// Of that, what isn't the program itself.
    anonymous_kib: f64,
    /// More of the latter, for each peer that is known.
    pub(crate) known_kib: f64,
    /// More again, for each peer with a session.
    pub(crate) session_kib: f64,
}

impl Memory {
    pub(crate) fn measure(world: &World) -> Self {
        eprintln!("memory: {KNOWN} peers, {SESSIONS} sessions");
        let mut coordinator = world.coordinator_named("mc", &[]);
        let mut runner = world.runner(&coordinator, "ma", Stack::V4);
        let far = Namespace::create("mb");
        World::cable(runner.namespace(), &far);
        let [alone_kib, anonymous_kib] = settled(&runner);
        // From here on it goes by what it has on disk.
        coordinator.kill();
        runner.stop();
        let [_, alone] = again(&mut runner);
        runner.stop();
        let secrets = known::enlarge(runner.state(), KNOWN, 0);
        let [_, known] = again(&mut runner);
        let to = (World::cable_end(0), 51820).into();
        known::connect(&secrets[..SESSIONS], runner.state(), &far, to);
        let [_, connected] = settled(&runner);
        let status = runner.json(&["status"]);
        let peers = status["peers"].as_array().map(Vec::as_slice).unwrap_or_default();
        assert_eq!(peers.len(), KNOWN, "it knows them all");
        let sessions = peers.iter().filter(|peer| peer["handshake_age_seconds"].is_u64()).count();
        assert_eq!(sessions, SESSIONS, "all sessions stand");
        Self {
            alone_kib,
            anonymous_kib,
            known_kib: (known - alone) / KNOWN as f64,
            session_kib: (connected - known) / SESSIONS as f64,
        }
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "memory of an agent: {:.1} MiB resident ({:.1} MiB of it its own) without peers; {:.2} KiB more for each of {KNOWN} \
             known peers, {:.1} KiB more for each of {SESSIONS} sessions",
            self.alone_kib / 1024.0,
            self.anonymous_kib / 1024.0,
            self.known_kib,
            self.session_kib
        );
        text
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "alone_resident_kib": self.alone_kib,
            "alone_anonymous_kib": self.anonymous_kib,
            "known_peer_kib": self.known_kib,
            "known_peers": KNOWN,
            "session_kib": self.session_kib,
            "sessions": SESSIONS,
        })
    }
}

/// Starts it without a coordinator; nothing is asked of it, since answers take memory too.
fn again(runner: &mut Runner) -> [f64; 2] {
    let socket = runner.state().join("agent.sock");
    let _ = fs::remove_file(&socket);
    runner.begin(&[]);
    wait::until_true("the agent to listen", || socket.exists());
    settled(runner)
}

/// What proc(5) calls VmRSS and RssAnon, in KiB, when they change no more.
fn settled(runner: &Runner) -> [f64; 2] {
    let path = format!("/proc/{}/status", runner.pid());
    let mut last = (vec![], Instant::now());
    let fields = wait::until("the agent's memory to settle", || {
        let status = fs::read_to_string(&path).expect("the agent runs");
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
        let now: Vec<f64> =
            ["VmRSS:", "RssAnon:"].into_iter().filter_map(|name| field(name)?.trim().parse().ok()).collect();
        if now != last.0 {
            last = (now, Instant::now());
        }
        thread::sleep(Duration::from_millis(50));
        (last.1.elapsed() >= SETTLED).then(|| last.0.clone())
    });
    fields.try_into().expect("both fields")
}
