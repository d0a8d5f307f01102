//! What happens to the mesh meanwhile: one thing after another, by chance that a seed decides.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::ErrorKind,
    thread,
    time::{Duration, Instant},
};

use mesh_netns_tests::{Chance, Condition, Crowd, Failure, World, traffic, wait};

use crate::{
    mesh::{Mesh, PORT, RESTARTED, RUNNERS, Served},
    watch::Watch,
};

/// Instances of shop/web at most.
const WEBS: usize = 4;

/// How often progress is printed.
const TELL: Duration = Duration::from_secs(10);

/// How long a machine is cut off.
const CUT: Duration = Duration::from_secs(3);

/// By then all ends have got their reset, even if the first two were lost.
const HEARD: Duration = Duration::from_secs(2);

pub(crate) struct Churn {
    chance: Chance,
    begun: Instant,
    until: Instant,
    printed: Instant,
    /// How often each thing has happened.
    pub(crate) done: BTreeMap<&'static str, u64>,
    /// Instances that ended without warning: connections to them may fail.
    killed: BTreeSet<String>,
    /// Connections that failed before they knew their server: by load and failure.
    orphans: BTreeSet<(usize, usize)>,
    /// Connections besides those of the loads.
    pub(crate) connections: u64,
    /// The operations, with their times and subjects.
    history: Vec<(Instant, String)>,
}

type Step = fn(&mut Churn, &World, &mut Mesh, &Watch);

const STEPS: &[(&str, Step)] = &[
    ("agent killed", |churn, _, mesh, watch| churn.restart_agent(mesh, watch, true)),
    ("agent restarted", |churn, _, mesh, watch| churn.restart_agent(mesh, watch, false)),
    ("coordinator killed", |churn, _, mesh, watch| churn.restart_coordinator(mesh, watch)),
    ("runner cut off", Churn::cut),
    ("trust given and taken", |churn, _, mesh, _| churn.trust(mesh)),
    ("scaled up", |churn, _, mesh, _| churn.scale_up(mesh)),
    ("scaled up", |churn, _, mesh, _| churn.scale_up(mesh)),
    ("scaled down by drain", |churn, _, mesh, _| churn.drain(mesh)),
    ("instance killed", |churn, _, mesh, _| churn.kill_instance(mesh)),
    ("attached and detached", |churn, _, mesh, _| churn.come_and_go(mesh)),
    ("attached and detached", |churn, _, mesh, _| churn.come_and_go(mesh)),
];

impl Churn {
    pub(crate) fn new(seed: u64, until: Instant) -> Self {
        let now = Instant::now();
        Self {
            chance: Chance::new(seed),
            begun: now,
            until,
            printed: now,
            done: BTreeMap::new(),
            killed: BTreeSet::new(),
            orphans: BTreeSet::new(),
            connections: 0,
            history: vec![],
        }
    }

    /// Whether a connection had to fail: this failure of this load.
    pub(crate) fn excuses(&self, load: usize, number: usize, failure: &Failure) -> bool {
        let killed = failure.at.as_ref().is_some_and(|at| self.killed.contains(at));
        !failure.connecting && (killed || self.orphans.contains(&(load, number)))
    }

    /// Goes on until the time is up.
    pub(crate) fn run(&mut self, world: &World, mesh: &mut Mesh, watch: &Watch) {
        while Instant::now() < self.until {
            let (name, step) = STEPS[self.chance.below(STEPS.len())];
            self.note(name);
            step(self, world, mesh, watch);
            self.note("done");
            *self.done.entry(name).or_default() += 1;
            mesh.idle.iter_mut().for_each(Crowd::assert_all_answer);
            let pause = self.chance.up_to(Duration::from_secs(3));
            thread::sleep(pause);
            if self.printed.elapsed() >= TELL {
                self.printed = Instant::now();
                self.tell(mesh, watch);
            }
        }
        self.tell(mesh, watch);
    }

    fn note(&mut self, what: impl Into<String>) {
        self.history.push((Instant::now(), what.into()));
    }

    /// What was going on at a time: to find out why something went wrong.
    pub(crate) fn around(&self, when: Instant) -> String {
        let next = self.history.partition_point(|(at, _)| *at <= when);
        let around = &self.history[next.saturating_sub(6)..(next + 2).min(self.history.len())];
        let relative = |at: Instant| match at.checked_duration_since(when) {
            Some(later) => format!("+{:.1}", later.as_secs_f64()),
            None => format!("-{:.1}", (when - at).as_secs_f64()),
        };
        let times: Vec<String> = around.iter().map(|(at, what)| format!("{} s {what}", relative(*at))).collect();
        times.join(", ")
    }

    fn tell(&self, mesh: &Mesh, watch: &Watch) {
        let seen = watch.seen();
        let memory: u64 =
            seen.lives.values().filter_map(|lives| lives.last()?.samples.last()).map(|s| s.memory_kib).sum();
        eprintln!(
            "{:4} s  {:6} connections  {:6} MiB moved  {:3} changes  longest stall {:4} ms  {:3} MiB in use",
            self.begun.elapsed().as_secs(),
            self.connections + loads(mesh),
            moved(mesh) >> 20,
            self.done.values().sum::<u64>(),
            seen.longest_stall.as_millis(),
            memory >> 10,
        );
    }

