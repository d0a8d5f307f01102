//! `node remove`.

use anyhow::Result;
use clap::{Args, Subcommand};
use mesh_model::{AdminCommand, Outcome};
use mesh_proto::Label;

use super::{
    client::Reach,
    output::{count, note, print, print_versioned},
};

#[derive(Debug, Subcommand)]
pub(super) enum Node {
    /// Remove a runner for good: its peers drop it at once, and its instances end
    Remove(Remove),
}

#[derive(Debug, Args)]
pub(super) struct Remove {
    /// Its name, as `nodes` shows it
    name: Label,
    #[command(flatten)]
    reach: Reach,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(Node::Remove(args): Node) -> Result<()> {
    let outcome = args.reach.order(&AdminCommand::RemoveNode { name: args.name.clone() }).await?;
    if args.json {
        return print_versioned(&outcome);
    }
    if let Outcome::NodeRemoved { runner, instances, warnings } = &outcome {
        for warning in warnings {
            note(&format!("warning: {warning}"));
        }
        print(&format!("{} ({runner}) is removed; {} ended", args.name, count(instances.len(), "instance")))?;
    }
    Ok(())
}
