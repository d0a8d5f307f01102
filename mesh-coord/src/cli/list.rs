//! The tables: `nodes`, `deployments`, `services`, `instances`.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use mesh_proto::relay::Nat;
use serde::Serialize;

use super::{
    Listing,
    output::{complain, note, print, print_json, print_table},
    time,
};
use crate::api::{self, NodeState, Reachable};

/// The time from an answer to the next look of `services --watch`.
const WATCHED: Duration = Duration::from_secs(1);

pub(super) async fn nodes(args: Listing) -> Result<()> {
    let nodes: api::Nodes = args.reach.get("nodes").await?;
    if args.json {
        return print_json(&nodes);
    }
    nodes.lacking.iter().for_each(|lacking| note(&lacking.words()));
    // A column that no node fills is left out.
    let told = nodes.nodes.iter().any(|node| node.nat.is_some() || !node.relayed.is_empty());
    let row = |node: api::Node| {
        let way = told.then(|| way_of(&node));
        let seen = match (node.state, node.last_seen_seconds) {
            (NodeState::Online, _) => "now".to_owned(),
            (_, Some(seconds)) => format!("{} ago", time::show(seconds)),
            (_, None) => "-".to_owned(),
        };
        let endpoints: Vec<String> = node.endpoints.iter().map(ToString::to_string).collect();
        let mut row = vec![
            node.id.to_string(),
            node.name.to_string(),
            node.provider.to_string(),
            state_of(&node),
            seen,
            node.instances.to_string(),
            node.scope,
            endpoints.join(", "),
            if node.agent.is_empty() { "-".to_owned() } else { node.agent },
            node.off.iter().map(|offload| offload.name()).collect::<Vec<_>>().join(", "),
        ];
        row.extend(way);
        row
    };
    let mut header =
        vec!["id", "name", "provider", "state", "seen", "instances", "may host", "endpoints", "agent", "switched off"];
    if told {
        header.push("nat, relays");
    }
    let none =
        "no nodes yet: make a token with `mesh-coord token create --any`, then `mesh-node up TOKEN` on a machine";
    print_table(&header, nodes.nodes.into_iter().map(row).collect(), none)
}

pub(super) async fn deployments(args: Listing) -> Result<()> {
    let deployments: api::Deployments = args.reach.get("deployments").await?;
    if args.json {
        return print_json(&deployments);
    }
    let row = |deployment: api::Deployment| {
        vec![
            deployment.id.to_string(),
            deployment.deployment.to_string(),
            deployment.team.to_string(),
            deployment.services.to_string(),
            deployment.instances.to_string(),
            deployment.expose.map_or_else(|| "all".to_owned(), |patterns| join(&patterns)),
            join(&deployment.trusts),
        ]
    };
    let header = ["id", "deployment", "team", "services", "instances", "exposes", "trusts"];
    let none = "no deployments yet: write a mesh.toml, then `mesh-coord apply mesh.toml`";
    print_table(&header, deployments.deployments.into_iter().map(row).collect(), none)
}

/// The arguments of `services`.
#[derive(Debug, Args)]
pub(super) struct Services {
    #[command(flatten)]
    listing: Listing,
    /// Go on, and print all of it again with each change of a service or an instance; with --json a line each
    #[arg(long)]
    watch: bool,
}

pub(super) async fn services(Services { listing, watch }: Services) -> Result<()> {
    let shown: api::Services = listing.reach.get("services").await?;
    show_services(&listing, &shown)?;
    if watch { follow_services(&listing, shown).await } else { Ok(()) }
}

/// Shows the services again whenever they have changed, until the process is ended.
async fn follow_services(listing: &Listing, mut shown: api::Services) -> Result<()> {
    let mut is_away = false;
    loop {
        tokio::time::sleep(WATCHED).await;
        match listing.reach.get::<api::Services>("services").await {
            Ok(now) if now == shown => is_away = false,
            Ok(now) => {
                (is_away, shown) = (false, now);
                if !listing.json {
                    print("")?;
                }
                show_services(listing, &shown)?;
            }
            // A restart of the coordinator is no end of the watch. It is told once.
            Err(error) if !is_away => {
                is_away = true;
                complain(&error);
            }
            Err(_) => {}
        }
    }
}

fn show_services(listing: &Listing, services: &api::Services) -> Result<()> {
    if listing.json {
        return print_json(services);
    }
    let row = |service: &api::Service| {
        let instances = service.instances.iter().map(|instance| {
            let release = instance.release.iter().map(|release| format!("release {release}"));
            let state = (instance.state != Reachable::Live).then(|| word(&instance.state));
            let more: Vec<String> = state.into_iter().chain(release).collect();
            let more = if more.is_empty() { String::new() } else { format!(" ({})", more.join(", ")) };
            format!("{} on {}{more}", instance.id, instance.runner)
        });
        vec![
            service.deployment.to_string(),
            service.service.to_string(),
            service.team.to_string(),
            service.address.to_string(),
            service.public_port.map_or_else(|| "-".to_owned(), |port| port.to_string()),
            join(&instances.collect::<Vec<_>>()),
        ]
    };
    let header = ["deployment", "service", "team", "address", "public port", "instances"];
    print_table(&header, services.services.iter().map(row).collect(), "no services yet")
}

pub(super) async fn instances(args: Listing) -> Result<()> {
    let instances: api::Instances = args.reach.get("instances").await?;
    if args.json {
        return print_json(&instances);
    }
    // A column that no instance fills is left out.
    let told = instances.instances.iter().any(|instance| instance.release.is_some());
    let row = |instance: api::Instance| {
        let release = told.then(|| instance.release.map_or_else(|| "-".to_owned(), |release| release.to_string()));
        let columns = [
            instance.id.to_string(),
            instance.service.to_string(),
            instance.address.to_string(),
            instance.runner.to_string(),
            word(&instance.state),
        ];
        columns.into_iter().chain(release).collect()
    };
    let mut header = vec!["id", "service", "address", "node", "state"];
    header.extend(told.then_some("release"));
    let none = "no instances yet: `mesh-node attach` makes one of a service, on a node";
    print_table(&header, instances.instances.into_iter().map(row).collect(), none)
}

fn state_of(node: &api::Node) -> String {
    let more = [(node.ephemeral, ", ephemeral"), (node.drained, ", drained")];
    more.into_iter().filter(|(is, _)| *is).fold(word(&node.state), |state, (_, word)| state + word)
}

/// What is between a runner and the outside, and where it can be reached by a relay.
fn way_of(node: &api::Node) -> String {
    let nat = match node.nat {
        Some(Nat { udp: false, .. }) => "no UDP".to_owned(),
        Some(Nat { mapping, .. }) => word(&mapping),
        None => "-".to_owned(),
    };
    node.relayed.iter().fold(nat, |way, at| format!("{way}, {}", at.relay))
}

fn join(items: &[impl ToString]) -> String {
    match items {
        [] => "-".to_owned(),
        items => items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

/// The word that JSON has for it.
pub(super) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}
