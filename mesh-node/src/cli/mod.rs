//! The command line: one file per command. Data goes to standard output, everything else to standard error.

mod attach;
mod bugreport;
mod cni;
mod denied;
mod detach;
mod drain;
mod enrol;
mod env;
mod error;
mod hook;
mod hosts;
mod join;
mod leave;
mod manual;
mod metrics;
mod netcheck;
mod output;
mod ping;
mod run;
mod setup;
mod status;
mod up;
pub(crate) mod wait;
mod why;

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::OnceLock,
};

use clap::{Args, Parser, Subcommand};
use mesh_proto::message::PROTOCOL;

use self::{
    error::CliError,
    output::{Failure, Output},
};
use crate::{hint::Hint as _, local::Client, oci, state::StateDir};

/// The agent of mesh: private addresses, names and encrypted connections for the services of this machine
#[derive(Debug, Parser)]
#[command(name = "mesh-node", version = version(), arg_required_else_help = true, max_term_width = 100)]
#[command(
    after_help = "Called as mesh-runc, or as `mesh-node runc-wrapper`, it runs runc for a container runtime; all arguments are then runc's."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

#[derive(Debug, Args)]
struct Global {
    /// The agent's state directory; the default is /var/lib/mesh-node for root and $XDG_STATE_HOME/mesh-node for other users
    #[arg(long, global = true, value_name = "DIR", env = "MESH_NODE_STATE")]
    state: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Join this machine to a mesh and have systemd run its agent, now and whenever the machine starts
    Up(up::Up),
    /// Join this machine to a mesh and run its agent in the foreground
    Join(join::Join),
    /// Attach an instance of a service in a network namespace
    Attach(attach::Attach),
    /// Detach an instance from its namespace
    Detach(detach::Detach),
    /// Stop new connections to an instance; open ones stay
    Drain(drain::Drain),
    /// Allow new connections to a drained instance again
    Undrain(drain::Drain),
    /// Leave the mesh: detach all instances, notify the coordinator, delete the identity, and take out what `up` has written
    Leave(leave::Leave),
    /// Run a command as an instance of a service, in a new namespace with nothing but the mesh
    Run(run::Run),
    /// Print the environment variables of a service's instances
    Env(env::Env),
    /// Print the hosts file lines of a service's instances
    Hosts(hosts::Hosts),
    /// Show this runner, its peers, its instances and dropped packets
    Status(status::Status),
    /// Print this agent's metrics in Prometheus' text format
    Metrics(metrics::Metrics),
    /// Show how another runner is reached, and how long that takes
    Ping(ping::Ping),
    /// Show what is between this runner and the others: UDP, NATs and relays
    Netcheck(netcheck::Netcheck),
    /// Show the most recently refused connections
    Denied(denied::Denied),
    /// Set up a container runtime or systemd to start containers or units as instances of the service that they name (Docker:
    /// --label mesh.service=D/S; podman: --annotation mesh.service=D/S)
    Setup(setup::Setup),
    /// A CNI plugin, the last one of a chain; called by container runtimes
    #[command(hide = true)]
    Cni(cni::Cni),
    /// The hooks of a container; called by container runtimes
    #[command(hide = true)]
    Hook(hook::Hook),
    /// Explain whether one service may open connections to another
    Why(why::Why),
    /// Wait until an instance of a service answers, for the order in which programs start
    Wait(wait::Wait),
    /// Write a file with what a bug report needs: state, counters, log and configuration, and no secret
    Bugreport(bugreport::Bugreport),
    /// Print a completion script for a shell
    Completions(manual::Completions),
    /// Write the manual pages
    #[command(hide = true)]
    Man(manual::Man),
}

/// The version of the program and of its protocol.
fn version() -> &'static str {
    static VERSION: OnceLock<String> = OnceLock::new();
    VERSION.get_or_init(|| format!("{} (protocol {PROTOCOL})", env!("CARGO_PKG_VERSION")))
}

/// What every command works with.
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
    // All options are runc's then, `--version` included.
    if let Some(called) = oci::is_called(std::env::args_os()) {
        return oci::wrapper(called);
    }
    if crate::cni::is_called(std::env::args_os()) {
        return crate::cni::main();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(said) => return tell(&said),
    };
    mesh_process::secrets::hide_arguments();
    let code = run(cli);
    mesh_process::log::flush();
    code
}

/// Prints a usage error, or the help or version that was asked for.
fn tell(said: &clap::Error) -> ExitCode {
    if said.use_stderr() {
        said.exit();
    }
    match said.print().and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            output::complain(&CliError::Output(error).refusal());
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

fn run(cli: Cli) -> ExitCode {
    // A failure of `run` itself must differ from a failure of its command.
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
        Command::Up(up) => up.run(&context),
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
        Command::Metrics(metrics) => metrics.run(&context),
        Command::Ping(ping) => ping.run(&context),
        Command::Netcheck(netcheck) => netcheck.run(&context),
        Command::Denied(denied) => denied.run(&context),
        Command::Cni(cni) => Ok(cni.run()),
        Command::Setup(setup) => setup.run(&context),
        Command::Hook(hook) => hook.run(&context),
        Command::Why(why) => why.run(&context),
        Command::Wait(wait) => wait.run(&context),
        Command::Bugreport(bugreport) => bugreport.run(&context),
        Command::Completions(completions) => completions.run(&context),
        Command::Man(man) => man.run(),
    }
}

/// An async runtime for a command that waits for several events.
fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)
}

#[cfg(test)]
mod tests;
