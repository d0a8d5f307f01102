//! `mesh-node setup`: makes a container runtime, or systemd, call us.

use std::process::ExitCode;

use clap::Args;
use mesh_proto::ServicePath;

use super::{
    Context,
    output::{Failure, note},
};
use crate::setup::{self, Runtime, Wish};

#[derive(Debug, Args)]
pub(super) struct Setup {
    /// Which runtime
    #[arg(value_name = "RUNTIME", value_enum)]
    runtime: Runtime,
    /// cdi: a service that becomes a device, any number of times; cni: the service of everything in the network
    #[arg(long = "service", value_name = "D/S")]
    services: Vec<ServicePath>,
    /// cni: the network, where there is more than one in /etc/cni/net.d
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
    /// Only show what would change
    #[arg(long)]
    dry_run: bool,
    /// Take it out again
    #[arg(long)]
    undo: bool,
}

impl Setup {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let Self { runtime, services, network, dry_run, undo } = self;
        let plan = setup::plan(&Wish { runtime, undo, services, network }, &context.state)?;
        let changes: Vec<_> = plan.edits.iter().filter(|edit| edit.changes()).collect();
        for edit in &changes {
            context.output.print(&edit.diff())?;
        }
        if changes.is_empty() {
            note("nothing to do");
        } else if !dry_run {
            changes.into_iter().try_for_each(setup::Edit::apply)?;
            note(plan.then);
        }
        plan.notes.iter().for_each(|left| note(left));
        Ok(ExitCode::SUCCESS)
    }
}
