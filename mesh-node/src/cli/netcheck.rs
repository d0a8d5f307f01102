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
    let list = |addresses: &[std::net::SocketAddr]| match addresses {
        [] => "none".to_owned(),
        some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    };
    let mut text = format!("{} {udp}\n", output.ink(Ink::Bold, "UDP"));
    text += &format!("{} {}\n", output.ink(Ink::Bold, "mapping"), mapping(netcheck));
    text += &format!("{} {}\n", output.ink(Ink::Bold, "own addresses"), list(&netcheck.addresses));
    text += &format!("{} {}\n", output.ink(Ink::Bold, "seen from outside"), list(&netcheck.reflexive));
    if let Some(mapping) = &netcheck.port_mapping {
        text += &status::port_mapping(output, mapping);
    }
    if !netcheck.relays.is_empty() {
        text.push('\n');
        text += &status::relays(output, &netcheck.relays);
    }
    for warning in &netcheck.warnings {
        text += &format!("{} {warning}\n", output.ink(Ink::Bad, "warning:"));
    }
    text
}

/// What the NAT does. One relay sees that there is one; only another relay, at another address, sees whether the port
/// depends on the destination.
fn mapping(netcheck: &local::Netcheck) -> &'static str {
    match netcheck.mapping {
        Mapping::None => "no NAT: relays see this machine's own address",
        Mapping::Same => "a NAT with one port for all destinations: most runners are reached directly",
        Mapping::Varies => "a NAT with another port for each destination: few runners are reached directly",
        Mapping::Unknown if netcheck.reflexive.is_empty() => "not known: no relay has seen a datagram of this machine",
        Mapping::Unknown => {
            "a NAT; whether it has one port for all destinations takes a second relay to see (`mesh-coord token create --relay`)"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_relay_sees_that_there_is_a_nat_and_not_of_which_kind() {
        let seen = |reflexive: &[&str]| {
            let reflexive = reflexive.iter().map(|address| address.parse().unwrap()).collect();
            mapping(&local::Netcheck {
                port_mapping: None,
                version: local::VERSION,
                udp: true,
                mapping: Mapping::Unknown,
                addresses: vec![],
                reflexive,
                relays: vec![],
                warnings: vec![],
            })
        };
        assert!(seen(&[]).starts_with("not known: no relay"));
        assert!(seen(&["192.0.2.1:5"]).starts_with("a NAT; ") && seen(&["192.0.2.1:5"]).contains("second relay"));
    }
}
