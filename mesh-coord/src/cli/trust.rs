//! `trust` shows and changes a deployment's trust list, always in both directions.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Result, bail};
use clap::{ArgGroup, Args};
use mesh_link::Method;
use mesh_model::{
    AdminCommand, Outcome, TrustChange,
    declare::Pattern,
    outcome::{BothWays, May},
};
use mesh_proto::{Label, Ports};

use super::{
    client::Reach,
    effect, numbers,
    output::{note, print, print_json},
    time,
};
use crate::api::{Deployments, TrustAndWait, TrustPage};

/// How long `--wait` waits unless `--timeout` says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("change").args(["callers", "clear"]).multiple(true))]
pub(super) struct Trust {
    /// The deployments whose services may call those of --app; without any, the command shows the list
    #[arg(value_name = "CALLER", value_delimiter = ',')]
    callers: Vec<Label>,
    /// The deployment that is called; its list decides who may call it
    #[arg(long, value_name = "DEPLOYMENT", visible_alias = "deployment")]
    app: Label,
    /// Only these of its services, as in `--service '*-tcp'` [default: those that it exposes]
    #[arg(long = "service", value_name = "PATTERN", requires = "callers")]
    services: Vec<Pattern>,
    /// Only these ports [default: all]
    #[arg(long = "port", value_name = "PORT", requires = "callers", value_parser = numbers::port)]
    ports: Vec<u16>,
    /// Revoke the callers' right
    #[arg(long, requires = "callers", conflicts_with = "clear")]
    remove: bool,
    /// Revoke the right of all callers
    #[arg(long, conflicts_with = "callers")]
    clear: bool,
    /// Print only what would change, and what would be taken away
    #[arg(long, requires = "change", conflicts_with = "wait")]
    dry_run: bool,
    /// Return once every runner concerned has applied it; exit with 1 and name those that haven't in time
    #[arg(long)]
    wait: bool,
    /// How long to wait for them: 500ms, 10s, 2m [default: 10s]
    #[arg(long, value_name = "DURATION", requires = "wait", value_parser = time::parse_short)]
    timeout: Option<Duration>,
    #[command(flatten)]
    reach: Reach,
    /// Print the current list as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Trust) -> Result<()> {
    let Trust { callers, app, services, ports, remove, clear, dry_run, wait, timeout, reach, json } = args;
    let callers: BTreeSet<Label> = callers.into_iter().collect();
    let services = if services.is_empty() { None } else { Some(services) };
    let ports = if ports.is_empty() { Ports::All } else { Ports::Only(ports.into_iter().collect()) };
    let change = match () {
        () if clear => Some(TrustChange::Clear),
        () if remove => Some(TrustChange::Remove { callers, services, ports }),
        () if !callers.is_empty() => Some(TrustChange::Add { callers, services, ports }),
        () => None,
    };
    if let Some(change) = change.clone().filter(|_| dry_run) {
        return preview(&reach, AdminCommand::Trust { deployment: app, change }, json).await;
    }
    let changes = change.is_some();
    let timeout = if wait { timeout.unwrap_or(TIMEOUT) } else { Duration::ZERO };
    let what = TrustAndWait { change, milliseconds: u64::try_from(timeout.as_millis())? };
    let page: TrustPage = reach.request(Method::POST, &format!("trust-and-wait/{app}"), Some(&what)).await?;
    warn(&page.warnings);
    if changes {
        warn_of_unknown(&page.directions, &reach).await;
    }
    if json {
        print_json(&page.listing)?;
    } else {
        show(&app, &page.directions)?;
    }
    if !wait || page.listing.pending.is_empty() {
        return Ok(());
    }
    let pending: Vec<&str> = page.listing.pending.iter().map(|name| &**name).collect();
    let done = if changes { "the change is made, and they apply it when they are back; " } else { "" };
    bail!(
        "not in force after {} on: {}; {done}`mesh-coord nodes` shows their state, and `mesh-coord node remove NAME` cuts \
         one off for good",
        time::show_short(timeout),
        pending.join(", ")
    )
}

/// Prints what a change would do.
async fn preview(reach: &Reach, command: AdminCommand, json: bool) -> Result<()> {
    let (outcome, effect) = effect::preview(reach, &command).await?;
    if json {
        return effect::print_preview(&outcome, &effect);
    }
    if let Outcome::Trusted { deployment, directions, warnings, .. } = &outcome {
        warn(warnings);
        show(deployment, directions)?;
    }
    print(&effect::lines(&effect).join("\n"))?;
    print("this was a dry run: nothing has changed")
}

/// Warns of callers that don't exist yet, in case they are misspelt. The nearest name is searched here, among the
/// deployments that the administrator sees.
pub(super) async fn warn_of_unknown<'a>(directions: impl IntoIterator<Item = &'a BothWays>, reach: &Reach) {
    let unknown: BTreeSet<&Label> = directions
        .into_iter()
        .filter(|both| both.changed && matches!(both.forward, May::OnceThere { .. }))
        .map(|both| &both.caller)
        .collect();
    if unknown.is_empty() {
        return;
    }
    let known = reach.get::<Deployments>("deployments").await.map(|all| all.deployments).unwrap_or_default();
    for caller in unknown {
        note(&of_unknown(caller, known.iter().map(|deployment| &*deployment.deployment)));
    }
}

fn of_unknown<'a>(caller: &Label, known: impl Iterator<Item = &'a str>) -> String {
    let nearest = mesh_model::nearest(caller, known).map(|name| format!("; the nearest is `{name}`"));
    format!("warning: there is no deployment `{caller}` yet{}: the entry waits for one", nearest.unwrap_or_default())
}

fn show(app: &Label, directions: &[BothWays]) -> Result<()> {
    if directions.is_empty() {
        return print(&format!("no other deployment may call {app}"));
    }
    print(&directions.iter().map(|both| both.sentence() + "\n").collect::<String>())
}

fn warn(warnings: &[String]) {
    for warning in warnings {
        note(&format!("warning: {warning}"));
    }
}
