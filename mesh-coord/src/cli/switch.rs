//! `switch`.

use anyhow::Result;
use clap::{Args, ValueEnum};
use mesh_model::{AdminCommand, Offload, Outcome};
use mesh_proto::Label;

use super::{
    client::Reach,
    output::{note, print, print_versioned},
};

#[derive(Debug, Args)]
pub(super) struct Switch {
    /// Which offload: TCP super-packets on TUN devices, UDP_SEGMENT on send, or UDP_GRO on receive
    offload: OffloadName,
    /// `on` is the default, if the kernel has it and the runner's operator leaves it on
    state: OnOff,
    /// Only on this runner
    #[arg(long, value_name = "NODE")]
    node: Option<Label>,
    #[command(flatten)]
    reach: Reach,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OffloadName {
    TunGso,
    UdpGso,
    UdpGro,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnOff {
    On,
    Off,
}

pub(super) async fn run(args: Switch) -> Result<()> {
    let offload = match args.offload {
        OffloadName::TunGso => Offload::TunGso,
        OffloadName::UdpGso => Offload::UdpGso,
        OffloadName::UdpGro => Offload::UdpGro,
    };
    let on = args.state == OnOff::On;
    let command = AdminCommand::Switch { offload, on, node: args.node };
    if args.json {
        return print_versioned(&args.reach.order(&command, Some).await?);
    }
    let read = |outcome| match outcome {
        Outcome::Switched { offload, on, node, warnings } => Some((offload, on, node, warnings)),
        _ => None,
    };
    let (offload, on, node, warnings) = args.reach.order(&command, read).await?;
    warnings.iter().for_each(|warning| note(&format!("warning: {warning}")));
    let place = node.as_ref().map_or_else(|| "all nodes".to_owned(), ToString::to_string);
    print(&format!("{} is {} on {place}", offload.name(), if on { "on" } else { "off" }))
}
