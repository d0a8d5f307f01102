//! `mesh-node cni`: called by container runtimes.

use std::process::ExitCode;

use clap::Args;

use crate::cni;

#[derive(Debug, Args)]
pub(super) struct Cni;

impl Cni {
    pub(super) fn run(self) -> ExitCode {
        cni::main()
    }
}
