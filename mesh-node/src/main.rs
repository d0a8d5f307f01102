//! The agent of mesh: joins a machine to a mesh, gives services' instances their addresses, names and `mesh0`, and
//! carries their packets.

mod agent;
mod attach;
mod cli;
mod control;
mod dataplane;
mod hosts;
mod instances;
mod local;
mod state;
mod sys;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
