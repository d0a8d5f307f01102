//! `mesh-node setup`: makes a container runtime, or systemd, call us.

use std::process::ExitCode;

use clap::Args;
use mesh_proto::ServicePath;
use serde::Serialize;

use super::{
    Context,
    output::{Failure, note},
};
use crate::{
    local::VERSION,
    setup::{self, Edit, Plan, Runtime, Wish},
};

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
        let wish = Wish { runtime, undo, services, network };
        wish.check().map_err(|refusal| Failure::Code(refusal, 2))?;
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
            let changes =
                edits.iter().map(|edit| Change { path: edit.path().display().to_string(), diff: edit.diff() });
            let shown = Shown { version: VERSION, changes: changes.collect(), done: !dry_run, notes: &notes, then };
            context.output.print_json(&shown)?;
        }
        then.into_iter().for_each(note);
        notes.iter().for_each(|left| note(left));
        Ok(ExitCode::SUCCESS)
    }
}

/// What is changed, for programs.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    /// [`VERSION`].
    version: u32,
    changes: Vec<Change>,
    /// Whether it is carried out, and not only shown.
    done: bool,
    /// What is left as it is, and why.
    notes: &'a [String],
    /// What only the operator can do.
    then: Option<&'static str>,
}

/// What is changed of one file.
#[derive(Debug, Serialize)]
struct Change {
    path: String,
    /// As for people.
    diff: String,
}
