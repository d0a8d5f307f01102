//! Clients that write and look at coordinators of their choice, by the command line as operators do, and by the API.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    client::{Client, command, file},
    history::{Ending, History, Object},
    look,
};
use crate::{Chance, Outcome};

/// How many objects of each kind there are at once.
pub(super) const OBJECTS: usize = 2;

/// What the clients have come to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) confirmed: u64,
    pub(crate) refused: u64,
    pub(crate) unknown: u64,
    pub(crate) looks: u64,
    /// The longest time without a confirmed write anywhere.
    pub(crate) longest_gap: Duration,
}

#[derive(Debug)]
pub(super) struct Record {
    pub(super) history: History,
    counts: Counts,
    last: Instant,
    /// Since when a write is waited for, and how long the first one took that began after.
    mark: (Instant, Option<Duration>),
    generation: u32,
}

pub(super) struct Shared {
    /// The data directories of the coordinators.
    pub(super) places: Vec<PathBuf>,
    /// How long a client waits between two acts.
    pub(super) think: Duration,
    pub(super) stop: AtomicBool,
    /// Held by each client while it acts.
    pub(super) gate: RwLock<()>,
    record: Mutex<Record>,
    /// What is written next.
    pub(super) next: AtomicU32,
}

/// Takes in what a client has seen of a list.
type Saw = fn(&mut History, &Value, Instant);

/// Clients that go on until they are stopped.
pub(crate) struct Writers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    /// One client for each coordinator, and as many that choose.
    pub(crate) fn start(places: Vec<PathBuf>, think: Duration, seed: u64) -> Self {
        let now = Instant::now();
        let record =
            Record { history: History::new(), counts: Counts::default(), last: now, mark: (now, None), generation: 0 };
        let number = places.len();
        let shared = Arc::new(Shared {
            places,
            think,
            stop: AtomicBool::new(false),
            gate: RwLock::default(),
            record: Mutex::new(record),
            next: AtomicU32::new(1),
        });
        shared.begin_generation();
        let threads = (0..2 * number).map(|client| {
            let (shared, chance) = (Arc::clone(&shared), Chance::new(seed + 1 + client as u64));
            let client =
                Client { shared, chance, home: Some(client).filter(|client| *client < number), number: client };
            thread::spawn(move || client.run())
        });
        Self { threads: threads.collect(), shared }
    }

    /// From now on a write is waited for.
    pub(crate) fn mark(&self) -> Instant {
        let now = Instant::now();
        self.shared.record().mark = (now, None);
        now
    }

    /// How long after the mark a write was confirmed that began after it.
    pub(crate) fn since_mark(&self) -> Option<Duration> {
        self.shared.record().mark.1
    }

    pub(crate) fn counts(&self) -> Counts {
        self.shared.record().counts
    }

    /// Lets all clients pause, looks at each coordinator, and checks what has happened. Every so often the objects are
    /// exchanged, so that no history grows without end.
    pub(crate) fn check(&self, renew: bool) {
        let paused = self.shared.gate.write().unwrap_or_else(PoisonError::into_inner);
        self.shared.note_gap();
        for place in &self.shared.places {
            if !self.shared.look(place) {
                self.wrong(format!("{} doesn't answer though all is well", place.display()));
            }
        }
        self.shared.record().history.check();
        if renew {
            self.shared.end_generation();
            self.shared.begin_generation();
        }
        // Nothing was tried meanwhile.
        self.shared.record().last = Instant::now();
        drop(paused);
    }

    /// Something else that is wrong.
    pub(crate) fn wrong(&self, what: String) {
        self.shared.record().history.wrong.push(what);
    }

    pub(crate) fn all_wrong(&self) -> Vec<String> {
        self.shared.record().history.wrong.clone()
    }

    /// Ends all of them.
    pub(crate) fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                self.shared.record().history.wrong.push("a client has panicked".to_owned());
            }
        }
    }
}

impl Shared {
    pub(super) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn generation(&self) -> u32 {
        self.record().generation
    }

    pub(super) fn name(&self, number: usize) -> String {
        format!("g{}-{number}", self.generation())
    }

    /// The time since the last confirmed write.
    fn note_gap(&self) {
        let Record { counts, last, .. } = &mut *self.record();
        counts.longest_gap = counts.longest_gap.max(last.elapsed());
    }

    /// Takes the objects away. Some may be gone already.
    fn end_generation(&self) {
        for name in (0..OBJECTS).map(|number| self.name(number)) {
            for half in ["a", "b", "s", "t"] {
                let _ = command(&self.places[0], &["delete", &format!("{half}-{name}")]);
            }
        }
        let tokens = self.record().history.known_tokens();
        for token in tokens {
            let _ = command(&self.places[0], &["token", "revoke", &token]);
        }
    }

    /// Makes new objects. No client acts meanwhile, and all coordinators are well.
    fn begin_generation(&self) {
        self.record().generation += 1;
        self.record().history.forget();
        let names: Vec<String> = (0..OBJECTS).map(|number| self.name(number)).collect();
        let files = names.iter().map(|name| file(usize::MAX, &format!("t-{name}"), "x"));
        let arguments: Vec<String> = ["apply".to_owned(), "--prune".to_owned()].into_iter().chain(files).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        command(&self.places[0], &arguments).done();
        let mut record = self.record();
        for name in names {
            record.history.begin(Object::Pair(name.clone()));
            record.history.begin(Object::Single(format!("s-{name}")));
            record.history.begin(Object::Trust(format!("t-{name}")));
        }
    }

    /// Looks at everything at one coordinator. Whether it has answered.
    pub(super) fn look(&self, place: &Path) -> bool {
        let saws: [(&str, Saw); 3] = [
            ("services", History::saw_services),
            ("deployments", History::saw_deployments),
            ("tokens", History::saw_tokens),
        ];
        for (what, saw) in saws {
            let from = Instant::now();
            let Some(answer) = look::get(place, what) else { return false };
            let mut record = self.record();
            saw(&mut record.history, &answer, from);
            record.counts.looks += 1;
        }
        true
    }

    /// How a command has ended.
    pub(super) fn ending(&self, outcome: &Outcome, from: Instant) -> Ending {
        let ending = Ending::of_command(outcome);
        if ending.is_none() {
            self.record().history.wrong.push(format!("a command has ended in a strange way: {outcome:?}"));
        }
        self.count(ending.unwrap_or(Ending::Unknown), from)
    }

    /// How a request has ended.
    pub(super) fn ending_of(&self, answer: &look::Answer, from: Instant) -> Ending {
        self.count(Ending::of_request(answer), from)
    }

    fn count(&self, ending: Ending, from: Instant) -> Ending {
        let mut record = self.record();
        match ending {
            Ending::Confirmed => {
                let now = Instant::now();
                record.counts.confirmed += 1;
                record.counts.longest_gap = record.counts.longest_gap.max(now - record.last);
                record.last = now;
                let (mark, first) = record.mark;
                if from >= mark && first.is_none() {
                    record.mark.1 = Some(now - mark);
                }
            }
            Ending::Refused => record.counts.refused += 1,
            Ending::Unknown => record.counts.unknown += 1,
        }
        ending
    }
}
