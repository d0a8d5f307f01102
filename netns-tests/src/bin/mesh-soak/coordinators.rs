//! `scripts/soak --coordinators`: several coordinators on one etcd, whose machines fail one after another while clients
//! write and look. What must not happen is in [`mesh_netns_tests::several`].

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use mesh_netns_tests::{
    World,
    several::{Fault, Report, Several, Toll, Trial},
};
use serde_json::{Value, json};

/// How many runners there are.
const RUNNERS: usize = 6;

/// How long a fault lasts, at least and at most: agents leave a coordinator that is silent for six seconds.
const LASTS: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(10)];

/// How long a client waits between two acts.
const THINK: Duration = Duration::from_millis(150);

/// Clients at each coordinator that write as fast as they can, for so long, before anything fails.
const RUSH: usize = 4;
const RUSH_LASTS: Duration = Duration::from_secs(10);

/// How often progress is printed.
const TELL: Duration = Duration::from_secs(10);

/// Runs it for so long; whether all was well.
pub(crate) fn run(number: usize, time: Duration, seed: u64, as_json: bool) -> bool {
    eprintln!("seed {seed}: making {number} coordinators on an etcd of three members, and {RUNNERS} runners");
    let world = World::new();
    let mut several = Several::start(&world, number, RUNNERS);
    let rush = several.rush(RUSH, RUSH_LASTS);
    let (begun, mut told, mut last) = (Instant::now(), Instant::now(), Report::default());
    let trial = Trial { seed, lasts: LASTS, think: THINK };
    let go_on = |report: &Report| {
        if told.elapsed() >= TELL {
            told = Instant::now();
            tell(report, begun.elapsed());
        }
        last.clone_from(report);
        report.wrong.is_empty() && begun.elapsed() < time
    };
    // If the harness itself gives up, the figures so far are still useful.
    let ended = catch_unwind(AssertUnwindSafe(|| several.suffer(trial, go_on)));
    let report = ended.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        last.wrong.push(text.unwrap_or_else(|| "the soak itself panicked".to_owned()));
        last
    });
    if as_json {
        println!("{:#}", in_json(&report, &rush, begun.elapsed()));
    }
    print(&report, begun.elapsed());
    print_rush(&rush);
    eprintln!("{}", if report.wrong.is_empty() { "good" } else { "not good" });
    report.wrong.is_empty()
}

fn tell(report: &Report, since: Duration) {
    let [confirmed, refused, unknown] = report.writes;
    eprintln!(
        "{:5} s  {:4} faults  {confirmed:6} writes confirmed  {refused:5} refused  {unknown:3} without an answer  {:6} looks  \
         longest gap {:.1} s",
        since.as_secs(),
        report.count(),
        report.looks,
        report.longest_gap.as_secs_f64(),
    );
}

/// The median and the largest of some times, in seconds.
fn ends(times: &[Duration]) -> Option<[f64; 2]> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let last = sorted.last()?;
    Some([sorted[sorted.len() / 2], *last].map(|time| time.as_secs_f64()))
}

/// The median, the 99th of a hundred, and the longest of some times, in milliseconds.
fn spread(times: &[Duration]) -> [f64; 3] {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = |part: usize| sorted.get((sorted.len() * part / 100).min(sorted.len().saturating_sub(1)));
    [50, 99, 100].map(|part| at(part).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3))
}

fn print_rush(rush: &[Vec<Duration>]) {
    eprintln!("\n{RUSH} clients at each coordinator that write as fast as they can, for {} s:", RUSH_LASTS.as_secs());
    for (number, took) in (1..).zip(rush) {
        let [median, most, longest] = spread(took);
        let rate = took.len() as u64 / RUSH_LASTS.as_secs();
        eprintln!(
            "  coordinator {number}: {rate} a second; median {median:.0} ms, p99 {most:.0} ms, longest {longest:.0} ms"
        );
    }
}

fn in_json(report: &Report, rush: &[Vec<Duration>], took: Duration) -> Value {
    let toll = |(fault, toll): (&Fault, &Toll)| {
        let figures = json!({
            "count": toll.count,
            "written_s": ends(&toll.written),
            "moved": toll.moved.len(),
            "moved_s": ends(&toll.moved),
        });
        (fault.words().to_owned(), figures)
    };
    let [confirmed, refused, unknown] = report.writes;
    json!({
        "version": 1,
        "good": report.wrong.is_empty(),
        "wrong": report.wrong,
        "seconds": took.as_secs(),
        "faults": report.count(),
        "by_kind": report.faults.iter().map(toll).collect::<BTreeMap<_, _>>(),
        "writes": { "confirmed": confirmed, "refused": refused, "unknown": unknown },
        "looks": report.looks,
        "rush_ms": rush.iter().map(|took| spread(took)).collect::<Vec<_>>(),
        "longest_gap_ms": report.longest_gap.as_millis() as u64,
    })
}

/// For people, on standard error.
fn print(report: &Report, took: Duration) {
    eprintln!();
    tell(report, took);
    eprintln!("\n{:<44} {:>5}  {:>20}  {:>26}", "", "times", "next write, s", "streams elsewhere, s");
    let shown = |times: &[Duration]| match ends(times) {
        Some([median, longest]) => format!("{median:.2}, at most {longest:.2}"),
        None => "-".to_owned(),
    };
    for (fault, toll) in &report.faults {
        let moved = format!("{:4} x {}", toll.moved.len(), shown(&toll.moved));
        eprintln!("{:<44} {:>5}  {:>20}  {moved:>26}", fault.words(), toll.count, shown(&toll.written));
    }
    for wrong in &report.wrong {
        eprintln!("WRONG: {wrong}");
    }
}
