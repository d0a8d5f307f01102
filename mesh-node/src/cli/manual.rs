//! Completions for shells and manual pages, made from the definitions of the command line.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use mesh_proto::message::Refusal;

use super::{Cli, Context, output::Failure};

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// For which shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct Man {
    /// Where the pages are written: one for the program, and one for each of its commands
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Completions {
    pub(super) fn run(self, context: &Context) -> Result<std::process::ExitCode, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "mesh-node", &mut script);
        context.output.print(&String::from_utf8_lossy(&script))?;
        Ok(std::process::ExitCode::SUCCESS)
    }
}

impl Man {
    pub(super) fn run(self) -> Result<std::process::ExitCode, Failure> {
        clap_mangen::generate_to(Cli::command(), &self.directory).map_err(|e| {
            Refusal::new(
                format!("the manual pages can't be written to {}: {e}", self.directory.display()),
                "name a directory that is there",
            )
        })?;
        Ok(std::process::ExitCode::SUCCESS)
    }
}
