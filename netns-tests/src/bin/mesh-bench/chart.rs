//! A chart for the README: throughput by contender, one stream and several, readable on a light and on a dark page.

use std::fmt::Write as _;

use crate::{
    figures::{Figures, Quantity, Spread},
    measure::STREAMS,
    record::Record,
};

/// In pixels: the whole, where bars begin, and the longest bar.
const WIDTH: f64 = 760.0;
const LEFT: f64 = 210.0;
const LONGEST: f64 = 450.0;

/// A bar, the space between two groups of them, the space of a heading.
const BAR: f64 = 15.0;
const GAP: f64 = 12.0;
const HEADING: f64 = 34.0;

/// Colours by class; what stands on the page itself follows the reader's scheme.
const STYLE: &str = "\
text { font: 13px system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #24292f }
.title { font-size: 16px; font-weight: 600 } .heading { font-weight: 600 } .small { font-size: 11px; fill: #57606a }
.ours.one { fill: #0969da } .ours.many { fill: #6cb0f5 } .theirs.one { fill: #6e7781 } .theirs.many { fill: #afb8c1 }
.range { stroke: #24292f; stroke-width: 1; opacity: 0.55 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .small { fill: #9198a1 } .range { stroke: #e6edf3 }
  .ours.one { fill: #4493f8 } .ours.many { fill: #1f4f8f } .theirs.one { fill: #8b949e } .theirs.many { fill: #4b535d }
}";

const BARS: [(&str, Quantity); 2] =
    [("one", |sample| sample.one.transfer.gbits), ("many", |sample| sample.many.transfer.gbits)];

/// Contenders of one scale: its heading, and their names with what is said of them.
struct Panel(&'static str, &'static [(&'static str, &'static str)]);

const PANELS: [Panel; 2] = [
    Panel(
        "Between two machines, encrypted",
        &[
            ("mesh-default", "mesh"),
            ("mesh", "mesh"),
            ("wireguard-go-default", "wireguard-go"),
            ("wireguard-go", "wireguard-go"),
            ("boringtun-cli", "boringtun-cli"),
            ("gotatun", "gotatun"),
        ],
    ),
    Panel("On one machine", &[("veth", "a bare veth pair"), ("mesh-local", "mesh")]),
];

/// The whole file.
pub(crate) fn svg(record: &Record<'_>) -> String {
    let mut body = String::new();
    let mut y = 28.0;
    text(&mut body, 16.0, y, "title", "TCP throughput, Gbit/s");
    y += 22.0;
    for (x, class, label) in [(16.0, "one", "1 stream".to_owned()), (110.0, "many", format!("{STREAMS} streams"))] {
        for (at, side) in [(0.0, "ours"), (15.0, "theirs")] {
            rect(&mut body, x + at, y - 10.0, 12.0, &format!("{side} {class}"));
        }
        text(&mut body, x + 32.0, y, "small", &label);
    }
    text(&mut body, 230.0, y, "small", "bars: medians; lines: the least and the most of all rounds");
    for Panel(heading, names) in PANELS {
        let shown: Vec<(&Figures, &str)> = names
            .iter()
            .filter_map(|(name, label)| Some((record.figures.iter().find(|figures| figures.name == *name)?, *label)))
            .collect();
        if !shown.is_empty() {
            y += HEADING;
            text(&mut body, 16.0, y, "heading", heading);
            y += 10.0;
            y = panel(&mut body, y, &shown);
        }
    }
    let (machine, arguments) = (&record.machine, record.arguments);
    let versions: Vec<String> = machine.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let where_and_when =
        format!("{}, {} processors, Linux {}, {}", machine.cpu, machine.processors, machine.kernel, machine.date);
    let how =
        format!("{}; {}, {} rounds of {} s", versions.join(", "), arguments.cc, arguments.rounds, arguments.seconds);
    y += 14.0;
    for line in [where_and_when, how] {
        y += 16.0;
        text(&mut body, 16.0, y, "small", &line);
    }
    let height = y + 14.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" aria-label=\"TCP throughput by contender\">\n<style>\n{STYLE}\n</style>\n{body}</svg>\n"
    )
}

/// Where the next thing goes.
fn panel(body: &mut String, mut y: f64, shown: &[(&Figures, &str)]) -> f64 {
    let spreads = |figures: &Figures| BARS.map(|(_, quantity)| figures.spread(quantity));
    let most = shown.iter().flat_map(|(figures, _)| spreads(figures)).map(|spread| spread.most).fold(0.1, f64::max);
    let scale = LONGEST / most;
    for (figures, label) in shown {
        let label = format!("{label}, MTU {}", figures.mtu);
        text(body, 16.0, y + BAR + 4.0, "", &label);
        let side = if figures.name.starts_with("mesh") { "ours" } else { "theirs" };
        for ((class, _), Spread { median, least, most }) in BARS.into_iter().zip(spreads(figures)) {
            rect(body, LEFT, y, median * scale, &format!("{side} {class}"));
            let middle = y + BAR / 2.0 - 1.0;
            let (from, to) = (LEFT + least * scale, LEFT + most * scale);
            let _ = writeln!(body, "<path class=\"range\" d=\"M{from:.1} {middle:.1}H{to:.1}\"/>");
            text(body, LEFT + most.max(median) * scale + 6.0, y + BAR - 4.0, "", &format!("{median:.1}"));
            y += BAR;
        }
        y += GAP;
    }
    y - GAP
}

fn rect(body: &mut String, x: f64, y: f64, width: f64, class: &str) {
    let height = BAR - 2.0;
    let _ = writeln!(
        body,
        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"2\"/>"
    );
}

fn text(body: &mut String, x: f64, y: f64, class: &str, text: &str) {
    let _ = writeln!(body, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escape(text));
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
