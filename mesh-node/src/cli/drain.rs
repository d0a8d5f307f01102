//! `mesh-node drain` and `undrain`: stops new connections to an instance, and allows them again.

use std::process::ExitCode;

use clap::Args;
use mesh_proto::InstanceId;

use super::{Context, attach, output::Failure};
use crate::local::{self, Request};

#[derive(Debug, Args)]
pub(super) struct Drain {
    /// The instance, such as i-7
    #[arg(value_name = "INSTANCE")]
    instance: InstanceId,
}

impl Drain {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        ask(context, &Request::Drain { instance: self.instance })
    }

    pub(super) fn undo(self, context: &Context) -> Result<ExitCode, Failure> {
        ask(context, &Request::Undrain { instance: self.instance })
    }
}

fn ask(context: &Context, request: &Request) -> Result<ExitCode, Failure> {
    let answer: local::Drain = context.agent().ask(request, &[])?;
    attach::note_pending(&answer.pending);
    if context.output.json {
        context.output.print_json(&answer)?;
    } else {
        context.output.print(&attach::instances(context, std::slice::from_ref(&answer.instance)))?;
    }
    Ok(ExitCode::SUCCESS)
}
