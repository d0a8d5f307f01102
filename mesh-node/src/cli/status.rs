//! `mesh-node status`: the state of the agent.

mod check;

use std::process::ExitCode;

use clap::Args;

pub(super) use self::check::Check;
use super::{
    Context, attach,
    output::{Failure, Ink, Output},
};
use crate::local::{self, Request};

#[derive(Debug, Args)]
pub(super) struct Status {
    /// Print only what is wrong, and exit with 1 if anything is: no stream to the coordinator, a map older than a minute, a runner
    /// that doesn't answer
    #[arg(long)]
    check: bool,
}

impl Status {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let status: local::Status = context.agent().ask(&Request::Status, &[])?;
        if self.check {
            return check(context, &status);
        }
        if context.output.json {
            context.output.print_json(&status)?;
        } else {
            context.output.print(&render(context, &status))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints what is wrong.
fn check(context: &Context, status: &local::Status) -> Result<ExitCode, Failure> {
    let check = Check::of(status);
    if context.output.json {
        context.output.print_json(&check)?;
    } else if check.ok {
        context.output.print("ok\n")?;
    } else {
        let lines = check.problems.iter().map(|problem| format!("{}\n", problem.text));
        context.output.print(&lines.collect::<String>())?;
    }
    Ok(if check.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn render(context: &Context, status: &local::Status) -> String {
    let output = &context.output;
    let mut text = format!("{} {} ({})\n", output.ink(Ink::Bold, "runner"), status.runner.name, status.runner.id);
    let connection = match (status.map.connected, status.map.state) {
        (true, _) => output.ink(Ink::Good, "connected"),
        (false, Some(local::LinkState::Refused)) => output.ink(Ink::Bad, "refused"),
        (false, _) => output.ink(Ink::Bad, "away"),
    };
    text += &format!("{} {}, {connection}\n", output.ink(Ink::Bold, "coordinator"), status.coordinator.url);
    for line in [&status.coordinator.error, &status.coordinator.hint].into_iter().flatten() {
        text += &format!("  {line}\n");
    }
    text += &format!("{} ", output.ink(Ink::Bold, "map"));
    text += &match (status.map.revision, status.map.age_seconds) {
        (Some(revision), Some(age)) => format!("revision {revision}, {} old\n", seconds(age)),
        (Some(revision), None) => format!("revision {revision}\n"),
        (None, _) => "none yet: nothing is allowed\n".to_owned(),
    };
    let endpoints: Vec<String> = status.endpoints.iter().map(ToString::to_string).collect();
    text += &format!("{} {} (UDP {})\n", output.ink(Ink::Bold, "endpoints"), endpoints.join(" "), status.port);
    if let Some(mapping) = &status.port_mapping {
        text += &port_mapping(output, mapping);
    }
    let offloads = status.offloads.iter().map(|(name, offload)| {
        let state = if offload.on { output.ink(Ink::Good, "on") } else { output.ink(Ink::Bad, "off") };
        format!("{name} {state}")
    });
    text += &format!("{} {}\n", output.ink(Ink::Bold, "offloads"), offloads.collect::<Vec<_>>().join(", "));
    if status.lanes.len() > 1 {
        let carried = status.lanes.iter().map(|lane| bytes(lane.tx_bytes + lane.rx_bytes));
        text += &format!("{} {}\n", output.ink(Ink::Bold, "lanes"), carried.collect::<Vec<_>>().join(", "));
    }
    for warning in &status.warnings {
        text += &format!("{} {warning}\n", output.ink(Ink::Bad, "warning:"));
    }
    if !status.peers.is_empty() {
        let rows = status.peers.iter().map(|peer| {
            let path = match (peer.failed_seconds, peer.path, &peer.relay) {
                (Some(_), ..) => no_answer(peer.tries),
                (None, local::Path::Direct, _) => "direct".to_owned(),
                (None, local::Path::Relay, relay) => format!("relay {}", relay.as_deref().unwrap_or_default()),
                (None, local::Path::None, _) => "none".to_owned(),
            };
            let rtt = peer.rtt_ms.map_or_else(|| "-".to_owned(), |rtt| rtt.to_string());
            let endpoint = peer.endpoint.map_or_else(|| "-".to_owned(), |endpoint| endpoint.to_string());
            let handshake = peer.handshake_age_seconds.map_or_else(|| "never".to_owned(), |age| seconds(age) + " ago");
            let (rx, tx) = (bytes(peer.rx_bytes), bytes(peer.tx_bytes));
            [peer.name.to_string(), peer.provider.to_string(), path, rtt, endpoint, handshake, rx, tx]
        });
        text.push('\n');
        text += &output
            .table(["PEER", "PROVIDER", "PATH", "ROUND TRIP", "ENDPOINT", "HANDSHAKE", "RECEIVED", "SENT"], rows);
    }
    if !status.relays.is_empty() {
        text.push('\n');
        text += &relays(output, &status.relays);
    }
    if !status.instances.is_empty() {
        text.push('\n');
        text += &attach::instances(context, &status.instances);
        for instance in &status.instances {
            for warning in &instance.warnings {
                text += &format!("{} {}: {warning}\n", output.ink(Ink::Bad, "warning"), instance.id);
            }
        }
    }
    if !status.waiting.is_empty() {
        let rows = status.waiting.iter().map(|waiting| {
            let hint = waiting.hint.as_ref().map_or_else(String::new, |hint| format!(" ({hint})"));
            [waiting.container.short(), format!("{}{hint}", waiting.error)]
        });
        text.push('\n');
        text += &output.table(["WAITING", "WITHOUT THE MESH, SINCE"], rows);
    }
    for (name, offload) in &status.offloads {
        if let Some(why) = &offload.why {
            text += &format!("\n{} {name}: {why}\n", output.ink(Ink::Bad, "offload"));
        }
    }
    let drops: Vec<_> = status.drops.iter().filter(|(_, count)| **count > 0).collect();
    if !drops.is_empty() {
        text.push('\n');
        text += &output.table(["DROPPED", "PACKETS"], drops.iter().map(|(why, n)| [(*why).clone(), n.to_string()]));
    }
    if status.instances.is_empty() && status.map.connected {
        let next = "mesh-node run DEPLOYMENT/SERVICE -- COMMAND, or mesh-node attach DEPLOYMENT/SERVICE --netns PATH";
        text += &format!("\nno instances yet: {next}\n");
    }
    text
}

/// The line about a port of the router.
pub(super) fn port_mapping(output: &Output, mapping: &local::PortMapping) -> String {
    let words = match (mapping.outside, mapping.router, &mapping.protocol) {
        (Some(outside), Some(router), Some(protocol)) => format!("{outside}, by the router {router} ({protocol})"),
        _ => "none".to_owned(),
    };
    format!("{} {words}\n", output.ink(Ink::Bold, "mapped port"))
}

/// A table of relays.
pub(super) fn relays(output: &Output, relays: &[local::Relay]) -> String {
    let rows = relays.iter().map(|relay| {
        let dash = || "-".to_owned();
        let state = match (&relay.error, relay.relayed) {
            (Some(error), _) => error.clone(),
            (None, Some(relayed)) => relayed.to_string(),
            (None, None) => dash(),
        };
        let rtt = relay.rtt_ms.map_or_else(dash, |rtt| rtt.to_string());
        [relay.name.clone(), relay.transport.clone(), rtt, state]
    });
    output.table(["RELAY", "TRANSPORT", "ROUND TRIP", "ADDRESS THERE"], rows)
}

/// The state of a path without an answered handshake.
fn no_answer(tries: u64) -> String {
    format!("no answer ({tries} {})", if tries == 1 { "try" } else { "tries" })
}

/// A duration with its unit.
fn seconds(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86400),
    }
}

/// An amount of bytes with its unit.
fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    let (mut whole, mut tenths, mut unit) = (bytes, 0, "B");
    for next in UNITS {
        if whole < 1000 {
            break;
        }
        (whole, tenths, unit) = (whole / 1000, whole % 1000 / 100, next);
    }
    if unit == "B" { format!("{whole} B") } else { format!("{whole}.{tenths} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_units_that_people_read() {
        for (amount, words) in
            [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_560_000, "1.5 MB"), (u64::MAX, "18446.7 PB")]
        {
            assert_eq!(bytes(amount), words);
        }
        for (age, words) in [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172_800, "2 d")] {
            assert_eq!(seconds(age), words);
        }
    }
}
