//! The figures for people.

use std::fmt::Write as _;

use crate::{
    contender::Contender,
    figures::{Figures, Quantity, Spread},
    measure::Sample,
    record::Record,
};

/// A line of the table: what it is, and how many decimals make sense.
const LINES: &[(&str, usize, Quantity)] = &[
    ("1 stream, Gbit/s", 2, |sample| sample.one.transfer.gbits),
    ("1 stream back, Gbit/s", 2, |sample| sample.back.transfer.gbits),
    ("8 streams, Gbit/s", 2, |sample| sample.many.transfer.gbits),
    ("retransmitted, 1 stream", 0, |sample| sample.one.transfer.retransmits),
    ("retransmitted, 8 streams", 0, |sample| sample.many.transfer.retransmits),
    ("UDP buffer overflows, 8", 0, |sample| sample.many.used.overflows),
    ("daemons' CPU, s/GB", 2, |sample| sample.one.daemons_per_gb()),
    ("machine's CPU, s/GB", 2, |sample| sample.one.machine_per_gb()),
    ("daemons' CPU, 8, s/GB", 2, |sample| sample.many.daemons_per_gb()),
    ("busiest thread's CPU, 8, s/GB", 2, |sample| sample.many.busiest_per_gb()),
    ("round trip, p50, µs", 0, |sample| sample.idle.p50),
    ("round trip, p99, µs", 0, |sample| sample.idle.p99),
    ("beside a transfer, p50, µs", 0, |sample| sample.loaded.p50),
    ("beside a transfer, p99, µs", 0, |sample| sample.loaded.p99),
    ("connections/s", 0, |sample| sample.serial),
    ("connections/s, 8 at once", 0, |sample| sample.parallel),
];

/// Between columns.
const GAP: usize = 2;

/// All of it.
pub(crate) fn text(record: &Record<'_>) -> String {
    let mut text = heading(record);
    if !record.figures.is_empty() {
        text += &table(&record.figures);
    }
    text += &drops(&record.figures);
    if let Some(memory) = &record.memory {
        text += &memory.text();
    }
    if let Some(hello) = &record.hello {
        text += &hello.text();
    }
    if let Some(floods) = &record.floods {
        text += &floods.text();
    }
    if let Some(relays) = &record.relays {
        text += &relays.text();
    }
    let results = record.results();
    if !results.is_empty() {
        let _ = writeln!(text, "\n{:<46}{:<24}{:<18}aim", "", "ratio, median [range]", "bound");
    }
    for result in &results {
        let Spread { median, least, most } = result.measured;
        let range = if least < most { format!(" [{least:.2}-{most:.2}]") } else { String::new() };
        let measured = format!("{median:.2} {}{range}", result.unit);
        let [bound, aim] = [result.bound, result.aim].map(|bound| {
            bound.map_or(String::new(), |bound| {
                format!("{} {}", bound.text(result.unit), if bound.holds(median) { "met" } else { "MISSED" })
            })
        });
        let _ = writeln!(text, "{}", format!("{:<46}{measured:<24}{bound:<18}{aim}", result.what).trim_end());
    }
    for remark in &record.machine.remarks {
        let _ = writeln!(text, "\n{remark}");
    }
    text
}

fn heading(record: &Record<'_>) -> String {
    let (machine, arguments) = (&record.machine, record.arguments);
    let versions: Vec<String> = machine.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    format!(
        "{}, {} processors, Linux {}, {}\n{}\n{}, rounds: {}, transfers of {} s; veth of MTU 1500; medians [least-most]\n\n",
        machine.cpu,
        machine.processors,
        machine.kernel,
        machine.date,
        versions.join(", "),
        arguments.cc,
        arguments.rounds,
        arguments.seconds,
    )
}

fn table(all: &[Figures]) -> String {
    let mut columns: Vec<Vec<String>> = vec![];
    columns.push(
        [String::new(), "MTU".to_owned()].into_iter().chain(LINES.iter().map(|line| line.0.to_owned())).collect(),
    );
    for figures in all {
        let cells = LINES.iter().map(|(_, decimals, quantity)| cell(figures.spread(*quantity), *decimals));
        columns.push([figures.name.to_owned(), figures.mtu.to_string()].into_iter().chain(cells).collect());
    }
    let widths: Vec<usize> =
        columns.iter().map(|column| column.iter().map(|cell| cell.chars().count()).max().unwrap_or(0) + GAP).collect();
    let mut text = String::new();
    for line in 0..LINES.len() + 2 {
        let cells = columns.iter().zip(&widths).map(|(column, width)| format!("{:<width$}", column[line]));
        let _ = writeln!(text, "{}", cells.collect::<String>().trim_end());
    }
    text
}

fn cell(spread: Spread, decimals: usize) -> String {
    let Spread { median, least, most } = spread;
    let (least, most) = (format!("{least:.decimals$}"), format!("{most:.decimals$}"));
    if least == most { format!("{median:.decimals$}") } else { format!("{median:.decimals$} [{least}-{most}]") }
}

/// What mesh has dropped.
fn drops(all: &[Figures]) -> String {
    let mut text = String::new();
    for figures in all {
        let mut sums = std::collections::BTreeMap::<&str, u64>::new();
        for (reason, count) in figures.samples.iter().flat_map(|sample| &sample.drops) {
            *sums.entry(reason).or_default() += count;
        }
        if !sums.is_empty() {
            let sums: Vec<String> = sums.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
            let _ = writeln!(text, "dropped by {}: {}", figures.name, sums.join(", "));
        }
    }
    text
}

/// A round in a line.
pub(crate) fn progress(contender: &Contender, sample: &Sample) -> String {
    format!(
        "{:<21} {:6.2} {:6.2} {:6.2} Gbit/s  {:5.2} s/GB  {:5.0} {:6.0} µs  {:6.0} {:6.0} connections/s",
        contender.name,
        sample.one.transfer.gbits,
        sample.back.transfer.gbits,
        sample.many.transfer.gbits,
        sample.one.daemons_per_gb(),
        sample.idle.p50,
        sample.loaded.p50,
        sample.serial,
        sample.parallel,
    )
}
