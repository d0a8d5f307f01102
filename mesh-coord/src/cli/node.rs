//! Commands for a runner (`node remove`, `node drain`, `node undrain`) and for an instance (`drain`, `undrain`).

use anyhow::Result;
use clap::{Args, Subcommand};
use mesh_model::{AdminCommand, Outcome};
use mesh_proto::{InstanceId, Label};

use super::{
    Listing,
    client::Reach,
    effect, list,
    output::{count, note, print, print_versioned},
};

#[derive(Debug, Subcommand)]
pub(super) enum Node {
    /// List the runners, as `nodes` does
    List(Listing),
    /// Remove a runner for good: its peers drop it at once, and its instances end
    Remove(Remove),
    /// Stop new connections to a runner's instances, later ones included; open connections stay
    Drain(Named),
    /// Undo `node drain`; an instance that was drained on its own stays drained
    Undrain(Named),
}

#[derive(Debug, Args)]
pub(super) struct Remove {
    /// Its name, as `nodes` shows it
    name: Label,
    /// Remove it even if it has instances, which ends them
    #[arg(long)]
    force: bool,
    /// Print only what would be taken away
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    reach: Reach,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The arguments of a command for a runner.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// Its name, as `nodes` shows it
    name: Label,
    #[command(flatten)]
    reach: Reach,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The arguments of a command for an instance.
#[derive(Debug, Args)]
pub(super) struct OfInstance {
    /// As `instances` shows it, such as i-7
    #[arg(value_name = "INSTANCE")]
    instance: InstanceId,
    #[command(flatten)]
    reach: Reach,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(command: Node) -> Result<()> {
    match command {
        Node::List(args) => list::nodes(args).await,
        Node::Remove(args) => remove(args).await,
        Node::Drain(Named { name, reach, json }) => turn(AdminCommand::DrainNode { name }, reach, json).await,
        Node::Undrain(Named { name, reach, json }) => turn(AdminCommand::UndrainNode { name }, reach, json).await,
    }
}

pub(super) async fn drain(OfInstance { instance, reach, json }: OfInstance) -> Result<()> {
    turn(AdminCommand::Drain { instance }, reach, json).await
}

pub(super) async fn undrain(OfInstance { instance, reach, json }: OfInstance) -> Result<()> {
    turn(AdminCommand::Undrain { instance }, reach, json).await
}

async fn remove(args: Remove) -> Result<()> {
    if args.dry_run {
        return preview(args).await;
    }
    let command = AdminCommand::RemoveNode { name: args.name.clone(), force: args.force };
    if args.json {
        return print_versioned(&args.reach.order(&command, Some).await?);
    }
    let read = |outcome| match outcome {
        Outcome::NodeRemoved { runner, instances, warnings } => Some((runner, instances, warnings)),
        _ => None,
    };
    let (runner, instances, warnings) = args.reach.order(&command, read).await?;
    for warning in warnings {
        note(&format!("warning: {warning}"));
    }
    print(&format!("{} ({runner}) is removed; {} ended", args.name, count(instances.len(), "instance")))
}

/// Prints what a removal would do.
async fn preview(args: Remove) -> Result<()> {
    let command = AdminCommand::RemoveNode { name: args.name.clone(), force: true };
    let (outcome, effect) = effect::preview(&args.reach, &command).await?;
    if args.json {
        return effect::print_preview(&outcome, &effect);
    }
    if let Outcome::NodeRemoved { runner, instances, warnings } = &outcome {
        for warning in warnings {
            note(&format!("warning: {warning}"));
        }
        let needs = if instances.is_empty() || args.force { "" } else { ", which needs --force" };
        print(&format!(
            "{} ({runner}) would be removed, with {}{needs}",
            args.name,
            count(instances.len(), "instance")
        ))?;
    }
    print(&effect::lines(&effect).join("\n"))?;
    print("this was a dry run: nothing has changed")
}

async fn turn(command: AdminCommand, reach: Reach, json: bool) -> Result<()> {
    if json {
        return print_versioned(&reach.order(&command, Some).await?);
    }
    print(&reach.order(&command, drained).await?)
}

/// The result of a drain or undrain, in words.
pub(super) fn drained(outcome: Outcome) -> Option<String> {
    match outcome {
        Outcome::InstanceDrained { instance, service, node, draining } => {
            let place = node.map_or(String::new(), |node| format!(" on {node}"));
            Some(format!("{instance} of {service}{place} {}", effect(draining)))
        }
        Outcome::NodeDrained { node, drained, instances } => {
            let ids: Vec<String> = instances.iter().map(ToString::to_string).collect();
            let which = if ids.is_empty() { String::new() } else { format!(": {}", ids.join(", ")) };
            let later = if drained { "what it gets later as well; " } else { "" };
            let changed = count(ids.len(), "instance");
            Some(format!("{node} {}; {later}{changed} changed{which}", effect(drained)))
        }
        _ => None,
    }
}

const fn effect(drained: bool) -> &'static str {
    if drained { "gets no new connections; those that stand stay" } else { "gets new connections again" }
}
