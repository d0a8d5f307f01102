//! `mesh-node run`: a command as an instance, in a namespace with nothing but the mesh.
//!
//! This process enters the new namespaces itself, and the command inherits them, so nothing has to be done between fork
//! and exec. It stays behind to pass on signals and the exit code, and to take the instance out at the end.

mod child;
mod daemons;
mod world;

use std::{ffi::OsString, os::fd::AsFd as _, path::PathBuf, process::ExitCode};

use clap::Args;
use mesh_proto::{ServicePath, message::Refusal};

use self::world::World;
use super::{
    Context,
    output::{Failure, complain},
    runtime,
};
use crate::local::{self, Request};

/// The exit code for failures of our own, as env(1) has it.
pub(super) const OURS: u8 = 125;

#[derive(Debug, Args)]
pub(super) struct Run {
    /// The service: DEPLOYMENT/SERVICE
    #[arg(value_name = "D/S")]
    service: ServicePath,
    /// It only calls others, and is never called
    #[arg(long)]
    pub(super) client: bool,
    /// A network namespace that is there already, instead of a new one
    #[arg(long, value_name = "PATH")]
    netns: Option<PathBuf>,
    /// Leave out the variables that lead to other deployments' services
    #[arg(long)]
    no_foreign_variables: bool,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(super) command: Vec<OsString>,
}

impl Run {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        // Before anything is made: is there an agent at all?
        let _: local::Status = context.agent().ask(&Request::Status, &[])?;
        // Namespaces are entered before the runtime could start a thread: the kernel demands it.
        let world = World::enter(self.netns.as_deref())?;
        let (hosts, file) = world.hosts.unzip();
        let fds: Vec<_> = [Some(&world.namespace), file.as_ref(), Some(&world.process)]
            .into_iter()
            .flatten()
            .map(|fd| fd.as_fd())
            .collect();
        let request = Request::Attach {
            service: self.service.clone(),
            client: self.client,
            namespace: world.place,
            hosts,
            process: true,
        };
        let attached: local::Attach = context.agent().ask(&request, &fds)?;
        super::attach::warnings(&attached.instance);
        let instance = attached.instance.id;
        let result = self.command_in(context);
        let detached = context.agent().ask::<local::Detach>(&Request::Detach { instance: Some(instance) }, &[]);
        if let Err(refusal) = detached {
            complain(&Refusal { error: format!("{instance} is not detached: {}", refusal.error), hint: refusal.hint });
        }
        result
    }

    fn command_in(&self, context: &Context) -> Result<ExitCode, Failure> {
        let names = super::hosts::names(context, &self.service)?;
        let variables = names.chosen((!self.no_foreign_variables).into());
        world::drop_capabilities();
        let Some((program, arguments)) = self.command.split_first() else {
            return Err(Refusal::bare("there is no command").into());
        };
        runtime()?.block_on(child::run(program, arguments, &variables))
    }
}
