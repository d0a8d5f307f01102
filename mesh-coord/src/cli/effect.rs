//! What a command would take away, in words.

use anyhow::Result;
use mesh_model::{AdminCommand, Cut, Effect, Outcome};

use super::{
    client::Reach,
    output::{count, print_versioned},
    time,
};
use crate::api::Previewed;

/// How many entries of each list are shown to people. JSON holds more.
const SHOWN: usize = 20;

/// Asks what a command would do.
pub(super) async fn preview(reach: &Reach, command: &AdminCommand) -> Result<(Outcome, Effect)> {
    let previewed: Previewed = reach.try_out("preview", command).await?;
    Ok((previewed.outcome, previewed.effect.unwrap_or_default()))
}

/// Prints an outcome with its effect as JSON: the fields of the outcome, `dry_run` and `effect`.
pub(super) fn print_preview(outcome: &Outcome, effect: &Effect) -> Result<()> {
    #[derive(serde::Serialize)]
    struct Preview<'a> {
        dry_run: bool,
        #[serde(flatten)]
        outcome: &'a Outcome,
        effect: &'a Effect,
    }
    print_versioned(&Preview { dry_run: true, outcome, effect })
}

/// The effect, line by line.
pub(super) fn lines(effect: &Effect) -> Vec<String> {
    if effect.is_empty() {
        return vec!["nothing is taken away".to_owned()];
    }
    let mut lines = Vec::new();
    let used = |cut: &&Cut| cut.may_be_used();
    for cut in effect.cut.iter().filter(used).take(SHOWN) {
        lines.push(format!("  cut: {}", right(cut)));
    }
    let (more, idle) = (
        effect.cut.iter().filter(used).count().saturating_sub(SHOWN) + effect.more_cut,
        effect.cut.iter().filter(|cut| !cut.may_be_used()).count(),
    );
    if more > 0 {
        lines.push(format!("  cut: {more} more"));
    }
    if idle > 0 {
        lines.push(format!("  cut: {} without instances at both ends", count(idle, "right")));
    }
    for ended in effect.ended.iter().take(SHOWN) {
        lines.push(format!("  ended: {} of {} on {}", ended.id, ended.service, ended.node));
    }
    let more = effect.ended.len().saturating_sub(SHOWN) + effect.more_ended;
    if more > 0 {
        lines.push(format!("  ended: {}", count(more, "more instance")));
    }
    for service in effect.unserved.iter().take(SHOWN) {
        lines.push(format!("  without a live instance: {service}"));
    }
    let more = effect.unserved.len().saturating_sub(SHOWN);
    if more > 0 {
        lines.push(format!("  without a live instance: {}", count(more, "more service")));
    }
    for pair in effect.in_use.iter().take(SHOWN) {
        let open = count(usize::try_from(pair.open).unwrap_or(usize::MAX), "open connection");
        let used = format!("last used {} ago", time::show(pair.used_seconds));
        lines.push(format!("  in use: {} → {}: {open}, {used}", pair.from, pair.to));
    }
    let more = effect.in_use.len().saturating_sub(SHOWN);
    if more > 0 {
        lines.push(format!("  in use: {more} more"));
    }
    lines.push(match effect.connections {
        Some(number) => {
            let connections = count(usize::try_from(number).unwrap_or(usize::MAX), "connection");
            let age = time::show(effect.reported_seconds.unwrap_or_default());
            format!("  {connections} would end, by reports that are at most {age} old")
        }
        None => "  how many connections stand there isn't known; those that do would be reset".to_owned(),
    });
    lines
}

fn right(cut: &Cut) -> String {
    let numbers = |ports: &[u16]| ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let ports = match (&*cut.ports, &*cut.except) {
        ([], []) => "every port".to_owned(),
        ([], except) => format!("every port but {}", numbers(except)),
        ([port], _) => format!("port {port}"),
        (ports, _) => format!("ports {}", numbers(ports)),
    };
    let names: Vec<&str> = cut.nodes.iter().take(SHOWN).map(|name| &**name).collect();
    let more = cut.nodes.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!(
        "{} → {} on {ports}: {} and {}, on {}{more}",
        cut.caller,
        cut.callee,
        count(cut.caller_instances, "caller"),
        count(cut.callee_instances, "instance"),
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(caller: &str, instances: usize, ports: &[u16]) -> Cut {
        Cut {
            caller: caller.parse().unwrap(),
            callee: "shop/db".parse().unwrap(),
            ports: ports.to_vec(),
            except: vec![],
            caller_instances: instances,
            callee_instances: 2,
            nodes: vec!["aws-1".parse().unwrap(), "ovh-1".parse().unwrap()],
        }
    }

    #[test]
    fn an_effect_is_told_in_a_few_lines_and_says_what_is_not_known() {
        let mut effect = Effect { cut: vec![cut("api", 1, &[]), cut("ops", 0, &[80, 443])], ..Effect::default() };
        effect.unserved = vec!["shop/db".parse().unwrap()];
        assert_eq!(
            lines(&effect),
            [
                "  cut: api → shop/db on every port: 1 caller and 2 instances, on aws-1, ovh-1",
                "  cut: 1 right without instances at both ends",
                "  without a live instance: shop/db",
                "  how many connections stand there isn't known; those that do would be reset",
            ]
        );
        assert_eq!(lines(&Effect::default()), ["nothing is taken away"]);
        effect.cut = (0..500).map(|_| cut("api", 1, &[80])).collect();
        assert!(lines(&effect).len() < 30);
    }
}
