//! `mesh-node hook`: for container runtimes to call.

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
    /// When it is called
    #[arg(value_name = "STAGE", value_enum)]
    stage: Stage,
    /// The service, whatever the container's annotations say
    #[arg(long, value_name = "D/S")]
    service: Option<ServicePath>,
    /// Nothing has given the container the service's variables: it doesn't start without
    #[arg(long, requires = "service", hide = true)]
    bare: bool,
}

impl Hook {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let said = self.service.map(|service| Member { service, client: false });
        match oci::hook(self.stage, said, self.bare, &context.state) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(refusal) => {
                // On one line: it comes into the runtime's own error.
                oci::note(&refusal);
                Ok(ExitCode::FAILURE)
            }
        }
    }
}
