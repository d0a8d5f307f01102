//! `apply`.

use std::{
    fs::File,
    io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use clap::Args;
use mesh_model::{
    AdminCommand, Effect, Outcome,
    declare::{self, Expect},
    outcome::{DeploymentPlan, Plan, ServiceChange},
};
use mesh_proto::Label;

use serde::Serialize;

use super::{
    client::{Aim, Reach},
    effect,
    output::{note, print, print_versioned},
    trust::warn_of_unknown,
};
use crate::api::Previewed;

/// The largest deployment file that is read, in bytes. All files of a call go to the coordinator in one request.
const MAX_FILE: u64 = 1 << 20;

/// Why an answer can't be used.
const OTHER_ANSWER: &str = "the coordinator has answered another command: is its version another one?";

/// How messages name standard input.
const STDIN: &str = "stdin";

#[derive(Debug, Args)]
pub(super) struct Apply {
    /// mesh.toml or warp.config.js files; `-` reads a mesh.toml from standard input. All are applied, or none
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The deployment for the services of a warp.config.js
    #[arg(long, value_name = "NAME")]
    deployment: Option<Label>,
    /// Print the plan only, with what it would take away
    #[arg(long)]
    dry_run: bool,
    /// Also remove services that have live instances, which ends these instances
    #[arg(long)]
    force: bool,
    /// Remove services that the files no longer declare; without it, apply asks on a terminal and refuses elsewhere
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    reach: Reach,
    /// Print the plan as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Apply) -> Result<()> {
    let Read { declared, expect } = gather(&args.files, args.deployment.as_ref())?;
    let mut prune = args.prune || args.force;
    if !args.dry_run && !prune {
        let (plan, _) = order(&args, declared.clone(), expect.clone(), true, false).await?;
        prune = may_remove(&args, &plan)?;
    }
    // Services that others have added meanwhile are not removed: the coordinator checks.
    let (plan, effect) = order(&args, declared, expect, args.dry_run, prune).await?;
    for warning in &plan.warnings {
        note(&format!("warning: {warning}"));
    }
    warn_of_unknown(plan.deployments.iter().flat_map(|deployment| &deployment.directions), &args.reach).await;
    if args.json {
        return print_versioned(&Planned { plan: &plan, effect: effect.as_ref() });
    }
    print(&show(&plan, effect.as_ref()))
}

/// The plan, with its effect if it was only tried.
#[derive(Serialize)]
struct Planned<'a> {
    #[serde(flatten)]
    plan: &'a Plan,
    #[serde(skip_serializing_if = "Option::is_none")]
    effect: Option<&'a Effect>,
}

/// The contents of files.
pub(super) struct Read {
    pub(super) declared: Vec<declare::File>,
    pub(super) expect: Vec<Expect>,
}

