//! The phases of a run, and what each has cost.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::{
    agent::Herd,
    changes::Changes,
    coordinator::{Coordinator, Usage},
    mesh::Mesh,
};

/// What is asked for, by its path; what doesn't begin with a slash is of the administrators' API.
pub(crate) const LOOKS: [(&str, &str); 4] = [
    ("a scrape of the metrics", "/metrics"),
    ("the overview by the API", "overview"),
    ("who talks to whom by the API", "edges"),
    ("the last 24 hours by the API", "edges/series"),
];
/// How often each.
const TIMES: u32 = 10;
/// How long agents may take to connect.
const PATIENCE: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(5);
/// When a coordinator that has just started may count runners as silent.
const GRACE: Duration = Duration::from_secs(30);
/// News that doesn't come for this long has ended.
const QUIET: Duration = Duration::from_secs(3);

/// What a number of runners has cost.
pub(crate) struct Run {
    pub(crate) runners: usize,
    pub(crate) services: usize,
    pub(crate) records: usize,
    pub(crate) phases: Vec<Phase>,
    pub(crate) changes: Vec<Changes>,
}

/// What a phase has cost.
pub(crate) struct Phase {
    pub(crate) name: &'static str,
    pub(crate) took: Duration,
    pub(crate) cpu: Duration,
    /// Resident memory at its end and at most, in KiB.
    pub(crate) memory: u64,
    pub(crate) peak: u64,
    pub(crate) notes: String,
}

impl Run {
    pub(crate) fn new(mesh: &Mesh, records: usize) -> Self {
        Self { runners: mesh.runners, services: mesh.services(), records, phases: vec![], changes: vec![] }
    }

    pub(crate) fn add(&mut self, phase: Phase) {
        eprintln!("{} runners: {}", self.runners, phase.text());
        self.phases.push(phase);
    }

    pub(crate) fn add_changes(&mut self, changes: Changes) {
        eprintln!("{} runners: {}", self.runners, changes.text());
        self.changes.push(changes);
    }
}

impl Phase {
    pub(crate) fn text(&self) -> String {
        format!(
            "{}: {:.2} s, {:.2} s of processor time, {} MiB, at most {} MiB{}{}",
            self.name,
            self.took.as_secs_f64(),
            self.cpu.as_secs_f64(),
            self.memory >> 10,
            self.peak >> 10,
            if self.notes.is_empty() { "" } else { "; " },
            self.notes,
        )
    }

    pub(crate) fn start(coordinator: &Coordinator) -> Self {
        let usage = coordinator.usage();
        Self::with("start", coordinator.started_in, usage.cpu, &usage)
    }

    pub(crate) fn memory(name: &'static str, coordinator: &Coordinator) -> Self {
        Self::with(name, Duration::ZERO, Duration::ZERO, &coordinator.usage())
    }

    fn with(name: &'static str, took: Duration, cpu: Duration, usage: &Usage) -> Self {
        Self { name, took, cpu, memory: usage.memory, peak: usage.peak, notes: String::new() }
    }

    /// From the coordinator's readiness, or this call, until every agent has its view.
    pub(crate) async fn connect(
        name: &'static str,
        coordinator: &Coordinator,
        herd: &Rc<Herd>,
        begin: impl FnOnce(),
    ) -> Result<Self, String> {
        let counts = &herd.counts;
        while counts.connected.get() > 0 {
            sleep(LOOK).await;
        }
        let (broken, refused) = (counts.broken.get(), counts.refused.get());
        let (snapshots, bytes) = (counts.snapshots.get(), counts.bytes.get());
        begin();
        herd.coordinator_at(Some(coordinator.address));
        let done = || counts.synced.get() >= herd.expected();
        let phase = Self::until(name, coordinator, coordinator.ready, PATIENCE, done).await;
        let seen = format!(
            "{} of {} synced, {} refused, {} broken, {} snapshots, {:.1} MiB sent",
            counts.synced.get(),
            herd.expected(),
            counts.refused.get() - refused,
            counts.broken.get() - broken,
            counts.snapshots.get() - snapshots,
            (counts.bytes.get() - bytes) as f64 / f64::from(1 << 20),
        );
        match phase {
            Some(phase) => Ok(Self { notes: seen, ..phase }),
            None => Err(format!("{name}: not within {} s: {seen}", PATIENCE.as_secs())),
        }
    }

