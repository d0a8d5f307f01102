//! `mesh-node run`: runs a command as an instance, in a namespace with only the mesh.
//!
//! This process enters the new namespaces itself and the command inherits them, so nothing happens between fork and exec. It then
//! forwards signals, returns the exit code and detaches the instance.

mod child;
mod daemons;
mod error;
mod resolv;
mod stand_in;
mod world;

use std::{ffi::OsString, os::fd::AsFd as _, path::PathBuf, process::ExitCode};

use clap::Args;
use mesh_proto::{Release, ServicePath, message::Refusal};

use self::{error::RunError, resolv::Beside, world::World};
use super::{
    Context,
    output::{Failure, complain, note},
    runtime,
};
use crate::{
    hint::Hint as _,
    local::{self, Request},
};

/// The exit code for failures of `run` itself, as env(1) has it.
pub(super) const OURS: u8 = 125;

#[derive(Debug, Args)]
pub(super) struct Run {
    /// The service: DEPLOYMENT/SERVICE
    #[arg(value_name = "D/S")]
    service: ServicePath,
    /// Only open connections; the instance accepts none
    #[arg(long)]
    pub(super) client: bool,
    /// The release that it runs, such as v42 or a commit's hash: its calls within the deployment prefer the same release
    #[arg(long, value_name = "RELEASE")]
    release: Option<Release>,
    /// An existing network namespace, instead of a new one
    #[arg(long, value_name = "PATH")]
    netns: Option<PathBuf>,
    /// Leave out the variables of other deployments' services
    #[arg(long)]
    no_foreign_variables: bool,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(super) command: Vec<OsString>,
}

impl Run {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        // Before anything is made: fail if no agent answers.
        let _: local::Status = context.agent().ask(&Request::Status, &[])?;
        // Before the async runtime starts a thread: the kernel lets only single-threaded processes enter user namespaces.
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
            release: self.release.clone(),
            namespace: world.place,
            hosts,
            resolv: None,
            process: true,
        };
        let attached: local::Attach = context.agent().ask(&request, &fds)?;
        super::attach::warnings(&attached.instance);
        let instance = attached.instance.id;
        let result = self.command_in(context, &attached.instance.warnings);
        let detached = context.agent().ask::<local::Detach>(&Request::Detach { instance: Some(instance) }, &[]);
        if let Err(error) = detached {
            complain(&Refusal { error: format!("{instance} is not detached: {error}"), hint: error.hint() });
        }
        result
    }

    fn command_in(&self, context: &Context, warned: &[String]) -> Result<ExitCode, Failure> {
        let names = super::hosts::names(context, &self.service, warned)?;
        let variables = names.chosen((!self.no_foreign_variables).into());
        // An agent of version 0.2 has no resolver.
        let resolver = variables.get("WARP_DNS").and_then(|address| address.parse().ok());
        let beside = if self.netns.is_some() { Beside::Others } else { Beside::Nothing };
        let written = resolver.map(|resolver| resolv::write(resolver, &self.service.deployment, beside));
        if let Some(Err(error)) = written {
            note(&format!("warning: the command keeps the machine's resolv.conf: {error}"));
        }
        world::drop_capabilities();
        let Some((program, arguments)) = self.command.split_first() else {
            return Err(RunError::NoCommand.into());
        };
        runtime()?.block_on(child::run(program, arguments, &variables))
    }
}
