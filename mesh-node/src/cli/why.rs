//! `mesh-node why`: whether a connection is allowed, step by step.

use std::process::ExitCode;

use clap::Args;
use mesh_proto::ServicePath;

use super::{
    Context,
    error::Expected,
    output::{Failure, Ink},
};
use crate::local::{self, Request, Verdict};

#[derive(Debug, Args)]
pub(super) struct Why {
    /// The service that opens the connection: DEPLOYMENT/SERVICE
    caller: ServicePath,
    /// The service that accepts it: DEPLOYMENT/SERVICE
    callee: ServicePath,
    /// The TCP port
    #[arg(value_parser = parse_port)]
    port: u16,
    /// Open a connection from an instance of CALLER on this runner and show the result; takes a few seconds
    #[arg(long)]
    probe: bool,
}

pub(super) fn parse_port(text: &str) -> Result<u16, Expected> {
    text.parse().ok().filter(|port| *port > 0).ok_or(Expected::TcpPort)
}

impl Why {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let Self { caller, callee, port, probe } = self;
        let why: local::Why = context.agent().ask(&Request::Why { caller, callee, port, probe }, &[])?;
        let output = &context.output;
        if output.json {
            output.print_json(&why)?;
        } else {
            let width = why.steps.iter().map(|step| step.step.len()).max().unwrap_or_default();
            let lines = why.steps.iter().map(|step| {
                let mark = if step.ok { output.ink(Ink::Good, "ok") } else { output.ink(Ink::Bad, "no") };
                format!("{mark}  {:width$}  {}\n", step.step, step.detail)
            });
            output.print(&lines.collect::<String>())?;
        }
        Ok(ExitCode::from(u8::from(why.verdict == Verdict::Deny)))
    }
}
