//! `mesh-node netcheck`: what is between this runner and the others.

use std::process::ExitCode;

use clap::Args;
use mesh_proto::relay::Mapping;

use super::{
    Context,
    output::{Failure, Ink},
    status,
};
use crate::local::{self, Request};

#[derive(Debug, Args)]
pub(super) struct Netcheck {}

impl Netcheck {
    #[expect(clippy::unused_self, reason = "every command is run the same way")]
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let netcheck: local::Netcheck = context.agent().ask(&Request::Netcheck, &[])?;
        if context.output.json {
            context.output.print_json(&netcheck)?;
        } else {
            context.output.print(&render(context, &netcheck))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn render(context: &Context, netcheck: &local::Netcheck) -> String {
    let output = &context.output;
    let udp =
        if netcheck.udp { output.ink(Ink::Good, "gets out") } else { output.ink(Ink::Bad, "isn't known to get out") };
    let mapping = match netcheck.mapping {
        Mapping::None => "no NAT: relays see this machine's own address",
        Mapping::Same => "a NAT with one port for all destinations: most runners are reached directly",
        Mapping::Varies => "a NAT with another port for each destination: few runners are reached directly",
        Mapping::Unknown => "not known: it takes two relays that answer",
    };
    let list = |addresses: &[std::net::SocketAddr]| match addresses {
        [] => "none".to_owned(),
        some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    };
    let mut text = format!("{} {udp}\n", output.ink(Ink::Bold, "UDP"));
    text += &format!("{} {mapping}\n", output.ink(Ink::Bold, "mapping"));
    text += &format!("{} {}\n", output.ink(Ink::Bold, "own addresses"), list(&netcheck.addresses));
    text += &format!("{} {}\n", output.ink(Ink::Bold, "seen from outside"), list(&netcheck.reflexive));
    if !netcheck.relays.is_empty() {
        text.push('\n');
        text += &status::relays(output, &netcheck.relays);
    }
    for warning in &netcheck.warnings {
        text += &format!("{} {warning}\n", output.ink(Ink::Bad, "warning:"));
    }
    text
}