    /// Nothing happens.
    pub(crate) async fn idle(coordinator: &Coordinator, herd: &Herd, idle: Duration) -> Result<Self, String> {
        let (begun, broken) = (Instant::now(), herd.counts.broken.get());
        let over = || begun.elapsed() >= idle;
        let phase = Self::until("idle", coordinator, begun, idle * 2, over).await.ok_or("the machine stands still")?;
        if herd.counts.broken.get() > broken {
            return Err("streams broke while nothing happened".to_owned());
        }
        let share = phase.cpu.as_secs_f64() / phase.took.as_secs_f64() * 100.0;
        Ok(Self { notes: format!("{share:.1} % of a core"), ..phase })
    }

    /// Nothing happens but reports.
    pub(crate) async fn reports(
        name: &'static str,
        coordinator: &Coordinator,
        herd: &Herd,
        time: Duration,
        is_watched: bool,
    ) -> Result<Self, String> {
        let (begun, reports, before) = (Instant::now(), herd.counts.reports.get(), coordinator.usage());
        while begun.elapsed() < time {
            if is_watched {
                coordinator.look("edges?watch=true&from=none").await?;
            }
            sleep(Duration::from_secs(5)).await;
        }
        let (took, after) = (begun.elapsed(), coordinator.usage());
        let cpu = after.cpu.saturating_sub(before.cpu);
        let reports = herd.counts.reports.get() - reports;
        let share = cpu.as_secs_f64() / took.as_secs_f64() * 100.0;
        Ok(Self { notes: format!("{reports} reports, {share:.1} % of a core"), ..Self::with(name, took, cpu, &after) })
    }

    /// An operator or a monitor asks for something, ten times.
    pub(crate) async fn look(name: &'static str, path: &str, coordinator: &Coordinator) -> Result<Self, String> {
        let (begun, before, mut bytes) = (Instant::now(), coordinator.usage(), 0);
        for _ in 0..TIMES {
            bytes = coordinator.look(path).await?;
        }
        let (took, after) = (begun.elapsed() / TIMES, coordinator.usage());
        let cpu = after.cpu.saturating_sub(before.cpu) / TIMES;
        let notes = format!("{:.1} ms of processor time, {} kB", cpu.as_secs_f64() * 1000.0, bytes / 1000);
        Ok(Self { notes, ..Self::with(name, took, cpu, &after) })
    }

    /// Some stay away: until they are marked silent, and all the others know.
    pub(crate) async fn absent(coordinator: &Coordinator, herd: &Herd) -> Result<Self, String> {
        while coordinator.ready.elapsed() < GRACE {
            sleep(LOOK).await;
        }
        let (counts, begun) = (&herd.counts, Instant::now());
        let (deltas, broken) = (counts.deltas.get(), counts.broken.get());
        let quiet = || counts.last_news.get().is_some_and(|last| last > begun && last.elapsed() > QUIET);
        let phase = Self::until("a fifth is absent", coordinator, begun, PATIENCE, quiet).await;
        let told = counts.deltas.get() - deltas;
        let notes = format!("{told} deltas, {} streams broke", counts.broken.get() - broken);
        match phase {
            Some(phase) => {
                let last = counts.last_news.get().map_or(Duration::ZERO, |last| last.saturating_duration_since(begun));
                Ok(Self { took: last, notes, ..phase })
            }
            None => {
                let usage = coordinator.usage();
                let notes = format!("no end within {} s: {notes}", PATIENCE.as_secs());
                Ok(Self { notes, ..Self::with("a fifth is absent", PATIENCE, usage.cpu, &usage) })
            }
        }
    }

    /// What the coordinator uses until `done`, and how long that takes from `begun` on.
    async fn until(
        name: &'static str,
        coordinator: &Coordinator,
        begun: Instant,
        patience: Duration,
        done: impl Fn() -> bool,
    ) -> Option<Self> {
        let before = coordinator.usage();
        while !done() {
            if begun.elapsed() > patience {
                return None;
            }
            sleep(LOOK).await;
        }
        let (took, after) = (begun.elapsed(), coordinator.usage());
        let cpu = after.cpu.saturating_sub(before.cpu);
        Some(Self::with(name, took, cpu, &after))
    }
}
