//! The command line: one file a command. Data on standard output, everything else on standard error.

mod attach;
mod cni;
mod denied;
mod detach;
mod drain;
mod env;
mod hook;
mod hosts;
mod join;
mod leave;
mod manual;
mod output;
mod run;
mod setup;
mod status;
pub(crate) mod why;

use std::{path::PathBuf, process::ExitCode, sync::OnceLock};

use clap::{Args, Parser, Subcommand};
use mesh_proto::message::{PROTOCOL, Refusal};

use self::output::{Failure, Output};
use crate::{local::Client, oci, state::StateDir};

/// The agent of mesh: gives the services of this machine private addresses, names and encrypted connections
#[derive(Debug, Parser)]
#[command(name = "mesh-node", version = version(), arg_required_else_help = true, max_term_width = 100)]
#[command(
    after_help = "Called as mesh-runc, or by `mesh-node runc-wrapper`, it stands before runc; every argument is runc's then."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

#[derive(Debug, Args)]
struct Global {
    /// The agent's state directory; by default /var/lib/mesh-node, as an ordinary user $XDG_STATE_HOME/mesh-node
    #[arg(long, global = true, value_name = "DIR", env = "MESH_NODE_STATE")]
    state: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Join this machine to a mesh, and run its agent in the foreground
    Join(join::Join),
    /// Put an instance of a service into a network namespace
    Attach(attach::Attach),
    /// Take an instance out of its namespace
    Detach(detach::Detach),
    /// Give an instance no new connections; those that stand stay
    Drain(drain::Drain),
    /// Give an instance that was drained new connections again
    Undrain(drain::Drain),
    /// Leave the mesh: detach all instances, tell the coordinator, delete the identity
    Leave(leave::Leave),
    /// Run a command as an instance of a service, in a new namespace with nothing but the mesh
    Run(run::Run),
    /// Print the environment variables that a service's instances are given
    Env(env::Env),
    /// Print the hosts file lines that a service's instances are given
    Hosts(hosts::Hosts),
    /// Show the runner, its peers, its instances, and what was dropped
    Status(status::Status),
    /// Show the last refused connections
    Denied(denied::Denied),
    /// Have a container runtime, or systemd, start what says which service it is (Docker: --label mesh.service=D/S; podman: --annotation mesh.service=D/S) as its instance
    Setup(setup::Setup),
    /// For container runtimes to call: a CNI plugin, the last one of a chain
    #[command(hide = true)]
    Cni(cni::Cni),
    /// For container runtimes to call: their hooks
    #[command(hide = true)]
    Hook(hook::Hook),
    /// Explain whether a service may open connections to another one, and how
    Why(why::Why),
    /// Print what a shell needs to complete this program's commands
    Completions(manual::Completions),
    /// Write the manual pages
    #[command(hide = true)]
    Man(manual::Man),
}

/// The version, and which one of the protocol it speaks.
fn version() -> &'static str {
    static VERSION: OnceLock<String> = OnceLock::new();
    VERSION.get_or_init(|| format!("{} (protocol {PROTOCOL})", env!("CARGO_PKG_VERSION")))
}

/// What every command is given.
#[derive(Debug)]
struct Context {
    state: StateDir,
    output: Output,
}

impl Context {
    fn agent(&self) -> Client<'_> {
        Client::new(&self.state)
    }
}

/// Runs the command line.
pub(crate) fn main() -> ExitCode {
    // Every option is runc's then, `--version` as well.
    if let Some(called) = oci::is_called(std::env::args_os()) {
        return oci::wrapper(called);
    }
    if crate::cni::is_called(std::env::args_os()) {
        return crate::cni::main();
    }
    let cli = Cli::parse();
    mesh_process::secrets::hide_arguments();
    let code = run(cli);
    mesh_process::log::flush();
    code
}

fn run(cli: Cli) -> ExitCode {
    // What `run` does itself must not be mistaken for what its command does.
    let ours = if matches!(cli.command, Command::Run(_)) { run::OURS } else { 1 };
    match dispatch(cli) {
        Ok(code) => code,
        Err(Failure::BrokenPipe) => ExitCode::SUCCESS,
        Err(Failure::Refused(refusal)) => {
            output::complain(&refusal);
            ExitCode::from(ours)
        }
        Err(Failure::Code(refusal, code)) => {
            output::complain(&refusal);
            ExitCode::from(code)
        }
    }
}

fn dispatch(cli: Cli) -> Result<ExitCode, Failure> {
    let state = StateDir::locate(cli.global.state)?;
    let context = Context { state, output: Output::new(cli.global.json) };
    match cli.command {
        Command::Join(join) => join.run(&context),
        Command::Attach(attach) => attach.run(&context),
        Command::Detach(detach) => detach.run(&context),
        Command::Drain(drain) => drain.run(&context),
        Command::Undrain(drain) => drain.undo(&context),
        Command::Leave(leave) => leave.run(&context),
        Command::Run(run) => run.run(&context),
        Command::Env(env) => env.run(&context),
        Command::Hosts(hosts) => hosts.run(&context),
        Command::Status(status) => status.run(&context),
        Command::Denied(denied) => denied.run(&context),
        Command::Cni(cni) => Ok(cni.run()),
        Command::Setup(setup) => setup.run(&context),
        Command::Hook(hook) => hook.run(&context),
        Command::Why(why) => why.run(&context),
        Command::Completions(completions) => completions.run(&context),
        Command::Man(man) => man.run(),
    }
}

/// A runtime for a command that waits for more than one thing.
fn runtime() -> Result<tokio::runtime::Runtime, Refusal> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Refusal::bare(format!("the program can't start: {e}")))
}

#[cfg(test)]
mod tests;
