//! `scripts/soak`: five runners and a coordinator for minutes on end, while everything changes, restarts and gets lost.
//! What must not happen is written down in [`verdict`]. With `--coordinators`: see [`coordinators`].
//!
//! The programs under test are found as in the tests (`MESH_COORD`, `MESH_NODE`); the namespaces are the script's.

mod churn;
mod coordinators;
mod mesh;
mod verdict;
mod watch;

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::{Duration, Instant},
};

use mesh_netns_tests::{Weather, World, furnish};

use crate::{churn::Churn, mesh::Mesh, verdict::Verdict, watch::Watch};

struct Arguments {
    time: Duration,
    /// How many, if there is to be an etcd.
    coordinators: Option<usize>,
    seed: u64,
    json: bool,
}

fn main() -> ExitCode {
    let Some(arguments) = arguments() else {
        eprintln!("usage: mesh-soak [--coordinators 2..9] MINUTES [--seed N] [--json]");
        return ExitCode::from(2);
    };
    furnish();
    if let Some(number) = arguments.coordinators {
        let is_good = coordinators::run(number, arguments.time, arguments.seed, arguments.json);
        return if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let begun = Instant::now();
    eprintln!("seed {}: making a mesh of {} runners", arguments.seed, mesh::RUNNERS);
    let world = World::new();
    let mut mesh = Mesh::make(&world);
    // None of the runners is an honest one's network: a datagram in a hundred is lost.
    let storm = world.weather(Weather {
        lost: 10,
        doubled: 5,
        late: 20,
        late_by: Duration::from_millis(15),
        delay: Duration::from_millis(10),
        seed: arguments.seed,
    });
    let watch = Watch::start(&mesh, begun);
    let until = Instant::now() + arguments.time;
    let mut churn = Churn::new(arguments.seed, until);
    // If the harness itself gives up, the figures so far are still useful.
    let ended = catch_unwind(AssertUnwindSafe(|| churn.run(&world, &mut mesh, &watch)));
    let verdict = Verdict::new(mesh, watch, churn, &storm, ended, begun.elapsed());
    if arguments.json {
        println!("{:#}", verdict.json());
    }
    verdict.print();
    if verdict.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn arguments() -> Option<Arguments> {
    let mut given = Arguments { time: Duration::ZERO, coordinators: None, seed: 1, json: false };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        match &*word {
            "--json" => given.json = true,
            "--coordinators" => {
                let number = words.next()?.parse().ok().filter(|number| (2..=9).contains(number))?;
                given.coordinators = Some(number);
            }
            "--seed" => given.seed = words.next()?.parse().ok()?,
            minutes => given.time = Duration::from_secs(60 * minutes.parse::<u64>().ok()?),
        }
    }
    Some(given).filter(|given| !given.time.is_zero())
}
