//! `apply`.

use std::{fs::File, io::Read as _, path::PathBuf};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use clap::Args;
use mesh_model::{
    AdminCommand, Outcome, declare,
    outcome::{DeploymentPlan, Plan, ServiceChange},
};
use mesh_proto::Label;

use super::{
    client::Reach,
    output::{note, print, print_versioned},
};

/// The largest deployment file that is read, in octets: all files of one call go to the coordinator in one request.
const MAX_FILE: u64 = 1 << 20;

#[derive(Debug, Args)]
pub(super) struct Apply {
    /// mesh.toml or warp.config.js; all of them are carried out, or none
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The deployment of services that are declared by a warp.config.js
    #[arg(long, value_name = "NAME")]
    deployment: Option<Label>,
    /// Print the plan only
    #[arg(long)]
    dry_run: bool,
    /// Also remove services that have live instances: these end
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    reach: Reach,
    /// Print the plan as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Apply) -> Result<()> {
    let mut declared = Vec::new();
    let mut wrong = Vec::new();
    for path in &args.files {
        let text = read(path)?;
        match mesh_files::parse(path, &text, args.deployment.as_ref()) {
            Ok(parsed) => {
                for warning in parsed.warnings {
                    note(&format!("warning: {warning}"));
                }
                let name = path.display().to_string();
                let declarations = parsed.declarations.into_iter();
                declared.extend(declarations.map(|declaration| declare::File { name: name.clone(), declaration }));
            }
            Err(error) => wrong.push(error.to_string()),
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\nerror: "));
    let command = AdminCommand::Apply { files: declared, dry_run: args.dry_run, force: args.force };
    let Outcome::Planned(plan) = args.reach.order(&command).await? else { bail!("the coordinator answered otherwise") };
    for warning in &plan.warnings {
        note(&format!("warning: {warning}"));
    }
    if args.json {
        return print_versioned(&plan);
    }
    print(&show(&plan))
}

fn read(path: &PathBuf) -> Result<String> {
    let shown = path.display();
    let mut text = String::new();
    let file = File::open(path).with_context(|| format!("{shown} cannot be opened"))?;
    let read = file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidData => anyhow!("{shown} is not UTF-8 text"),
        _ => anyhow!("{shown} cannot be read: {error}"),
    })?;
    ensure!(read as u64 <= MAX_FILE, "{shown} has more than {MAX_FILE} octets: no deployment file is that large");
    Ok(text)
}

fn show(plan: &Plan) -> String {
    let mut lines = Vec::new();
    for deployment in &plan.deployments {
        show_deployment(deployment, &mut lines);
    }
    lines.push(match (plan.is_empty(), plan.dry_run) {
        (true, _) => "nothing to change".to_owned(),
        (false, true) => "this was the plan only (--dry-run): nothing has changed".to_owned(),
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
