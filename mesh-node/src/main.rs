//! The agent of mesh: joins a machine to a mesh, gives services' instances their addresses, names and `mesh0`, and
//! carries their packets.

mod agent;
mod attach;
mod callback;
mod cli;
mod cni;
mod config;
mod containers;
mod control;
mod dataplane;
mod docker;
mod exec;
mod hint;
mod hosts;
mod instances;
mod journal;
mod local;
mod notify;
mod oci;
mod setup;
mod state;
mod sys;
mod turns;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
