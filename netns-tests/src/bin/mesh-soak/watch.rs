//! Watches what must go on: the long transfers, and the memory and descriptors of every program.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::mesh::{Long, Mesh, RUNNERS};

/// How long a transfer that has no excuse may stand still.
pub(crate) const STALL: Duration = Duration::from_secs(5);

/// What a program used at one time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) at: Instant,
    pub(crate) memory_kib: u64,
    pub(crate) descriptors: u64,
}

/// A program from its start to its end.
#[derive(Debug)]
pub(crate) struct Life {
    pid: u32,
    pub(crate) samples: Vec<Sample>,
}

#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) lives: BTreeMap<String, Vec<Life>>,
    /// The longest that a transfer has stood still, and what is wrong.
    pub(crate) longest_stall: Duration,
    pub(crate) wrong: Vec<String>,
}

/// A runner that is down or cut off has an excuse, and so have its connections: until it is back, and, since TCP waits
/// twice as long each time (RFC 6298 §5.5), for as long again and a second.
#[derive(Debug, Clone, Copy)]
struct Excuse {
    since: Option<Instant>,
    until: Instant,
}

struct Shared {
    over: AtomicBool,
    seen: Mutex<Seen>,
    excuses: Mutex<[Excuse; RUNNERS]>,
    processes: Mutex<Vec<(String, u32)>>,
}

pub(crate) struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(crate) fn start(mesh: &Mesh, now: Instant) -> Self {
        let shared = Arc::new(Shared {
            over: AtomicBool::new(false),
            seen: Mutex::default(),
            excuses: Mutex::new([Excuse { since: None, until: now }; RUNNERS]),
            processes: Mutex::new(mesh.processes()),
        });
        let (of_thread, long) = (Arc::clone(&shared), Arc::clone(&mesh.long));
        let thread = thread::spawn(move || watch(&of_thread, &long));
        Self { shared, thread: Some(thread) }
    }

    /// A runner is down, or cut off, from now on.
    pub(crate) fn excuse(&self, runner: usize) {
        lock(&self.shared.excuses)[runner].since = Some(Instant::now());
        // A process that is gone has no figures.
        lock(&self.shared.processes).clear();
    }

    /// It is back.
    pub(crate) fn expect(&self, runner: usize, mesh: &Mesh) {
        let (mut excuses, now) = (lock(&self.shared.excuses), Instant::now());
        let since = excuses[runner].since.take().unwrap_or(now);
        excuses[runner].until = now + (now - since) + Duration::from_secs(1);
        drop(excuses);
        self.renew(mesh);
    }

    /// The programs are these from now on.
    pub(crate) fn renew(&self, mesh: &Mesh) {
        *lock(&self.shared.processes) = mesh.processes();
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.shared.seen)
    }

    /// Ends it: what follows is no longer looked at.
    pub(crate) fn stop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("watching doesn't panic");
        }
    }
}

fn watch(shared: &Shared, long: &[Long]) {
    let begun = Instant::now();
    let mut moved: Vec<(u64, Instant)> = vec![(0, begun); long.len()];
    let mut reported = vec![false; long.len()];
    let mut sampled = begun;
    while !shared.over.load(Ordering::Acquire) {
        thread::sleep(Duration::from_millis(100));
        let (now, excuses) = (Instant::now(), *lock(&shared.excuses));
        for ((long, moved), reported) in long.iter().zip(&mut moved).zip(&mut reported) {
            let bytes = long.transfer.moved();
            if bytes != moved.0 {
                (*moved, *reported) = ((bytes, now), false);
            }
            let excused = |runner: usize| if excuses[runner].since.is_some() { now } else { excuses[runner].until };
            let since = long.between.iter().map(|runner| excused(*runner)).fold(moved.1, Instant::max);
            let stall = now.saturating_duration_since(since);
            let mut seen = lock(&shared.seen);
            seen.longest_stall = seen.longest_stall.max(stall);
            let [from, to] = long.between.map(|runner| runner + 1);
            if !*reported && long.transfer.has_ended() {
                *reported = true;
                seen.wrong.push(format!("the transfer from r{from} to r{to} has ended"));
            } else if !*reported && stall > STALL {
                *reported = true;
                seen.wrong.push(format!("the transfer from r{from} to r{to} stands still for {STALL:?}"));
            }
        }
        if now - sampled >= Duration::from_secs(1) {
            sampled = now;
            let processes = lock(&shared.processes);
            for (name, pid) in &*processes {
                if let Some(sample) = sample(*pid, now) {
                    note(&mut lock(&shared.seen), name, *pid, sample);
                }
            }
        }
    }
}

fn note(seen: &mut Seen, name: &str, pid: u32, sample: Sample) {
    let lives = seen.lives.entry(name.to_owned()).or_default();
    match lives.last_mut() {
        Some(life) if life.pid == pid => life.samples.push(sample),
        _ => lives.push(Life { pid, samples: vec![sample] }),
    }
}

/// What proc(5) says of a process; `None` if it is gone.
fn sample(pid: u32, at: Instant) -> Option<Sample> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let memory_kib = memory.trim().trim_end_matches("kB").trim().parse().ok()?;
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    Some(Sample { at, memory_kib, descriptors })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no one panics holding it")
}
