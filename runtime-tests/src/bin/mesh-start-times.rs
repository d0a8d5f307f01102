//! How long containers take to start, as instances and otherwise: one after another, in turn, so that whatever else the
//! machine does falls on all kinds alike; and many as fast as Docker can.
//!
//! The programs under test are found as in the tests (`MESH_COORD`, `MESH_NODE`); figures mean something with release
//! builds on a quiet machine only. It makes its own namespaces, and leaves nothing.

use std::{
    env, fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use mesh_netns_tests::{furnish, wait};
use mesh_runtime_tests::{Docker, Podman, Stage};
use nix::mount::{MsFlags, mount};

/// Set in the process that is in namespaces of its own.
const INSIDE: &str = "MESH_START_TIMES_INSIDE";
const SHOP: &str = "deployment = \"shop\"\n[services.app]\n[services.db]\n";
/// How many are started as fast as Docker can: as many as a runner may have of one service.
const MANY: usize = 64;
/// How many of these at a time.
const AT_A_TIME: usize = 4;

struct Arguments {
    rounds: usize,
    /// The directory of a disk in which state is to lie that would otherwise be in memory.
    disk: Option<PathBuf>,
}

/// A way to start a container, which returns how long it took.
struct Kind<'a> {
    name: &'a str,
    start: &'a dyn Fn() -> Duration,
}

fn main() -> ExitCode {
    let Some(arguments) = arguments() else {
        eprintln!("usage: mesh-start-times [--rounds N] [--disk DIRECTORY]");
        return ExitCode::from(2);
    };
    if env::var_os(INSIDE).is_none() {
        let mut inside = Command::new("unshare");
        inside.args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "--"]);
        inside.arg(env::current_exe().expect("the path of this program")).args(env::args_os().skip(1));
        let error = inside.env(INSIDE, "1").exec();
        eprintln!("cannot start unshare(1): {error}");
        return ExitCode::FAILURE;
    }
    furnish();
    let unique = fs::read_to_string("/proc/sys/kernel/random/uuid").expect("a random number from the kernel");
    let disk = arguments.disk.map(|disk| disk.join(format!("mesh-start-times-{}", unique.trim())));
    if let Some(disk) = &disk {
        // The agent's and the coordinator's state directories, by the names of their machines.
        for machine in ["aws", "coord"] {
            lay(&disk.join(machine), &Path::new("/run").join(machine));
        }
    }
    measure(arguments.rounds);
    if let Some(disk) = disk {
        fs::remove_dir_all(&disk).unwrap_or_else(|e| eprintln!("{} is left: {e}", disk.display()));
    }
    ExitCode::SUCCESS
}

fn arguments() -> Option<Arguments> {
    let mut given = Arguments { rounds: 50, disk: None };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        match &*word {
            "--rounds" => given.rounds = words.next()?.parse().ok().filter(|rounds| *rounds > 0)?,
            "--disk" => given.disk = Some(fs::canonicalize(words.next()?).ok()?),
            _ => return None,
        }
    }
    Some(given)
}

