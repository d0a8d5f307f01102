//! `mesh-node up`: makes this machine a runner, unless it is one, and has systemd run its agent.

mod connected;
mod error;

use std::process::ExitCode;

use clap::Args;
use mesh_process::{
    edit::Edit,
    systemd::{self, State},
    written::{self, Change},
};
use mesh_proto::message::Switches;
use serde::Serialize;
use zeroize::Zeroizing;

use self::error::{UpError, instead};
use super::{
    Context,
    enrol::{self, Enrol, ThisStart},
    output::{self, Failure, note},
    runtime,
};
use crate::{
    agent::Identity,
    local::{self, VERSION},
    setup::{self, AGENT},
    state::{StateDir, StateError},
};

#[derive(Debug, Args)]
pub(super) struct Up {
    #[command(flatten)]
    enrol: Enrol,
    /// Use no relays: other runners are reached directly or not at all. It is written to the agent's configuration
    #[arg(long)]
    no_relay: bool,
    /// Show what would be written, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Stop the agent and take out what `up` has written. The machine stays a runner, its instances stay attached without
    /// connections, and `mesh-node up` starts the agent again; `mesh-node leave` leaves the mesh
    #[arg(long, conflicts_with_all = ["coordinator", "token", "name", "provider", "listen", "endpoint", "map_port", "proxy", "metrics", "lanes", "replace", "no_relay"])]
    undo: bool,
}

impl Up {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        mesh_process::log::start_quietly(output::log_colours());
        let variable = enrol::begin();
        if !systemd::runs_the_machine() && !self.undo {
            return Err(UpError::NoSystemd { instead: instead(std::env::args()) }.into());
        }
        if !self.dry_run && !nix::unistd::geteuid().is_root() {
            return Err(UpError::NotRoot.into());
        }
        if self.undo {
            return undo(context, self.dry_run);
        }
        let edits = real(setup::bring_up(&context.state, self.no_relay)?);
        if self.dry_run {
            show_diffs(context, &edits)?;
            note("then it joins the mesh, unless it has, and: systemctl enable --now mesh-node");
            return show(context, &edits, Done::Shown);
        }
        self.become_runner(context, variable, !edits.is_empty())?;
        write(&edits, "written")?;
        AGENT.enable_and_start()?;
        let status = connected::wait(context)?;
        note(&format!(
            "{} ({}) is connected to {}; systemd runs its agent, as the unit mesh-node",
            status.runner.name, status.runner.id, status.coordinator.url
        ));
        note(NEXT);
        show(context, &edits, Done::Up(status.runner, status.coordinator.url))
    }

    /// Joins, or takes over the options given now. The agent doesn't run then, unless nothing is new.
    fn become_runner(
        &self,
        context: &Context,
        variable: Option<Zeroizing<String>>,
        has_edits: bool,
    ) -> Result<(), Failure> {
        let state = &context.state;
        let mut identity = Identity::load_or_new(state)?;
        // What isn't remembered is in the configuration.
        let now = ThisStart { no_relay: false, offloads: Switches::default() };
        let settings = self.enrol.settings(now, state, &mut identity)?;
        if identity.enrolment.is_some() && AGENT.state()? == State::Active {
            self.enrol.go_on(&mut identity)?;
            if !has_edits && identity.is_saved(state) {
                note("this machine is a runner already, and its agent runs");
                return Ok(());
            }
            // Instances stay attached meanwhile, with the connections that stand.
            AGENT.stop()?;
            let _lock = take(state)?;
            enrol::keep(&identity, state);
            return Ok(());
        }
        let _lock = take(state)?;
        let runtime = runtime()?;
        let enrolled = runtime.block_on(self.enrol.carry_out(context, &mut identity, &settings, variable));
        runtime.shutdown_background();
        enrolled.map(drop)
    }
}

/// What a machine that is connected needs next.
const NEXT: &str = "next: `mesh-node setup docker` (or podman, cni, cdi) has containers with the label mesh.service=DEPLOYMENT/SERVICE \
                    in the mesh from their first instruction on; `mesh-node run DEPLOYMENT/SERVICE -- COMMAND` runs any program as an instance";

fn take(state: &StateDir) -> Result<crate::state::Lock, Failure> {
    state.take().map_err(|error| match error {
        StateError::Taken { path } => UpError::ByHand { state: path }.into(),
        other => other.into(),
    })
}

/// `up --undo`.
fn undo(context: &Context, dry_run: bool) -> Result<ExitCode, Failure> {
    let edits = real(setup::take_down(&context.state)?);
    if dry_run {
        show_diffs(context, &edits)?;
        note("then: systemctl disable --now mesh-node");
        return show(context, &edits, Done::Shown);
    }
    let stops = systemd::runs_the_machine() && (AGENT.state()? != State::Inactive || AGENT.is_enabled());
    if stops {
        AGENT.stop_and_disable()?;
    }
    write(&edits, "taken out")?;
    if stops || !edits.is_empty() {
        note(
            "the agent is stopped, and this machine is a runner still: `mesh-node up` starts the agent again, `mesh-node leave` leaves \
             the mesh",
        );
    } else {
        note("nothing to do");
    }
    show(context, &edits, Done::Undone)
}

/// Takes out what `up` has written for an agent that has left the mesh.
pub(super) fn clear_away(context: &Context) -> Result<(), Failure> {
    let edits = real(setup::take_down(&context.state)?);
    if edits.iter().any(|edit| edit.path() == AGENT.own()) && systemd::runs_the_machine() {
        AGENT.stop_and_disable()?;
    }
    write(&edits, "taken out")
}

/// Those that change anything.
fn real(edits: Vec<Edit>) -> Vec<Edit> {
    edits.into_iter().filter(Edit::changes).collect()
}

/// Makes the changes, tells of them, and has systemd read them.
fn write(edits: &[Edit], done: &str) -> Result<(), Failure> {
    Ok(written::write(edits, |path| note(&format!("{done}: {}", path.display())))?)
}

/// How far it came.
enum Done {
    /// Nothing was done.
    Shown,
    /// The agent of this runner is connected to the coordinator at these URLs.
    Up(local::Runner, String),
    Undone,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Shown {
    version: u32,
    changes: Vec<Change>,
    /// Whether the changes are made, and not only shown.
    done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    runner: Option<local::Runner>,
    #[serde(skip_serializing_if = "Option::is_none")]
    coordinator: Option<String>,
}

/// For people.
fn show_diffs(context: &Context, edits: &[Edit]) -> Result<(), Failure> {
    if context.output.json {
        return Ok(());
    }
    edits.iter().try_for_each(|edit| context.output.print(&edit.diff()))
}

/// For programs.
fn show(context: &Context, edits: &[Edit], done: Done) -> Result<ExitCode, Failure> {
    if !context.output.json {
        return Ok(ExitCode::SUCCESS);
    }
    let (done, runner, coordinator) = match done {
        Done::Shown => (false, None, None),
        Done::Undone => (true, None, None),
        Done::Up(runner, coordinator) => (true, Some(runner), Some(coordinator)),
    };
    context.output.print_json(&Shown { version: VERSION, changes: Change::all(edits), done, runner, coordinator })?;
    Ok(ExitCode::SUCCESS)
}
