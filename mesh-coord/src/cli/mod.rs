//! The command line, and how commands end. Data goes to standard output, everything else to standard error. Exit
//! codes: 0 done, 1 refused or failed, 2 wrong usage, 3 unknown.

use std::{env, ffi::OsString, process::ExitCode, sync::OnceLock};

use anyhow::Result;
use clap::{Args, CommandFactory as _, Parser, Subcommand, error::ErrorKind};
use mesh_proto::message::PROTOCOL;

mod apply;
mod audit;
mod backup;
mod check;
mod client;
mod console;
mod delete;
mod effect;
mod init;
mod keys;
mod list;
mod manual;
mod members;
mod migrate;
mod node;
mod numbers;
mod openapi;
mod output;
mod relay;
mod relays;
mod serve;
mod status;
mod store;
mod switch;
mod time;
mod token;
mod traffic;
mod trust;
mod webhook;
mod why;

use client::Reach;

/// The coordinator of a mesh: knows the runners, deployments and trust, and sends each runner what concerns it.
#[derive(Debug, Parser)]
#[command(name = "mesh-coord", version = version(), propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Have systemd run the coordinator on this machine, now and whenever it starts, and print a token for the machines
    Init(init::Init),
    /// Run the coordinator, in the foreground
    Serve(Box<serve::Serve>),
    /// Show on one screen whether the mesh is whole, and what needs you
    Status(status::Status),
    /// Create, list and revoke tokens for runners that join and for remote administrators
    #[command(subcommand)]
    Token(token::Token),
    /// Apply deployment files, all or none, and print the plan
    Apply(apply::Apply),
    /// Check deployment files and what they expect of who may call whom, without a coordinator or with one
    Check(check::Check),
    /// Delete a deployment
    Delete(delete::Delete),
    /// Show and change which deployments may call a deployment
    Trust(trust::Trust),
    /// List the runners
    Nodes(Listing),
    /// List the relays
    Relays(Listing),
    /// List the coordinators that serve this mesh, and how far each is
    Members(Listing),
    /// List the deployments
    Deployments(Listing),
    /// List the services with their instances
    Services(list::Services),
    /// List the instances
    Instances(Listing),
    /// List changes: what, when and by whom
    Audit(audit::Audit),
    /// Explain whether one service may connect to another, as far as the coordinator knows; runners know the paths
    Why(why::Why),
    /// Show the mesh in a browser on this machine: whether it is whole, who talks to whom, who is refused, what changed
    Console(console::Console),
    /// Show who talks to whom now, as runners report it, live in a terminal
    Top(traffic::Top),
    /// List the connections that runners have refused
    Refused(traffic::Refused),
    /// Stop new connections to an instance; open ones stay
    Drain(node::OfInstance),
    /// Allow new connections to a drained instance again
    Undrain(node::OfInstance),
    /// Manage one runner
    #[command(subcommand)]
    Node(node::Node),
    /// Turn an offload off or on, on running agents and until it is turned back, in case a kernel corrupts packets
    Switch(switch::Switch),
    /// Run a relay in the foreground, by which runners reach each other where no direct path is; or add and remove relays
    Relay(relay::Relay),
    /// Back up the coordinator of this machine while it runs: its database and its keys, in one file
    Backup(backup::Backup),
    /// Put a backup into an empty data directory
    Restore(backup::Restore),
    /// Carry a coordinator's keys to others that share its records
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Move the records from a data directory into an etcd, or back, while no coordinator runs
    Migrate(migrate::Migrate),
    /// Print a completion script for a shell
    Completions(manual::Completions),
    /// Print the description of the API: OpenAPI 3.1
    Openapi,
    /// Write the manual pages
    #[command(hide = true)]
    Man(manual::Man),
}

/// A command that lists something.
#[derive(Debug, Args)]
struct Listing {
    #[command(flatten)]
    reach: Reach,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// The exit code of a command that was sent and not answered.
const UNKNOWN: u8 = 3;

/// Runs the process's command.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse_from(hoisted(env::args_os().collect()));
    mesh_process::secrets::hide_arguments();
    let code = match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&error);
            if error.is::<output::Unanswered>() { ExitCode::from(UNKNOWN) } else { ExitCode::FAILURE }
        }
    };
    mesh_process::log::flush();
    code
}

