//! The result as a table and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::phase::Run;

pub(crate) fn text(runs: &[Run]) -> String {
    let mut text = String::new();
    for run in runs {
        let Run { runners, services, records, .. } = run;
        let _ = writeln!(text, "\n{runners} runners, {services} services, {records} records");
        let _ = writeln!(text, "  {:32} {:>9} {:>9} {:>9} {:>9}", "", "seconds", "CPU s", "MiB", "peak MiB");
        for phase in &run.phases {
            let _ = writeln!(
                text,
                "  {:32} {:>9.2} {:>9.2} {:>9} {:>9}  {}",
                phase.name,
                phase.took.as_secs_f64(),
                phase.cpu.as_secs_f64(),
                phase.memory >> 10,
                phase.peak >> 10,
                phase.notes
            );
        }
        let _ = writeln!(text, "  {:32} {:>9} {:>9} {:>9} {:>9}", "", "p50 ms", "p99 ms", "told", "CPU ms");
        for changes in &run.changes {
            let _ = writeln!(
                text,
                "  {:32} {:>9.1} {:>9.1} {:>9} {:>9.1}",
                changes.kind.text(),
                changes.percentile(50),
                changes.percentile(99),
                changes.told,
                changes.cpu.as_secs_f64() * 1000.0
            );
        }
    }
    text
}

pub(crate) fn json(runs: &[Run]) -> Value {
    let one = |run: &Run| {
        let phases: Vec<Value> = run
            .phases
            .iter()
            .map(|phase| {
                json!({"phase": phase.name, "seconds": phase.took.as_secs_f64(), "cpu_seconds": phase.cpu.as_secs_f64(),
                    "rss_kib": phase.memory, "peak_kib": phase.peak, "notes": phase.notes})
            })
            .collect();
        let changes: Vec<Value> = run
            .changes
            .iter()
            .map(|changes| {
                json!({"change": changes.kind.text(), "told": changes.told, "p50_ms": changes.percentile(50),
                    "p99_ms": changes.percentile(99), "cpu_ms": changes.cpu.as_secs_f64() * 1000.0})
            })
            .collect();
        json!({"runners": run.runners, "services": run.services, "records": run.records, "phases": phases,
            "changes": changes})
    };
    runs.iter().map(one).collect()
}
