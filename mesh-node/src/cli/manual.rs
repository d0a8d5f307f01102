//! Shell completions and manual pages, generated from the command line's definitions.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, Context, error::CliError, output::Failure};

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct Man {
    /// The directory for the pages: one for the program, and one for each command
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Completions {
    pub(super) fn run(self, context: &Context) -> Result<std::process::ExitCode, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "mesh-node", &mut script);
        context.output.print_data(&String::from_utf8_lossy(&script))?;
        Ok(std::process::ExitCode::SUCCESS)
    }
}

impl Man {
    pub(super) fn run(self) -> Result<std::process::ExitCode, Failure> {
        clap_mangen::generate_to(Cli::command(), &self.directory)
            .map_err(|error| CliError::Manual { directory: self.directory, error })?;
        Ok(std::process::ExitCode::SUCCESS)
    }
}
