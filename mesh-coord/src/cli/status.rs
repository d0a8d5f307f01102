//! `status`: one screen, whether the mesh is whole and what needs its operator.

use anyhow::{Result, bail};
use clap::Args;

use super::{
    client::Reach,
    output::{count, print, print_json},
};
use crate::api::{Level, Overview};

#[derive(Debug, Args)]
pub(super) struct Status {
    /// Print only what needs you, and exit with 1 if something doesn't work, or may not for some
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    reach: Reach,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Status) -> Result<()> {
    let overview: Overview = args.reach.get("overview").await?;
    let bad = overview.needs.iter().filter(|need| need.level < Level::Note).count();
    if args.json {
        print_json(&overview)?;
    } else {
        print(&shown(&overview, args.check))?;
    }
    if args.check && bad > 0 {
        bail!("{} you", if bad == 1 { "one thing needs".to_owned() } else { format!("{bad} things need") });
    }
    Ok(())
}

fn shown(overview: &Overview, needs_only: bool) -> String {
    let mut lines = Vec::new();
    if !needs_only {
        let ready = if overview.ready { "ready" } else { "not ready" };
        lines.push(format!("coordinator  {ready}, revision {}", overview.revision));
        let runners = overview.providers.iter().map(|provider| {
            let all = provider.online + provider.silent;
            format!("{} {}/{all}", provider.provider, provider.online)
        });
        let runners: Vec<String> = runners.collect();
        let none = "none yet".to_owned();
        lines.push(format!("runners      {}", if runners.is_empty() { none } else { runners.join(", ") + " online" }));
        let (deployments, services) = (count(overview.deployments, "deployment"), count(overview.services, "service"));
        lines.push(format!("services     {services} of {deployments}"));
        let instances = overview.instances.iter().filter(|(_, number)| **number > 0);
        let instances: Vec<String> = instances.map(|(state, number)| format!("{number} {state}")).collect();
        lines.push(format!(
            "instances    {}",
            if instances.is_empty() { "none".to_owned() } else { instances.join(", ") }
        ));
        lines.push(String::new());
    }
    if overview.needs.is_empty() {
        lines.push(if needs_only { "ok".to_owned() } else { "nothing needs you".to_owned() });
    } else if !needs_only {
        lines.push("needs you:".to_owned());
    }
    for need in &overview.needs {
        let level = match need.level {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Note => "note",
        };
        lines.push(format!("{level}: {}", need.text));
        lines.push(format!("    {}", need.hint));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_mesh_fits_on_one_screen() {
        let mut overview: Overview = serde_json::from_value(json!({
            "version": 1, "revision": 1842, "ready": true,
            "providers": [{"provider": "aws", "online": 11, "silent": 1, "instances": 38}],
            "deployments": 3, "services": 6, "instances": {"live": 9, "draining": 0}, "needs": []
        }))
        .unwrap();
        assert_eq!(
            shown(&overview, false),
            "coordinator  ready, revision 1842\nrunners      aws 11/12 online\nservices     6 services of 3 deployments\n\
             instances    9 live\n\nnothing needs you"
        );
        assert_eq!(shown(&overview, true), "ok");
        overview.needs = serde_json::from_value(json!([
            {"level": "warning", "code": "runners-silent", "text": "aws-7 is away", "hint": "look", "objects": ["aws-7"]}
        ]))
        .unwrap();
        assert_eq!(shown(&overview, true), "warning: aws-7 is away\n    look");
        assert!(shown(&overview, false).ends_with("needs you:\nwarning: aws-7 is away\n    look"));
    }
}