/// The version of the program and of its protocol.
fn version() -> &'static str {
    static VERSION: OnceLock<String> = OnceLock::new();
    VERSION.get_or_init(|| format!("{} (protocol {PROTOCOL})", env!("CARGO_PKG_VERSION")))
}

/// Moves `--data` and `--url` behind the command, so that `mesh-coord --data DIR nodes` is `mesh-coord nodes --data
/// DIR`.
fn hoisted(arguments: Vec<OsString>) -> Vec<OsString> {
    let mut rest = arguments.into_iter().peekable();
    let mut line: Vec<OsString> = rest.next().into_iter().collect();
    let mut early = Vec::new();
    while let Some(argument) = rest.next_if(is_place) {
        let whole = argument.as_encoded_bytes().contains(&b'=');
        early.push(argument);
        if !whole {
            early.extend(rest.next());
        }
    }
    if rest.peek().is_none() {
        line.append(&mut early);
    }
    let literal = |argument: &OsString| argument == "--";
    line.extend(std::iter::from_fn(|| rest.next_if(|argument| !literal(argument))));
    line.append(&mut early);
    line.extend(rest);
    line
}

fn is_place(argument: &OsString) -> bool {
    let argument = argument.as_encoded_bytes();
    [&b"--data"[..], b"--url"]
        .iter()
        .any(|flag| argument.strip_prefix(*flag).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"=")))
}

/// Ends the process like any wrong usage, for mistakes that the definitions can't express.
fn wrong_usage(message: &str) -> ! {
    Cli::command().error(ErrorKind::ArgumentConflict, message).exit()
}