    fn restart_agent(&mut self, mesh: &mut Mesh, watch: &Watch, kill: bool) {
        let runner = self.chance.below(RESTARTED);
        let down = self.chance.up_to(Duration::from_secs(1));
        self.note(format!("r{} down", runner + 1));
        watch.excuse(runner);
        if kill {
            mesh.runners[runner].kill();
        } else {
            mesh.runners[runner].stop();
        }
        thread::sleep(down);
        mesh.runners[runner].start(&[]);
        watch.expect(runner, mesh);
    }

    /// No excuse: what may flow flows without a coordinator. It is let live in the second half, to watch its memory.
    fn restart_coordinator(&mut self, mesh: &mut Mesh, watch: &Watch) {
        if self.begun.elapsed() * 2 > self.until - self.begun {
            return;
        }
        mesh.coordinator.kill();
        let down = self.chance.up_to(Duration::from_secs(4));
        thread::sleep(down);
        mesh.coordinator.start();
        mesh.runners.iter_mut().for_each(mesh_netns_tests::Runner::wait_connected);
        watch.renew(mesh);
    }

    fn cut(&mut self, world: &World, mesh: &mut Mesh, watch: &Watch) {
        let runner = self.chance.below(RESTARTED);
        self.note(format!("r{} cut off", runner + 1));
        watch.excuse(runner);
        let machine = mesh.runners[runner].namespace();
        world.cut(machine);
        thread::sleep(CUT);
        world.mend(machine);
        mesh.runners[runner].wait_connected();
        watch.expect(runner, mesh);
    }

    /// A trusted caller gets through. Without trust no connect succeeds, and standing connections end.
    fn trust(&mut self, mesh: &Mesh) {
        let (caller, to) = (self.chance.below(RUNNERS), mesh.api.instance.service_address);
        let caller = &mesh.apps[caller];
        let trust =
            |flags: &[&str]| mesh.coordinator.command(&[&["trust", "--app", "billing", "--wait"], flags].concat());
        trust(&["shop"]).done();
        let mut crowd = Crowd::gather(&caller.namespace, to, PORT, 3);
        self.connections += 3;
        crowd.assert_all_answer();
        trust(&["--clear"]).done();
        crowd.wait_all(Condition::Reset);
        let error = caller.connect(to, PORT).expect_err("a connection that is no longer allowed");
        assert_eq!(error.kind(), ErrorKind::HostUnreachable, "{error}");
    }

    fn scale_up(&mut self, mesh: &mut Mesh) {
        if mesh.webs.len() < WEBS {
            let runner = self.chance.below(RUNNERS);
            mesh.scale_up(runner);
            let added = mesh.webs.last().map_or("", |served| &served.instance.id);
            self.note(format!("{added} at r{}", runner + 1));
        }
    }

    /// Takes one out that stands for nothing else, if there is one.
    fn one_web(&mut self, mesh: &mut Mesh) -> Option<Served> {
        let more = mesh.webs.len().checked_sub(1).filter(|more| *more > 0)?;
        Some(mesh.webs.remove(1 + self.chance.below(more)))
    }

    fn drain(&mut self, mesh: &mut Mesh) {
        let Some(Served { runner, instance, server }) = self.one_web(mesh) else { return };
        self.note(format!("drain {} at r{}", instance.id, runner + 1));
        mesh.runners[runner].command(&["drain", &instance.id]).done();
        // The program may be done before its agent has seen all of it, and that before its kernel has a FIN acknowledged.
        let stand = || mesh.runners[runner].connections(&instance.id) > 0;
        wait::until_true("its connections to end", || server.open() == 0 && !stand() && server.is_quiet());
        self.note(format!("detach {}", instance.id));
        mesh.runners[runner].command(&["detach", &instance.id]).done();
    }

    fn kill_instance(&mut self, mesh: &mut Mesh) {
        let Some(Served { runner, instance, server }) = self.one_web(mesh) else { return };
        self.note(format!("kill {} at r{}", instance.id, runner + 1));
        self.killed.insert(instance.id.clone());
        let before: Vec<usize> = mesh.loads.iter().map(|load| load.tally().failures.len()).collect();
        mesh.runners[runner].command(&["detach", &instance.id]).done();
        drop(server);
        thread::sleep(HEARD);
        for (load, before) in before.into_iter().enumerate() {
            let failures = mesh.loads[load].tally().failures;
            let orphans = (before..).zip(&failures[before..]).filter(|(_, failure)| failure.at.is_none());
            self.orphans.extend(orphans.map(|(number, _)| (load, number)));
        }
    }

    fn come_and_go(&mut self, mesh: &Mesh) {
        let runner = &mesh.runners[self.chance.below(RUNNERS)];
        let app = runner.attach("shop/app");
        let db = app.connect(mesh.dbs[0].instance.service_address, PORT).expect("a connection to a service next door");
        let mut crowd = Crowd::of([db]);
        crowd.assert_all_answer();
        crowd.leave();
        self.connections += 1;
        let error = app.connect(mesh.api.instance.service_address, PORT).expect_err("a connection without a trust");
        assert!(!traffic::unanswered(&error), "{error}");
        runner.command(&["detach", &app.id]).done();
    }
}

/// Connections that the loads have brought to their end.
pub(crate) fn loads(mesh: &Mesh) -> u64 {
    mesh.loads.iter().map(|load| load.done() as u64).sum()
}

/// The bytes that the transfers have brought back.
pub(crate) fn moved(mesh: &Mesh) -> u64 {
    mesh.long.iter().map(|long| long.transfer.moved()).sum()
}
