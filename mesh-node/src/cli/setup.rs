//! `mesh-node setup`: makes a container runtime call us.

use std::process::ExitCode;

use clap::Args;

use super::{
    Context,
    output::{Failure, note},
};
use crate::setup::{self, Runtime};

#[derive(Debug, Args)]
pub(super) struct Setup {
    /// Which runtime
    #[arg(value_name = "RUNTIME", value_enum)]
    runtime: Runtime,
    /// Only show what would change
    #[arg(long)]
    dry_run: bool,
    /// Take it out again
    #[arg(long)]
    undo: bool,
}

impl Setup {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let plan = setup::plan(self.runtime, self.undo, &context.state)?;
        let changes: Vec<_> = plan.edits.iter().filter(|edit| edit.changes()).collect();
        for edit in &changes {
            context.output.print(&edit.diff())?;
        }
        if changes.is_empty() {
            note("nothing to do");
        } else if !self.dry_run {
            changes.into_iter().try_for_each(setup::Edit::apply)?;
            note(plan.then);
        }
        Ok(ExitCode::SUCCESS)
    }
}