fn run(command: Command) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(async {
        match command {
            Command::Init(args) => init::run(args).await,
            Command::Serve(args) => serve::run(*args).await,
            Command::Token(args) => token::run(args).await,
            Command::Apply(args) => apply::run(args).await,
            Command::Check(args) => check::run(args).await,
            Command::Delete(args) => delete::run(args).await,
            Command::Trust(args) => trust::run(args).await,
            Command::Nodes(args) => list::nodes(args).await,
            Command::Relays(args) => relays::list(args).await,
            Command::Members(args) => members::run(args).await,
            Command::Deployments(args) => list::deployments(args).await,
            Command::Services(args) => list::services(args).await,
            Command::Instances(args) => list::instances(args).await,
            Command::Audit(args) => audit::run(args).await,
            Command::Why(args) => why::run(args).await,
            Command::Console(args) => console::run(args).await,
            Command::Top(args) => traffic::top(args).await,
            Command::Refused(args) => traffic::refused(args).await,
            Command::Drain(args) => node::drain(args).await,
            Command::Undrain(args) => node::undrain(args).await,
            Command::Node(args) => node::run(args).await,
            Command::Switch(args) => switch::run(args).await,
            Command::Relay(args) => relay::run(args).await,
            Command::Status(args) => status::run(args).await,
            Command::Backup(args) => backup::backup(&args),
            Command::Restore(args) => backup::restore(&args),
            Command::Keys(args) => keys::run(&args),
            Command::Migrate(args) => migrate::run(args).await,
            Command::Completions(args) => manual::completions(&args),
            Command::Openapi => openapi::run(),
            Command::Man(args) => manual::man(&args),
        }
    });
    // A blocking task that hangs (a disk that doesn't answer) must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, ErrorKind> {
        Cli::try_parse_from(line.split_whitespace()).map_err(|error| error.kind())
    }

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_reference_page_is_what_the_definitions_say() {
        mesh_docs_check::reference("docs/reference/mesh-coord.md", Cli::command());
    }

    #[test]
    fn every_command_of_the_contract_is_understood() {
        for line in [
            "mesh-coord init",
            "mesh-coord init --range 10.0.0.0/16 --name a b --listen [::]:8443 --advertise https://a:1,https://b --uses 3 --ttl 1d --json",
            "mesh-coord init --dry-run",
            "mesh-coord init --undo --dry-run",
            "mesh-coord serve",
            "mesh-coord serve --data /d --listen [::]:7443 --range 10.0.0.0/16 --mtu 1344 --name a --name b",
            "mesh-coord serve --metrics 127.0.0.1:9743",
            "mesh-coord serve --console [::]:8443",
            "mesh-coord serve --console [::]:8443 --tls-cert /c.pem --tls-key /k.pem",
            "mesh-coord token create --any",
            "mesh-coord token create --team a --team b --ttl 90m --uses 3",
            "mesh-coord token create --deployment shop --json",
            "mesh-coord token create --admin",
            "mesh-coord token create --admin --team acme",
            "mesh-coord token list --json",
            "mesh-coord token revoke t-1",
            "mesh-coord apply a.toml b.toml --dry-run --force",
            "mesh-coord apply warp.config.js --deployment shop",
            "mesh-coord delete shop --force",
            "mesh-coord delete shop --dry-run --json",
            "mesh-coord check a.toml b.toml --json",
            "mesh-coord status --check --json",
            "mesh-coord backup /b.tar --data /d",
            "mesh-coord restore /b.tar --data /d --json",
            "mesh-coord check - --url https://h:7443",
            "mesh-coord trust api --app shop --remove --dry-run",
            "mesh-coord node remove r1 --dry-run --json",
            "mesh-coord trust api,billing --app shop --service *-tcp --port 80 --port 443",
            "mesh-coord trust api --app shop --remove",
            "mesh-coord trust --app shop --clear",
            "mesh-coord trust --app shop --json",
            "mesh-coord nodes --json --data /d",
            "mesh-coord deployments --url https://h:7443",
            "mesh-coord deployments --url https://h:7443,https://i",
            "mesh-coord services",
            "mesh-coord services --watch --json",
            "mesh-coord instances",
            "mesh-coord audit",
            "mesh-coord console --port 4000 --url https://h:7443",
            "mesh-coord top --once --from shop --to billing/api --json",
            "mesh-coord refused --to shop --json",
            "mesh-coord serve --telemetry counts",
            "mesh-coord why shop/app shop/db 5432 --json",
            "mesh-coord audit --limit 20 --before 7 --since 2h --by alice --action trust --object shop --refused --json",
            "mesh-coord node remove r1",
            "mesh-coord node remove r1 --force",
            "mesh-coord node list",
            "mesh-coord node drain r1 --json",
            "mesh-coord node undrain r1",
            "mesh-coord drain i-7",
            "mesh-coord undrain i-7 --url https://h:7443",
            "mesh-coord apply -",
            "mesh-coord apply mesh.toml --prune",
            "mesh-coord trust api --deployment shop",
            "mesh-coord token create --any --name ci",
            "mesh-coord token create --any --ephemeral",
            "mesh-coord token revoke t-1 --with-nodes",
            "mesh-coord trust --app shop --clear --wait",
            "mesh-coord trust api --app shop --wait --timeout 30s --json",
            "mesh-coord trust --app shop --wait",
            "mesh-coord relay --secret @/s --listen [::]:3478 --tls [::]:443 --public 203.0.113.9 --public 2001:db8::9",
            "mesh-coord relay https://h:7443 @token --public 203.0.113.9 --data /d --threads 2",
            "mesh-coord switch udp-gso off",
            "mesh-coord relays --json",
            "mesh-coord token create --relay fra-1 --ttl 1d",
            "mesh-coord relay add fra-1 --turn 203.0.113.9:3478 --secret @/s",
            "mesh-coord relay add fra-1 --turn h:3478 --tcp h:3478 --turns h:443 --secret @/s --fingerprint AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE --json",
            "mesh-coord relay add fra-1 --turn h:1 --turns h:443 --secret @/s --fingerprint -QEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE",
            "mesh-coord relay remove fra-1 --url https://h:7443",
            "mesh-coord relay coturn fra-1",
            "mesh-coord relay coturn fra-1 --address 203.0.113.9 --address 2001:db8::9",
            "mesh-coord switch tun-gso on --node r1 --json",
        ] {
            assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err());
        }
    }

    /// The message names what was expected, with an example.
    #[test]
    fn wrong_numbers_and_addresses_are_told_with_an_example() {
        for (line, words) in [
            ("mesh-coord trust api --app shop --port http", &["`http`", "1 to 65535", "443"][..]),
            ("mesh-coord trust api --app shop --port 0", &["`0`", "1 to 65535"]),
            ("mesh-coord serve --listen 7443", &["`7443`", "[::]:7443"]),
            ("mesh-coord serve --listen :7443", &["`:7443`", "[::]:7443"]),
            ("mesh-coord serve --listen host:7443", &["`host:7443`", "127.0.0.1:7443"]),
            ("mesh-coord serve --metrics :9743", &["`:9743`", "127.0.0.1:9743"]),
            ("mesh-coord serve --range x", &["`x`", "100.112.0.0/12"]),
            ("mesh-coord serve --mtu big", &["`big`", "576 to 8920", "1344"]),
            ("mesh-coord token create --any --ttl soon", &["`soon`", "1h"]),
            ("mesh-coord token create --any --uses many", &["`many`", "1 to 100000"]),
            ("mesh-coord drain 7", &["i-7"]),
            ("mesh-coord relay add a --turn h --secret @/s", &["`h`", "203.0.113.9:3478"]),
            ("mesh-coord relay add a --turn h:1 --secret s", &["@/etc/mesh/fra-1"]),
            ("mesh-coord token revoke 1", &["t-7"]),
        ] {
            let error = Cli::try_parse_from(line.split_whitespace()).unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{line}: {error}");
        }
    }

    #[test]
    fn which_coordinator_is_meant_may_stand_before_the_command() {
        let line = |text: &str| {
            let arguments = hoisted(text.split_whitespace().map(OsString::from).collect());
            arguments.join(std::ffi::OsStr::new(" ")).into_string().unwrap()
        };
        for (given, meant) in [
            ("m --data /d nodes --json", "m nodes --json --data /d"),
            ("m --url=https://h token create --any", "m token create --any --url=https://h"),
            ("m --data /d trust -- api", "m trust --data /d -- api"),
            ("m nodes --data /d", "m nodes --data /d"),
            ("m --data", "m --data"),
            ("m --database nodes", "m --database nodes"),
            ("m", "m"),
        ] {
            assert_eq!(line(given), meant, "{given}");
        }
    }

    #[test]
    fn wrong_usage_is_told_as_such() {
        for line in [
            "mesh-coord",
            "mesh-coord token create",
            "mesh-coord token create --any --team a",
            "mesh-coord token create --admin --any",
            "mesh-coord token create --any --uses 0",
            "mesh-coord token create --any --ttl 0s",
            "mesh-coord token create --any --ttl soon",
            "mesh-coord token revoke 1",
            "mesh-coord apply",
            "mesh-coord trust api",
            "mesh-coord trust api --app shop --clear",
            "mesh-coord trust --app shop --remove",
            "mesh-coord trust --app shop --port 80",
            "mesh-coord trust api --app shop --port 0",
            "mesh-coord trust Api --app shop",
            "mesh-coord serve --range 10.0.0.1/16",
            "mesh-coord serve --mtu 10",
            "mesh-coord serve --tls-cert /c.pem --tls-key /k.pem",
            "mesh-coord serve --console [::]:8443 --tls-cert /c.pem",
            "mesh-coord node remove",
            "mesh-coord nodes --url http://h",
            "mesh-coord token create --admin --ephemeral",
            "mesh-coord trust api --app shop --timeout 3s",
            "mesh-coord trust --app shop --dry-run",
            "mesh-coord trust --app shop --clear --dry-run --wait",
            "mesh-coord check",
            "mesh-coord trust api --app shop --wait --timeout soon",
            "mesh-coord switch udp-gso",
            "mesh-coord token create --relay fra-1 --any",
            "mesh-coord token create --relay fra-1 --team a",
            "mesh-coord token create --relay fra-1 --uses 2",
            "mesh-coord relay add fra-1 --secret @/s",
            "mesh-coord relay add fra-1 --turn h:3478",
            "mesh-coord relay add fra-1 --turn h:3478 --secret north",
            "mesh-coord relay add fra-1 --turn h --secret @/s",
            "mesh-coord relay add fra-1 --turn h:1 --turns h:443 --secret @/s",
            "mesh-coord switch gso off",
            "mesh-coord switch udp-gro maybe",
            "mesh-coord drain r1",
            "mesh-coord node drain",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