/// Mounts a directory of a disk somewhere.
fn lay(directory: &Path, at: &Path) {
    for made in [directory, at] {
        fs::create_dir_all(made).unwrap_or_else(|e| panic!("{}: {e}", made.display()));
    }
    mount(Some(directory), at, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .unwrap_or_else(|e| panic!("cannot mount over {}: {e}", at.display()));
}

fn measure(rounds: usize) {
    let stage = Stage::new(&[SHOP]);
    let docker = Docker::start(&stage.lab, &stage.aws);
    let of_docker = |flags: &[&str]| time(run_detached(&docker, flags));
    let attached = ["--label", "mesh.service=shop/db"];
    let kinds = [
        Kind { name: "runc alone", start: &|| of_docker(&["--runtime", "runc"]) },
        Kind { name: "mesh-runc, none of ours", start: &|| of_docker(&[]) },
        Kind { name: "mesh-runc, attached", start: &|| of_docker(&attached) },
    ];
    in_turn("docker run --detach", rounds, &kinds, &|| {
        let all = docker.command(&["ps", "--quiet", "--no-trunc"]).done().stdout;
        docker.command(&[&["rm", "--force"][..], &all.split_whitespace().collect::<Vec<_>>()].concat()).done();
    });

    println!("\ndocker run --detach, {MANY} as fast as it can, {AT_A_TIME} at a time");
    let alone = at_once(&docker, &["--runtime", "runc"]);
    let ours = at_once(&docker, &attached);
    assert_eq!(stage.instances().len(), MANY, "all are attached");
    for (name, (times, total)) in [("runc alone", &alone), ("attached", &ours)] {
        println!("  {name:24} {}, all in {:.1} s", row(times), total.as_secs_f64());
    }
    let all = docker.command(&["ps", "--quiet", "--no-trunc"]).done().stdout;
    docker.command(&[&["rm", "--force"][..], &all.split_whitespace().collect::<Vec<_>>()].concat()).done();
    wait::until_true("the end of all instances", || stage.instances().is_empty());
    println!("  afterwards: no instance is left");
    drop(docker);

    let podman = Podman::with_hooks(&stage.lab, &stage.aws);
    let of_podman = |flags: &[&str]| {
        time(podman.prepare_run(&[&["--detach", "--network", "none"], flags].concat(), &["sleep", "1000"]))
    };
    let attached = ["--annotation", "mesh.service=shop/db"];
    let kinds = [
        Kind { name: "crun alone", start: &|| of_podman(&[]) },
        Kind { name: "by the hook, attached", start: &|| of_podman(&attached) },
    ];
    in_turn("podman run --detach", rounds, &kinds, &|| {
        podman.command(&["rm", "--force", "--all", "--time", "0"]).done();
    });
}

/// Each kind in every round, and after each round their ends, which aren't measured. The additional time is printed by
/// round.
fn in_turn(what: &str, rounds: usize, kinds: &[Kind<'_>], end: &dyn Fn()) {
    let mut times: Vec<Vec<Duration>> = kinds.iter().map(|_| vec![]).collect();
    // One round to warm up.
    for round in 0..=rounds {
        for (kind, times) in kinds.iter().zip(&mut times) {
            let taken = (kind.start)();
            if round > 0 {
                times.push(taken);
            }
        }
        end();
    }
    println!("\n{what}, one after another, {rounds} of each kind in turn");
    for (kind, of_kind) in kinds.iter().zip(&times) {
        let added: Vec<f64> = of_kind.iter().zip(&times[0]).map(|(this, first)| ms(*this) - ms(*first)).collect();
        println!(
            "  {:24} {}; added: median {:+.1} ms, p95 {:+.1} ms",
            kind.name,
            row(of_kind),
            at(&added, 50),
            at(&added, 95)
        );
    }
}

/// Starts many of one kind, and returns how long each took, and all together.
fn at_once(docker: &Docker, flags: &[&str]) -> (Vec<Duration>, Duration) {
    let (next, times, begun) = (AtomicUsize::new(0), Mutex::new(vec![]), Instant::now());
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < MANY {
                    let taken = time(run_detached(docker, flags));
                    times.lock().unwrap_or_else(PoisonError::into_inner).push(taken);
                }
            });
        }
    });
    (times.into_inner().unwrap_or_else(PoisonError::into_inner), begun.elapsed())
}

/// `docker run --detach`, which returns when the container's program runs.
fn run_detached(docker: &Docker, flags: &[&str]) -> Command {
    docker.prepare(&[&["run", "--detach", "--network", "none"], flags, &["busybox", "sleep", "1000"]].concat())
}

/// Runs a command, and returns how long it took: by waiting for its end and not by polling.
fn time(mut command: Command) -> Duration {
    let begun = Instant::now();
    let ended = command.output().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
    let taken = begun.elapsed();
    assert!(ended.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ended.stderr));
    taken
}

fn row(times: &[Duration]) -> String {
    let times: Vec<f64> = times.iter().copied().map(ms).collect();
    format!("median {:6.1} ms, p95 {:6.1} ms", at(&times, 50), at(&times, 95))
}

/// The percentile of some figures.
fn at(figures: &[f64], percent: usize) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() * percent).div_ceil(100).saturating_sub(1)]
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
