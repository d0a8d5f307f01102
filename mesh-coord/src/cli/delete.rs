//! `delete`.

use anyhow::Result;
use clap::Args;
use mesh_model::{AdminCommand, Outcome};
use mesh_proto::Label;

use super::{
    client::Reach,
    effect,
    output::{count, note, print, print_versioned},
};

#[derive(Debug, Args)]
pub(super) struct Delete {
    /// The deployment
    deployment: Label,
    /// Delete it even if it has live instances, which ends them
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

pub(super) async fn run(args: Delete) -> Result<()> {
    let command = AdminCommand::Delete { deployment: args.deployment, force: args.force || args.dry_run };
    if args.dry_run {
        let (outcome, effect) = effect::preview(&args.reach, &command).await?;
        if args.json {
            return effect::print_preview(&outcome, &effect);
        }
        if let Outcome::Deleted { deployment, services, instances, .. } = &outcome {
            let needs = if instances.is_empty() || args.force { "" } else { ", which needs --force" };
            let (services, instances) = (count(*services, "service"), count(instances.len(), "instance"));
            print(&format!("{deployment} would be deleted, with {services} and {instances}{needs}"))?;
        }
        print(&effect::lines(&effect).join("\n"))?;
        return print("this was a dry run: nothing has changed");
    }
    if args.json {
        return print_versioned(&args.reach.order(&command, Some).await?);
    }
    let read = |outcome| match outcome {
        Outcome::Deleted { deployment, services, instances, untrusted_by } => {
            Some((deployment, services, instances, untrusted_by))
        }
        _ => None,
    };
    let (deployment, services, instances, untrusted_by) = args.reach.order(&command, read).await?;
    let (services, instances) = (count(services, "service"), count(instances.len(), "instance"));
    print(&format!("{deployment} is deleted, with {services}; {instances} ended"))?;
    for other in untrusted_by {
        note(&format!("{deployment} is off the trust list of {other}"));
    }
    Ok(())
}
