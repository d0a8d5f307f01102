//! `init`: has systemd run the coordinator of this machine, and makes the token for the machines.

mod address;
mod obstacle;
mod options;
mod plan;
mod ready;
mod tell;
mod unit;

use std::{
    env, fs,
    io::IsTerminal as _,
    net::{SocketAddr, TcpListener},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::Args;
use mesh_link::{Method, Url};
use mesh_model::{NewPurpose, NewToken};
use mesh_process::{
    edit::{Edit, EditError},
    interfaces,
    systemd::{self, State},
    written::{self, Change},
};
use mesh_proto::{Range, message::Refusal, token::MAX_URLS};
use serde::Serialize;

use self::{
    obstacle::Obstacle,
    options::Options,
    plan::{Machine, Plan, Wish},
    tell::{next, told},
    unit::{DATA, UNIT, asked},
};
use super::{
    client::Reach,
    numbers,
    output::{Refused, note, print, print_json},
    time, wrong_usage,
};
use crate::{api, data};

/// The first port without privileges, where the kernel doesn't say.
const FREE_PORTS: u16 = 1024;

#[derive(Debug, Args)]
pub(super) struct Init {
    /// The range of overlay addresses, which can't be changed later [default: 100.112.0.0/12]
    #[arg(long, value_name = "CIDR", value_parser = numbers::range)]
    range: Option<Range>,
    /// Additional names or addresses for its certificate; at the first one runners reach it, unless --advertise says otherwise
    #[arg(long = "name", value_name = "HOST", num_args = 1..)]
    names: Vec<String>,
    /// The address to listen on; without it `[::]:7443`
    #[arg(long, value_name = "ADDR:PORT", value_parser = numbers::listen)]
    listen: Option<SocketAddr>,
    /// The URL at which runners reach it, https://HOST:PORT; several with commas between [default: this machine's address, if there
    /// is only one that can be meant]
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    advertise: Vec<Url>,
    /// How many machines the token is for
    #[arg(long, default_value = "10", value_parser = numbers::uses)]
    uses: u32,
    /// How long the token is valid: 90s, 30m, 1h, 7d
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = time::parse)]
    ttl: Duration,
    /// Show what would be written, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Stop the coordinator and take out what `init` has written; the mesh stays in the data directory
    #[arg(long, conflicts_with_all = ["range", "names", "listen", "advertise"])]
    undo: bool,
    /// Print JSON: what was written, and the token
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Init) -> Result<()> {
    if args.advertise.len() > MAX_URLS {
        wrong_usage(&format!("--advertise: at most {MAX_URLS} URLs"));
    }
    if args.undo {
        return undo(&args);
    }
    let wish = Wish { range: args.range, names: args.names, listen: args.listen, advertise: args.advertise };
    let machine = look(&wish, args.dry_run)?;
    let (runs, program) = (machine.runs, machine.program.clone());
    let plan = wish.on(machine).map_err(refused)?;
    let edits = edits(&plan, &program)?;
    if args.dry_run {
        show_diffs(args.json, &edits)?;
        note(if runs { "the coordinator runs already" } else { "then: systemctl enable --now mesh-coord" });
        return show(args.json, &edits, Shown { running: runs, ..Shown::default() });
    }
    write(&edits, "written")?;
    asked(UNIT.enable_and_start())?;
    let reach = Reach::here(Path::new(DATA));
    ready::wait(&reach).await?;
    let purpose = NewPurpose::JoinAny { uses: args.uses };
    let wish = NewToken { purpose, ttl: args.ttl.as_secs(), ephemeral: false, name: Some("init".to_owned()) };
    let made: api::NewToken = reach.request(Method::POST, "tokens", Some(&wish)).await?;
    note(&told(&made, runs, &plan.origin));
    if args.json {
        return show(true, &edits, Shown { running: true, done: true, made: Some(made), ..Shown::default() });
    }
    print(&made.token)?;
    note(&next(&made, args.uses, args.ttl, std::io::stdout().is_terminal()));
    Ok(())
}

fn refused(obstacle: Obstacle) -> anyhow::Error {
    let hint = obstacle.hint();
    Refused(Refusal::new(obstacle.to_string(), hint)).into()
}

