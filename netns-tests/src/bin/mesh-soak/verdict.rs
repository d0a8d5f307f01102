//! The failures: a wrong byte, a connection that ends by itself, a transfer that stalls for five seconds without an
//! excuse, a connect that fails, and memory or descriptors that grow.

use std::{any::Any, sync::Arc, time::Duration};

use mesh_netns_tests::{Failure, Storm};
use serde_json::{Value, json};

use crate::{
    churn::{self, Churn},
    mesh::Mesh,
    watch::{Life, Sample, Watch},
};

/// A program is still growing into its work in its first minute.
const WARM: Duration = Duration::from_secs(60);

/// What the last third of a life may use more than the second: by then all has been there once.
const MORE_MEMORY_KIB: u64 = 4096;
const MORE_DESCRIPTORS: u64 = 8;

pub(crate) struct Verdict {
    took: Duration,
    connections: u64,
    bytes: u64,
    datagrams: [u64; 2],
    changes: Vec<(&'static str, u64)>,
    longest_stall: Duration,
    programs: Vec<Program>,
    wrong: Vec<String>,
}

/// What a program used in its longest life, in the middle and in the end.
struct Program {
    name: String,
    lives: usize,
    watched: Duration,
    memory_kib: [u64; 2],
    descriptors: [u64; 2],
}

impl Verdict {
    pub(crate) fn new(
        mesh: Mesh,
        mut watch: Watch,
        churn: Churn,
        storm: &Storm,
        ended: Result<(), Box<dyn Any + Send>>,
        took: Duration,
    ) -> Self {
        let mut wrong = vec![];
        if let Err(panic) = ended {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            wrong.push(text.unwrap_or_else(|| "the soak itself panicked".to_owned()));
        }
        watch.stop();
        let (connections, bytes) = (churn.connections + churn::loads(&mesh), churn::moved(&mesh));
        for (number, load) in mesh.loads.into_iter().enumerate() {
            let failures = load.finish().failures;
            let failed = (0..).zip(&failures).filter(|(index, failure)| !churn.excuses(number, *index, failure));
            wrong.extend(failed.map(|(_, failure)| {
                let Failure { connecting, at, errno, port, times: [begun, failed] } = failure;
                let (lasted, around) = (*failed - *begun, churn.around(*failed));
                format!(
                    "a connection failed after {lasted:.1?} (connecting: {connecting}, at {at:?}, port {port:?}, errno {errno}): \
                     {around}"
                )
            }));
        }
        let long = Arc::into_inner(mesh.long).expect("they are no longer watched");
        for long in long {
            let [from, to] = long.between.map(|runner| runner + 1);
            if let Err(error) = long.transfer.finish() {
                wrong.push(format!("the transfer from r{from} to r{to}: {error}"));
            }
        }
        let mut seen = watch.seen();
        wrong.append(&mut seen.wrong);
        let programs: Vec<Program> = seen.lives.iter().filter_map(|(name, lives)| Program::new(name, lives)).collect();
        wrong.extend(programs.iter().flat_map(Program::grows));
        Self {
            took,
            connections,
            bytes,
            datagrams: [storm.passed(), storm.lost()],
            changes: churn.done.into_iter().collect(),
            longest_stall: seen.longest_stall,
            programs,
            wrong,
        }
    }

    pub(crate) const fn is_good(&self) -> bool {
        self.wrong.is_empty()
    }

    pub(crate) fn json(&self) -> Value {
        let programs = self.programs.iter().map(|program| {
            json!({
                "name": program.name,
                "lives": program.lives,
                "watched_s": program.watched.as_secs(),
                "memory_kib": program.memory_kib,
                "descriptors": program.descriptors,
            })
        });
        json!({
            "version": 1,
            "good": self.is_good(),
            "wrong": self.wrong,
            "seconds": self.took.as_secs(),
            "connections": self.connections,
            "octets": self.bytes,
            "datagrams": { "passed": self.datagrams[0], "lost": self.datagrams[1] },
            "changes": self.changes.iter().map(|(name, count)| (name.to_string(), json!(count))).collect::<serde_json::Map<_, _>>(),
            "longest_stall_ms": self.longest_stall.as_millis() as u64,
            "programs": programs.collect::<Vec<_>>(),
        })
    }

    /// For people, on standard error.
    pub(crate) fn print(&self) {
        let Self { took, connections, bytes, datagrams: [passed, lost], longest_stall, .. } = self;
        eprintln!("\n{} s, {connections} connections, {} MiB moved and checked", took.as_secs(), bytes >> 20);
        eprintln!("underlay: {passed} datagrams passed, {lost} were lost");
        for (name, count) in &self.changes {
            eprintln!("  {count:4} x {name}");
        }
        eprintln!("longest stall without an excuse: {} ms", longest_stall.as_millis());
        eprintln!("{:<12} {:>6} {:>9} {:>20} {:>16}", "program", "lives", "watched", "memory, MiB", "descriptors");
        for program in &self.programs {
            let [m, n] = program.memory_kib.map(|kib| kib as f64 / 1024.0);
            let ([d, e], watched) = (program.descriptors, program.watched.as_secs());
            eprintln!(
                "{:<12} {:>6} {:>7} s {:>20} {:>16}",
                program.name,
                program.lives,
                watched,
                format!("{m:.1} -> {n:.1}"),
                format!("{d} -> {e}")
            );
        }
        for wrong in &self.wrong {
            eprintln!("WRONG: {wrong}");
        }
        eprintln!("{}", if self.is_good() { "good" } else { "not good" });
    }
}

impl Program {
    fn new(name: &str, lives: &[Life]) -> Option<Self> {
        let longest = lives.iter().max_by_key(|life| life.samples.len())?;
        let all = &longest.samples;
        let (first, last) = (all.first()?.at, all.last()?.at);
        let warm: Vec<Sample> = all.iter().filter(|sample| sample.at - first >= WARM).copied().collect();
        // Of a short life there is nothing to judge, but something to show.
        let (samples, watched) = match warm.first() {
            Some(begin) => (&warm, last - begin.at),
            None => (all, Duration::ZERO),
        };
        let third = samples.len().div_ceil(3);
        let last = samples.len() - third;
        let ends = [&samples[last.saturating_sub(third)..last.max(1)], &samples[last..]];
        Some(Self {
            name: name.to_owned(),
            lives: lives.len(),
            watched,
            memory_kib: ends.map(|part| median(part, |sample| sample.memory_kib)),
            descriptors: ends.map(|part| median(part, |sample| sample.descriptors)),
        })
    }

    /// What is wrong with it, if it was watched for a minute at least.
    fn grows(&self) -> Vec<String> {
        let [memory, later] = self.memory_kib;
        let [descriptors, more] = self.descriptors;
        let mut wrong = vec![];
        if self.watched < Duration::from_secs(60) {
            return wrong;
        }
        if later > memory + MORE_MEMORY_KIB.max(memory / 5) {
            wrong.push(format!("the memory of {} has grown from {memory} to {later} KiB", self.name));
        }
        if more > descriptors + MORE_DESCRIPTORS {
            wrong.push(format!("the descriptors of {} have grown from {descriptors} to {more}", self.name));
        }
        wrong
    }
}

fn median(samples: &[Sample], of: impl Fn(&Sample) -> u64) -> u64 {
    let mut values: Vec<u64> = samples.iter().map(of).collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}