/// Reads and parses files.
pub(super) fn gather(files: &[PathBuf], deployment: Option<&Label>) -> Result<Read> {
    let (mut declared, mut expect, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    ensure!(
        files.iter().filter(|file| is_stdin(file)).count() <= 1,
        "`-` is given more than once, and standard input can be read only once: put one of the files on the disk"
    );
    for path in files {
        let text = read(path)?;
        let path = if is_stdin(path) { Path::new(STDIN) } else { path };
        match mesh_files::parse(path, &text, deployment) {
            Ok(parsed) => {
                for warning in parsed.warnings {
                    note(&format!("warning: {warning}"));
                }
                let name = path.display().to_string();
                let declarations = parsed.declarations.into_iter();
                declared.extend(declarations.map(|declaration| declare::File { name: name.clone(), declaration }));
                expect.extend(parsed.expectations);
            }
            Err(error) => wrong.push(error.to_string()),
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\nerror: "));
    Ok(Read { declared, expect })
}

async fn order(
    args: &Apply,
    files: Vec<declare::File>,
    expect: Vec<Expect>,
    dry_run: bool,
    prune: bool,
) -> Result<(Plan, Option<Effect>)> {
    let expects = !expect.is_empty();
    let apply = mesh_model::Apply { files, expect, dry_run, force: args.force, prune };
    if let Some(Previewed { outcome, effect, .. }) =
        args.reach.post_if_known(Aim::unless_dry(dry_run), "apply", &apply).await?
    {
        return Ok((planned(outcome).context(OTHER_ANSWER)?, effect));
    }
    ensure!(
        !expects,
        "this coordinator is of an earlier version, which can't check what `[[expect]]` says: upgrade it, or leave that out"
    );
    let mesh_model::Apply { files, force, .. } = apply;
    let command = AdminCommand::Apply { files, dry_run, force, prune: Some(prune) };
    Ok((args.reach.order(&command, planned).await?, None))
}

fn planned(outcome: Outcome) -> Option<Plan> {
    match outcome {
        Outcome::Planned(plan) => Some(plan),
        _ => None,
    }
}

/// Has the coordinator try the files, with what they expect.
///
/// # Errors
/// If it would refuse them.
pub(super) async fn try_all(reach: &Reach, files: Vec<declare::File>, expect: Vec<Expect>) -> Result<()> {
    let apply = mesh_model::Apply { files, expect, dry_run: true, force: true, prune: true };
    let _: Previewed = reach.try_out("apply", &apply).await?;
    Ok(())
}

/// Whether services may be removed. A service that was left out by mistake is gone for good, with its address, so
/// this asks on a terminal, and refuses elsewhere.
fn may_remove(args: &Apply, plan: &Plan) -> Result<bool> {
    let removed = plan.removed();
    if removed.is_empty() {
        return Ok(false);
    }
    let asks = io::stdin().is_terminal() && io::stderr().is_terminal() && !args.files.iter().any(|f| is_stdin(f));
    let which = removed.join(", ");
    let what = if removed.len() == 1 { "this service" } else { "these services" };
    if !asks {
        if args.json {
            print_versioned(plan)?;
        } else {
            print(&show(plan, None))?;
        }
        bail!("{what} would be removed, and nothing has changed: {which}. Apply with --prune if that is meant");
    }
    note(&show(plan, None));
    // The answer follows on the prompt's line.
    let _ = write!(io::stderr(), "Remove {what} for good: {which}? [y/N] ");
    let mut answer = String::new();
    io::stdin().lock().take(80).read_line(&mut answer).context("the answer cannot be read")?;
    ensure!(matches!(answer.trim(), "y" | "Y" | "yes"), "nothing has changed");
    Ok(true)
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn read(path: &Path) -> Result<String> {
    if is_stdin(path) {
        return read_all(io::stdin().lock(), "standard input");
    }
    let shown = path.display();
    read_all(File::open(path).with_context(|| format!("{shown} cannot be opened"))?, &shown.to_string())
}

fn read_all(file: impl io::Read, shown: &str) -> Result<String> {
    let mut text = String::new();
    let read = file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => anyhow!("{shown} is not UTF-8 text"),
        _ => anyhow!("{shown} cannot be read: {error}"),
    })?;
    ensure!(read as u64 <= MAX_FILE, "{shown} has more than {MAX_FILE} bytes: no deployment file is that large");
    Ok(text)
}

fn show(plan: &Plan, effect: Option<&Effect>) -> String {
    let mut lines = Vec::new();
    for deployment in &plan.deployments {
        show_deployment(deployment, &mut lines);
    }
    lines.extend(effect.filter(|_| !plan.is_empty()).into_iter().flat_map(effect::lines));
    lines.push(match (plan.is_empty(), plan.dry_run) {
        (true, _) => "nothing to change".to_owned(),
        (false, true) => "this was the plan only: nothing has changed".to_owned(),
        (false, false) => "done".to_owned(),
    });
    lines.join("\n")
}

fn show_deployment(plan: &DeploymentPlan, lines: &mut Vec<String>) {
    let state = match (plan.new, plan.is_empty()) {
        (true, _) => "new",
        (false, true) => "unchanged",
        (false, false) => "changed",
    };
    lines.push(format!("deployment {} (team {}): {state}", plan.deployment, plan.team));
    for setting in &plan.settings {
        lines.push(format!("  ~ {setting}"));
    }
    for service in &plan.services {
        let name = &service.service;
        lines.push(match &service.change {
            ServiceChange::Added { address: Some(address) } => format!("  + {name} at {address}"),
            ServiceChange::Added { address: None } => format!("  + {name}"),
            ServiceChange::Changed { keys } => format!("  ~ {name}: {}", keys.join(", ")),
            ServiceChange::Removed { instances } if instances.is_empty() => format!("  - {name}"),
            ServiceChange::Removed { instances } => {
                let ids: Vec<String> = instances.iter().map(ToString::to_string).collect();
                format!("  - {name}, with its live instances: {}", ids.join(", "))
            }
        });
    }
    if plan.unchanged > 0 && !plan.is_empty() {
        lines.push(format!("  = {} unchanged", plan.unchanged));
    }
    lines.extend(plan.directions.iter().map(|both| format!("  {}", both.sentence())));
}
