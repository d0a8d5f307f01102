//! `mesh-node detach`: detaches an instance from its namespace.

use std::{os::fd::AsFd as _, path::PathBuf, process::ExitCode};

use clap::{ArgGroup, Args};
use mesh_proto::InstanceId;

use super::{Context, attach, output::Failure};
use crate::local::{self, Request, target};

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").required(true).args(["instance", "netns"])))]
pub(super) struct Detach {
    /// The instance, such as i-7
    #[arg(value_name = "INSTANCE")]
    instance: Option<InstanceId>,
    /// The network namespace of the instance
    #[arg(long, value_name = "PATH")]
    netns: Option<PathBuf>,
}

impl Detach {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let request = Request::Detach { instance: self.instance };
        let answer: local::Detach = match self.netns {
            Some(path) => {
                let (_, namespace) = target::namespace(&path)?;
                context.agent().ask(&request, &[namespace.as_fd()])?
            }
            None => context.agent().ask(&request, &[])?,
        };
        if context.output.json {
            context.output.print_json(&answer)?;
        } else {
            context.output.print(&attach::instances(context, std::slice::from_ref(&answer.instance)))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
