//! Processor time: of the daemons that carry a path, and of the whole machine, since much of the work is the kernel's
//! and done in whose turn it happens to be.

use std::{collections::BTreeMap, fs};

use mesh_netns_tests::Namespace;

use crate::contender::Way;

/// USER_HZ: proc(5) reports times in hundredths of a second on every Linux.
const TICK: f64 = 0.01;

/// What has been used so far, in seconds.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    daemons: f64,
    /// Of each thread of the daemons.
    threads: BTreeMap<u32, f64>,
    machine: f64,
    /// What the hypervisor has given to others.
    stolen: f64,
    /// Datagrams that found no room in a socket's buffer, on the machines of the daemons.
    overflows: f64,
}

/// The difference between two of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    pub(crate) daemons: f64,
    /// Of the daemons' thread that used most: the one that ends first, where there are processors for all.
    pub(crate) busiest: f64,
    pub(crate) machine: f64,
    pub(crate) stolen: f64,
    pub(crate) overflows: f64,
}

impl Meter {
    pub(crate) fn read(way: &dyn Way) -> Self {
        let [machine, stolen] = machine();
        let overflows = way.machines().iter().map(|machine| machine.enter(overflows)).sum();
        let threads = way.daemons().into_iter().flat_map(threads).collect();
        Self { threads, daemons: way.daemons().into_iter().map(process).sum(), machine, stolen, overflows }
    }

    pub(crate) fn used_since(&self, before: &Self) -> Used {
        Used {
            daemons: self.daemons - before.daemons,
            busiest: self.busiest_since(before),
            machine: self.machine - before.machine,
            stolen: self.stolen - before.stolen,
            overflows: self.overflows - before.overflows,
        }
    }

    fn busiest_since(&self, before: &Self) -> f64 {
        let used = |(id, now): (&u32, &f64)| now - before.threads.get(id).unwrap_or(&0.0);
        self.threads.iter().map(used).fold(0.0, f64::max)
    }
}

/// All threads of a process, in user mode and in the kernel.
pub(crate) fn process(pid: u32) -> f64 {
    used(&fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_else(|e| panic!("a daemon is gone: {e}")))
}

/// Each thread of a process.
fn threads(pid: u32) -> Vec<(u32, f64)> {
    let of = |entry: fs::DirEntry| {
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        Some((entry.file_name().to_str()?.parse().ok()?, used(&stat)))
    };
    let all = fs::read_dir(format!("/proc/{pid}/task"));
    all.into_iter().flatten().filter_map(|entry| of(entry.ok()?)).collect()
}

/// What a line of proc(5) says of it.
fn used(stat: &str) -> f64 {
    // The name may have blanks and parentheses in it; utime and stime are fields 14 and 15, the state after it is 3.
    let rest = stat.rsplit(')').next().unwrap_or_default();
    rest.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() * TICK
}

/// Whatever was not idle nor stolen, and what was stolen.
pub(crate) fn machine() -> [f64; 2] {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let first = stat.lines().next().unwrap_or_default();
    let ticks: Vec<f64> = first.split_whitespace().skip(1).filter_map(|ticks| ticks.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal
    let busy = [0, 1, 2, 5, 6].iter().filter_map(|field| ticks.get(*field)).sum::<f64>();
    [busy * TICK, ticks.get(7).unwrap_or(&0.0) * TICK]
}

/// Of the calling thread's namespace.
fn overflows() -> f64 {
    let all = fs::read_to_string("/proc/thread-self/net/snmp").unwrap_or_default();
    let mut lines = all.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let mut both = names.split(' ').zip(values.split(' '));
    both.find(|(name, _)| *name == "RcvbufErrors").and_then(|(_, value)| value.parse().ok()).unwrap_or(0.0)
}

/// The bytes that all interfaces of a namespace have received so far.
pub(crate) fn received(namespace: &Namespace) -> f64 {
    let all = namespace.enter(|| fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default());
    let counts = all.lines().filter_map(|line| line.split_once(':')?.1.split_whitespace().next()?.parse::<f64>().ok());
    counts.sum()
}
