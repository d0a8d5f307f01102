//! `mesh-node leave`: undoes `join` and `up`.

use std::process::ExitCode;

use clap::Args;

use super::{
    Context, attach,
    error::CliError,
    output::{self, Failure, note},
    runtime, up,
};
use crate::{
    agent::{self, Flags, Identity, Purpose, Settings},
    config::Config,
    docker,
    local::{self, Request},
};

#[derive(Debug, Args)]
pub(super) struct Leave {}

impl Leave {
    #[expect(clippy::unused_self, reason = "every command is run the same way")]
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let left = match context.state.take() {
            // No agent runs: this process is the agent for as long as it takes.
            Ok(lock) => {
                let Some(identity) = Identity::load(&context.state)?.filter(|identity| identity.enrolment.is_some())
                else {
                    let error = CliError::NotJoined { state: context.state.path().to_owned() };
                    return Err(context.agent().of_root().map_or_else(|| error.into(), Failure::from));
                };
                mesh_process::log::start(output::log_colours());
                let runtime = runtime()?;
                let file = Config::agent(&context.state).unwrap_or_default();
                let settings = Settings::choose(&Flags::default(), &file, &identity);
                let state = context.state.clone();
                let left = runtime.block_on(agent::run(state, lock, identity, settings, Purpose::Leave, docker::watch));
                runtime.shutdown_background();
                left?.ok_or(CliError::Interrupted)?
            }
            Err(_) => context.agent().ask::<local::Leave>(&Request::Leave, &[])?,
        };
        if context.output.json {
            context.output.print_json(&left)?;
        } else {
            if !left.instances.is_empty() {
                note("detached:");
                context.output.print(&attach::instances(context, &left.instances))?;
            }
            note(&format!("{} ({}) has left the mesh; its identity is deleted", left.runner.name, left.runner.id));
        }
        up::clear_away(context)?;
        Ok(ExitCode::SUCCESS)
    }
}
