//! `mesh-node hook`: called by container runtimes.

use std::process::ExitCode;

use clap::Args;
use mesh_proto::ServicePath;

use super::{Context, output::Failure};
use crate::{
    containers::Member,
    oci::{self, Stage},
};

#[derive(Debug, Args)]
pub(super) struct Hook {
    /// The stage of the container
    #[arg(value_name = "STAGE", value_enum)]
    stage: Stage,
    /// The service, instead of the one in the container's annotations
    #[arg(long, value_name = "D/S")]
    service: Option<ServicePath>,
    /// The container lacks the service's variables, and must not start without them
    #[arg(long, requires = "service", hide = true)]
    bare: bool,
}

impl Hook {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let said = self.service.map(Member::of);
        match oci::hook(self.stage, said, self.bare, &context.state) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) => {
                oci::note(&error);
                Ok(ExitCode::FAILURE)
            }
        }
    }
}