/// What is on this machine.
fn look(wish: &Wish, dry_run: bool) -> Result<Machine> {
    let has_systemd = systemd::runs_the_machine();
    let may_write = dry_run || nix::unistd::geteuid().is_root();
    let runs = has_systemd && may_write && asked(UNIT.state())? == State::Active;
    let free_ports = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    Ok(Machine {
        has_systemd,
        may_write,
        has_unit: UNIT.packaged().is_some() || fs::read_to_string(UNIT.own()).is_ok_and(|text| !unit::is_ours(&text)),
        runs,
        options: Options::of(&fs::read_to_string(options::FILE).unwrap_or_default()),
        has_mesh: Path::new(DATA).join(data::DATABASE).exists(),
        listening: if runs { Ok(()) } else { TcpListener::bind(wish.listens()).map(drop) },
        free_ports: free_ports.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(FREE_PORTS),
        addresses: interfaces::all(),
        program: env::current_exe().context("the path of this program is not known (is /proc mounted?)")?,
    })
}

/// The changes for a plan, without those that are made already.
fn edits(plan: &Plan, program: &Path) -> Result<Vec<Edit>> {
    let mut edits = Vec::new();
    if plan.unit {
        edits.push(unit::written(program)?);
    }
    if let Some(options) = &plan.options {
        let entered =
            |before: Option<&str>| Ok::<_, EditError>(Some(options::entered(before.unwrap_or_default(), options)));
        edits.push(Edit::of(options::FILE, entered).map_err(edit_error)?);
    }
    edits.retain(Edit::changes);
    Ok(edits)
}

fn edit_error(error: EditError) -> anyhow::Error {
    Refused(Refusal { error: error.to_string(), hint: error.hint().map(str::to_owned) }).into()
}

/// Makes the changes, tells of them, and has systemd read them.
fn write(edits: &[Edit], done: &str) -> Result<()> {
    written::write(edits, |path| note(&format!("{done}: {}", path.display())))
        .map_err(|error| Refused(Refusal { error: error.to_string(), hint: error.hint().map(str::to_owned) }).into())
}

/// `init --undo`.
fn undo(args: &Init) -> Result<()> {
    if !args.dry_run && !nix::unistd::geteuid().is_root() {
        return Err(refused(Obstacle::NotRootToUndo));
    }
    let left = |before: Option<&str>| {
        let left = before.map(|text| options::left(text).unwrap_or_else(|| text.to_owned()));
        Ok::<_, EditError>(left.filter(|text| !text.is_empty()))
    };
    let mut edits = vec![unit::taken_out()?, Edit::of(options::FILE, left).map_err(edit_error)?];
    edits.retain(Edit::changes);
    let runs = systemd::runs_the_machine() && asked(UNIT.state())? == State::Active;
    if edits.is_empty() {
        note("nothing to do: `mesh-coord init` has written nothing here");
        if runs {
            note("to stop the coordinator: systemctl disable --now mesh-coord");
        }
    } else if args.dry_run {
        show_diffs(args.json, &edits)?;
        note("first: systemctl disable --now mesh-coord");
    } else {
        if systemd::runs_the_machine() {
            asked(UNIT.stop_and_disable())?;
        }
        write(&edits, "taken out")?;
        note(&format!(
            "the coordinator is stopped; the mesh stays in {DATA}, where `mesh-coord init` takes it up again; to delete it, with its \
             keys, tokens and runners: rm -r {DATA} /var/lib/private/mesh-coord"
        ));
    }
    let done = !args.dry_run;
    show(args.json, &edits, Shown { running: runs && (edits.is_empty() || !done), done, ..Shown::default() })
}

/// What `--json` prints.
#[derive(Debug, Default, Serialize)]
struct Shown {
    version: u32,
    /// Whether the coordinator runs.
    running: bool,
    changes: Vec<Change>,
    /// Whether the changes are made, and not only shown.
    done: bool,
    #[serde(flatten)]
    made: Option<api::NewToken>,
}

/// For people.
fn show_diffs(json: bool, edits: &[Edit]) -> Result<()> {
    if json { Ok(()) } else { edits.iter().try_for_each(|edit| print(&edit.diff())) }
}

/// For programs.
fn show(json: bool, edits: &[Edit], shown: Shown) -> Result<()> {
    let changes = Change::all(edits);
    if json { print_json(&Shown { version: api::VERSION, changes, ..shown }) } else { Ok(()) }
}
