//! `delete`.

use anyhow::Result;
use clap::Args;
use mesh_model::{AdminCommand, Outcome};
use mesh_proto::Label;

use super::{
    client::Reach,
    output::{count, note, print, print_versioned},
};

#[derive(Debug, Args)]
pub(super) struct Delete {
    /// Which
    deployment: Label,
    /// Also where it has live instances: they end
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    reach: Reach,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Delete) -> Result<()> {
    let command = AdminCommand::Delete { deployment: args.deployment, force: args.force };
    let outcome = args.reach.order(&command).await?;
    if args.json {
        return print_versioned(&outcome);
    }
    if let Outcome::Deleted { deployment, services, instances, untrusted_by } = &outcome {
        let (services, instances) = (count(*services, "service"), count(instances.len(), "instance"));
        print(&format!("{deployment} is deleted, with {services}; {instances} ended"))?;
        for other in untrusted_by {
            note(&format!("{deployment} is off the trust list of {other}"));
        }
    }
    Ok(())
}
