//! Completions for shells and manual pages, made from the definitions of the command line.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, output::print};

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct Man {
    /// Where the pages are written: one for the program, and one for each of its commands
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub(super) fn completions(args: &Completions) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "mesh-coord", &mut script);
    print(&String::from_utf8_lossy(&script))
}

pub(super) fn man(args: &Man) -> Result<()> {
    let directory = args.directory.display();
    clap_mangen::generate_to(Cli::command(), &args.directory)
        .with_context(|| format!("the manual pages can't be written to {directory} (name a directory that is there)"))
}
