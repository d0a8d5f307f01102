//! `mesh-node setup`: makes a container runtime or systemd call this program.

use std::process::ExitCode;

use clap::Args;
use mesh_process::{edit::Edit, written::Change};
use mesh_proto::ServicePath;
use serde::Serialize;

use super::{
    Context,
    output::{Failure, note},
};
use crate::{
    local::VERSION,
    setup::{self, Plan, Runtime, Wish},
};

#[derive(Debug, Args)]
pub(super) struct Setup {
    /// The runtime
    #[arg(value_name = "RUNTIME", value_enum)]
    runtime: Runtime,
    /// cdi: a service that gets a device, any number of times; cni: the service of everything in the network
    #[arg(long = "service", value_name = "D/S")]
    services: Vec<ServicePath>,
    /// cni: the network, if there are several in /etc/cni/net.d
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
    /// Show the changes without making them
    #[arg(long)]
    dry_run: bool,
    /// Remove the setup
    #[arg(long)]
    undo: bool,
}

impl Setup {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let Self { runtime, services, network, dry_run, undo } = self;
        let wish = Wish { runtime, undo, services, network };
        wish.check().map_err(|error| Failure::with_code(&error, 2))?;
        let Plan { edits, notes, then } = setup::plan(&wish, &context.state)?;
        let edits: Vec<_> = edits.into_iter().filter(Edit::changes).collect();
        let then = (!edits.is_empty() && !dry_run).then_some(then);
        if !context.output.json {
            edits.iter().try_for_each(|edit| context.output.print(&edit.diff()))?;
        }
        if edits.is_empty() {
            note("nothing to do");
        } else if !dry_run {
            edits.iter().try_for_each(Edit::apply)?;
        }
        if context.output.json {
            let shown = Shown { version: VERSION, changes: Change::all(&edits), done: !dry_run, notes: &notes, then };
            context.output.print_json(&shown)?;
        }
        then.into_iter().for_each(note);
        notes.iter().for_each(|left| note(left));
        Ok(ExitCode::SUCCESS)
    }
}

/// The changes, for programs.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    /// [`VERSION`].
    version: u32,
    changes: Vec<Change>,
    /// Whether the changes are made, and not only shown.
    done: bool,
    /// What stays unchanged, and why.
    notes: &'a [String],
    /// The operator's next steps.
    then: Option<&'static str>,
}
