//! The process's own numbers, with the names that all of Prometheus' libraries have for them.

use std::{
    fs,
    sync::OnceLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::{
    sys::resource::{Resource, UsageWho, getrlimit, getrusage},
    time::{ClockId, clock_gettime},
    unistd::{SysconfVar, sysconf},
};

use crate::Snapshot;

/// Adds the process's numbers. What can't be read is left out.
pub fn add(snapshot: &mut Snapshot) {
    if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
        let seconds = |time: nix::sys::time::TimeVal| {
            let (whole, micros) = (time.tv_sec(), time.tv_usec());
            whole.max(0) as f64 + micros.max(0) as f64 / 1e6
        };
        let used = seconds(usage.user_time()) + seconds(usage.system_time());
        snapshot.counter(
            "process_cpu_seconds",
            "Processor time that the process has used, in seconds",
            [(vec![], used)],
        );
    }
    let stat = fs::read_to_string("/proc/self/stat").ok();
    if let Some(pages) = stat.as_deref().and_then(|stat| field(stat, RESIDENT)) {
        let bytes = pages.saturating_mul(system(SysconfVar::PAGE_SIZE));
        snapshot.gauge("process_resident_memory_bytes", "Resident memory of the process, in bytes", [(vec![], bytes)]);
    }
    if let Some(started) = *STARTED_AT.get_or_init(|| started_at(field(stat.as_deref()?, STARTED)?)) {
        snapshot.gauge("process_start_time_seconds", "When the process began, in Unix seconds", [(vec![], started)]);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // One of them reads the directory.
        let open = open.count().saturating_sub(1) as u64;
        snapshot.gauge("process_open_fds", "Open descriptors of the process", [(vec![], open)]);
    }
    if let Ok((most, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        snapshot.gauge("process_max_fds", "Descriptors that the process may open", [(vec![], most)]);
    }
}

/// Fields of `/proc/self/stat` (proc_pid_stat(5)), counted from 1.
const STARTED: usize = 22;
const RESIDENT: usize = 24;

/// A number of `/proc/self/stat`. The second field, the program's name, may hold anything.
fn field(stat: &str, number: usize) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split_ascii_whitespace().nth(number - 3)?.parse().ok()
}

/// When the process began, found once: a number that moves would look like a restart.
static STARTED_AT: OnceLock<Option<f64>> = OnceLock::new();

/// The time of day that was this many ticks after the boot, in Unix seconds. A unit may see no `/proc/stat`.
fn started_at(ticks: u64) -> Option<f64> {
    let up = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?);
    let day = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let since_boot = ticks as f64 / system(SysconfVar::CLK_TCK) as f64;
    Some((day.as_secs_f64() - up.as_secs_f64() + since_boot).round())
}

fn system(variable: SysconfVar) -> u64 {
    sysconf(variable).ok().flatten().and_then(|value| u64::try_from(value).ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_any_name_is_read() {
        let stat = "7 (a) S (b) S 1 7 7 0 -1 4194560 1 0 0 0 5 6 0 0 20 0 3 0 4711 1000 99 1844\n";
        assert_eq!((field(stat, STARTED), field(stat, RESIDENT)), (Some(4711), Some(99)));
        assert_eq!(field("7 (a", STARTED), None);
    }

    #[test]
    fn a_process_began_before_now_and_after_the_boot() {
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        let began = started_at(field(&stat, STARTED).unwrap()).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((0.0..86_400.0).contains(&(now - began + 1.0)), "{began} {now}");
    }

    #[test]
    fn all_numbers_are_there() {
        let mut snapshot = Snapshot::new();
        add(&mut snapshot);
        let text = snapshot.into_text();
        for name in ["cpu_seconds_total", "resident_memory_bytes", "start_time_seconds", "open_fds", "max_fds"] {
            assert!(text.contains(&format!("\nprocess_{name} ")), "{name}: {text}");
        }
    }
}
