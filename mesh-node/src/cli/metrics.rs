//! `mesh-node metrics`: the agent's numbers, for Prometheus.

use std::process::ExitCode;

use clap::Args;

use super::{Context, output::Failure};
use crate::local::{self, Request};

#[derive(Debug, Args)]
pub(super) struct Metrics {}

impl Metrics {
    #[expect(clippy::unused_self, reason = "every command is run the same way")]
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let metrics: local::Metrics = context.agent().ask(&Request::Metrics, &[])?;
        if context.output.json {
            context.output.print_json(&metrics)?;
        } else {
            context.output.print_data(&metrics.text)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
