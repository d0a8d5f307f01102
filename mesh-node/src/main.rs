//! The agent of mesh: joins a machine to a mesh, attaches services' instances (addresses, names, `mesh0`), and carries their packets.
//!
//! The modules stand on floors; an import goes down, never up: ways in (`cli`, `setup`, `cni`, `oci`, `docker`), the agent (`agent`,
//! `containers`, `instances`), its hands (`local`, `attach`, `hosts`, `dataplane`, `control`), and the ground (the rest).

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

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
