//! `top` and `refused`: who talks to whom, and who is refused, as runners report it.

use std::{collections::HashMap, io::IsTerminal as _, time::Duration};

use anyhow::{Context as _, Result};
use clap::Args;
use mesh_process::amount;
use mesh_proto::ServicePath;
use tokio::time::{Instant, sleep};

use super::{
    client::{Reach, escaped},
    output::{note, print, print_json, print_table, table},
    time,
};
use crate::api::{Coverage, Edge, Edges, Refusals};

/// How often the screen is renewed: as often as runners report while someone watches.
const EVERY: Duration = Duration::from_secs(5);
/// How many lines fit a screen of unknown height.
const LINES: usize = 40;

#[derive(Debug, Args)]
pub(super) struct Top {
    #[command(flatten)]
    of: Of,
    /// Print once, without rates, instead of showing it live
    #[arg(long)]
    once: bool,
}

#[derive(Debug, Args)]
pub(super) struct Refused {
    #[command(flatten)]
    of: Of,
}

#[derive(Debug, Args)]
struct Of {
    /// Only connections from this DEPLOYMENT or DEPLOYMENT/SERVICE
    #[arg(long, value_name = "NAME")]
    from: Option<String>,
    /// Only connections to this DEPLOYMENT or DEPLOYMENT/SERVICE
    #[arg(long, value_name = "NAME")]
    to: Option<String>,
    #[command(flatten)]
    reach: Reach,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Of {
    fn path(&self, what: &str, watch: bool) -> String {
        let from = self.from.iter().map(|name| format!("&from={}", escaped(name)));
        let to = self.to.iter().map(|name| format!("&to={}", escaped(name)));
        let names: String = from.chain(to).collect();
        format!("{what}?watch={watch}{names}")
    }
}

pub(super) async fn top(args: Top) -> Result<()> {
    let Top { of, once } = args;
    let path = of.path("edges", true);
    if of.json {
        return print_json(&of.reach.get::<Edges>(&path).await?);
    }
    let mut last: Option<(Edges, Instant)> = None;
    loop {
        let edges: Edges = of.reach.get(&path).await?;
        let now = Instant::now();
        if once || !std::io::stdout().is_terminal() {
            return once_more(&edges);
        }
        let rows = rows(&edges, last.as_ref().map(|(edges, at)| (edges, now - *at)));
        let head = covered(&edges.coverage);
        // Clears the screen (ECMA-48 ED, CUP).
        print(&format!("\x1b[2J\x1b[H{head}\n\n{}", table(&HEADER, rows.into_iter().take(LINES).collect())))?;
        last = Some((edges, now));
        tokio::select! {
            () = sleep(EVERY) => {}
            interrupted = tokio::signal::ctrl_c() => return interrupted.context("SIGINT cannot be waited for"),
        }
    }
}

const HEADER: [&str; 9] = ["from", "to", "open", "new/s", "refused", "unanswered", "sent", "received", "used"];

fn once_more(edges: &Edges) -> Result<()> {
    note(&covered(&edges.coverage));
    let none = "no connections yet: runners report within a minute of the first ones";
    print_table(&HEADER, rows(edges, None), none)
}

/// What an answer is about.
fn covered(coverage: &Coverage) -> String {
    let Coverage { runners, reporting, oldest_seconds, lacking } = coverage;
    let lacking: String = lacking.iter().map(|lacking| format!("\n{}", lacking.words())).collect();
    let age = oldest_seconds.map(|seconds| format!(", as of {} ago", time::show(seconds))).unwrap_or_default();
    format!("{reporting} of {runners} runners report{age}{lacking}")
}

fn rows(edges: &Edges, before: Option<(&Edges, Duration)>) -> Vec<Vec<String>> {
    let earlier: HashMap<(&ServicePath, &ServicePath), &Edge> =
        before.iter().flat_map(|(edges, _)| &edges.edges).map(|edge| ((&edge.from, &edge.to), edge)).collect();
    let per_second = |edge: &Edge, of: fn(&Edge) -> u64| {
        let (earlier, (_, took)) = (earlier.get(&(&edge.from, &edge.to)), before?);
        let more = of(edge).saturating_sub(earlier.map_or(0, |earlier| of(earlier)));
        Some(more as f64 / took.as_secs_f64().max(0.001))
    };
    let bytes = |edge: &Edge, of: fn(&Edge) -> u64| match per_second(edge, of) {
        Some(rate) => format!("{}/s", amount::bytes(rate)),
        None => amount::bytes(of(edge) as f64),
    };
    let row = |edge: &Edge| {
        vec![
            edge.from.to_string(),
            edge.to.to_string(),
            edge.open.to_string(),
            per_second(edge, |edge| edge.opened).map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}")),
            edge.refused.to_string(),
            edge.unanswered.to_string(),
            bytes(edge, |edge| edge.sent_bytes),
            bytes(edge, |edge| edge.received_bytes),
            edge.used_seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{} ago", time::show(seconds))),
        ]
    };
    edges.edges.iter().map(row).collect()
}

pub(super) async fn refused(args: Refused) -> Result<()> {
    let Refused { of } = args;
    let refusals: Refusals = of.reach.get(&of.path("refused", false)).await?;
    if of.json {
        return print_json(&refusals);
    }
    note(&covered(&refusals.coverage));
    let row = |refused: crate::api::RefusedRow| {
        vec![
            refused.from,
            refused.to,
            if refused.port == 0 { "-".to_owned() } else { refused.port.to_string() },
            refused.reason,
            refused.count.to_string(),
            refused.node.to_string(),
            format!("{} ago", time::show(refused.age_seconds)),
        ]
    };
    let header = ["from", "to", "port", "reason", "count", "node", "last"];
    print_table(&header, refusals.refused.into_iter().map(row).collect(), "no connection was refused")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_what_came_between_two_looks() {
        let edge = |opened, sent| Edge {
            from: "shop/app".parse().unwrap(),
            to: "shop/db".parse().unwrap(),
            open: 3,
            opened,
            refused: 0,
            unanswered: 0,
            reset: 0,
            sent_bytes: sent,
            received_bytes: 0,
            used_seconds: Some(4),
        };
        let coverage = Coverage { runners: 2, reporting: 1, oldest_seconds: Some(70), lacking: vec![] };
        assert_eq!(covered(&coverage), "1 of 2 runners report, as of 1m 10s ago");
        let edges = |edge| Edges { version: 1, coverage: coverage.clone(), edges: vec![edge] };
        let (before, after) = (edges(edge(10, 1000)), edges(edge(20, 6000)));
        let cells = |rows: Vec<Vec<String>>| (rows[0][3].clone(), rows[0][6].clone());
        assert_eq!(cells(rows(&after, None)), ("-".to_owned(), "6.0 kB".to_owned()));
        let live = rows(&after, Some((&before, Duration::from_secs(5))));
        assert_eq!(cells(live), ("2.0".to_owned(), "1.0 kB/s".to_owned()));
        // A coordinator that began anew in between counts from zero.
        assert_eq!(cells(rows(&before, Some((&after, Duration::from_secs(5))))).0, "0.0");
    }
}
