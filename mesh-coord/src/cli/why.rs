//! `why`: whether one service may connect to another, as the coordinator knows it.

use anyhow::{Result, ensure};
use clap::Args;
use mesh_link::Method;
use mesh_proto::ServicePath;

use super::{
    client::{Reach, escaped},
    numbers,
    output::{note, print, print_json},
};
use crate::api::{self, Answered};

#[derive(Debug, Args)]
pub(super) struct Why {
    /// The service that opens the connection: DEPLOYMENT/SERVICE
    caller: ServicePath,
    /// The service that accepts it: DEPLOYMENT/SERVICE
    callee: ServicePath,
    /// The TCP port
    #[arg(value_parser = numbers::port)]
    port: u16,
    /// If the rules allow it, have a runner open the connection from an instance of the caller, and close it again
    #[arg(long)]
    probe: bool,
    #[command(flatten)]
    reach: Reach,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Why) -> Result<()> {
    let Why { caller, callee, port, probe, reach, json } = args;
    let why = if probe {
        let asked = api::WhyQuery { from: caller.clone(), to: callee.clone(), port };
        let api::Probed { node, why } = reach.request(Method::POST, "probe", Some(&asked)).await?;
        if !json {
            note(&format!("tried by {node}"));
        }
        why
    } else {
        let (from, to) = (escaped(&caller.to_string()), escaped(&callee.to_string()));
        reach.get(&format!("why?from={from}&to={to}&port={port}")).await?
    };
    if json {
        print_json(&why)?;
    } else {
        let width = why.steps.iter().map(|step| step.step.len()).max().unwrap_or_default();
        let lines = why.steps.iter().map(|step| {
            let mark = if step.ok { "ok" } else { "no" };
            format!("{mark}  {:width$}  {}\n", step.step, step.detail)
        });
        print(&lines.collect::<String>())?;
    }
    ensure!(why.verdict == Answered::Allow, "{caller} can't connect to port {port} of {callee}");
    Ok(())
}
