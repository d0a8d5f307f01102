//! The command line.

use std::{path::PathBuf, time::Duration};

pub(crate) const USAGE: &str =
    "usage: mesh-herd [--runners N,...] [--changes N] [--idle SECONDS] [--no-absent] [--edges N] [--json FILE]";

pub(crate) struct Arguments {
    /// How many runners, one run for each number.
    pub(crate) runners: Vec<usize>,
    /// How many changes of each kind.
    pub(crate) changes: usize,
    /// How long the idle phase takes.
    pub(crate) idle: Duration,
    /// Whether a fifth of the runners stays away in the end.
    pub(crate) absent: bool,
    /// How many pairs of services each runner reports; 0: none.
    pub(crate) edges: usize,
    pub(crate) json: Option<PathBuf>,
}

impl Arguments {
    pub(crate) fn given() -> Result<Self, String> {
        let mut this = Self {
            runners: vec![1000, 10_000],
            changes: 40,
            idle: Duration::from_secs(20),
            absent: true,
            edges: 0,
            json: None,
        };
        let mut rest = std::env::args().skip(1);
        while let Some(name) = rest.next() {
            let mut value = || rest.next().ok_or_else(|| format!("{name} needs a value"));
            match name.as_str() {
                "--runners" => {
                    this.runners = value()?.split(',').map(number).collect::<Result<_, _>>()?;
                    if this.runners.iter().any(|runners| !(20..=10_000).contains(runners)) {
                        return Err("a run has 20 to 10,000 runners".to_owned());
                    }
                }
                "--changes" => this.changes = number(&value()?)?.max(1),
                "--idle" => this.idle = Duration::from_secs(number(&value()?)?.max(1) as u64),
                "--no-absent" => this.absent = false,
                "--edges" => this.edges = number(&value()?)?.min(256),
                "--json" => this.json = Some(value()?.into()),
                _ => return Err(format!("unknown: {name}")),
            }
        }
        Ok(this)
    }
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("{text} is no number"))
}
