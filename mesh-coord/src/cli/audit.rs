//! `audit`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use clap::Args;
use mesh_model::record::Verdict;

use super::{
    client::{Reach, escaped},
    list::word,
    output::{note, print_json, print_table},
    time,
};
use crate::api;

#[derive(Debug, Args)]
pub(super) struct Audit {
    /// At most this many entries, up to 1000
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: Option<u32>,
    /// Only entries before this number: the next page
    #[arg(long, value_name = "NUMBER")]
    before: Option<u64>,
    /// Only entries of this last time: 90s, 30m, 1h, 7d
    #[arg(long, value_name = "DURATION", value_parser = time::parse)]
    since: Option<Duration>,
    /// Only what this one did: the name or identifier of a token, a runner's identifier, `uid 0`
    #[arg(long, value_name = "WHO")]
    by: Option<String>,
    /// Only entries of this action, such as trust
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// Only entries about this object, such as the name of a deployment
    #[arg(long, value_name = "NAME")]
    object: Option<String>,
    /// Only what was refused
    #[arg(long)]
    refused: bool,
    #[command(flatten)]
    reach: Reach,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Audit) -> Result<()> {
    let query = args.query();
    let path = if query.is_empty() { "audit".to_owned() } else { format!("audit?{query}") };
    let audit: api::Audit = args.reach.get(&path).await?;
    ensure!(
        audit.filtered || query.is_empty(),
        "this coordinator is of an earlier version, which shows all entries only"
    );
    if args.json {
        return print_json(&audit);
    }
    let row = |entry: api::AuditEntry| {
        let by = entry.by_name.map_or(entry.by.clone(), |name| format!("{} ({name})", entry.by));
        vec![entry.number.to_string(), time::date(entry.at.0), by, entry.action, word(&entry.result), entry.detail]
    };
    let none = if query.is_empty() { "nothing was changed yet" } else { "no such entry" };
    let header = ["number", "when (UTC)", "who", "what", "result", "on what"];
    print_table(&header, audit.audit.into_iter().map(row).collect(), none)?;
    if let Some(next) = audit.next {
        note(&format!("there are older entries: --before {next} shows them"));
    }
    Ok(())
}

impl Audit {
    /// The query of the request (RFC 3986 §3.4).
    fn query(&self) -> String {
        let since = self.since.map(|since| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            now.saturating_sub(since).as_secs().to_string()
        });
        let result = self.refused.then(|| word(&Verdict::Refused));
        let pairs = [
            ("limit", self.limit.map(|limit| limit.to_string())),
            ("before", self.before.map(|before| before.to_string())),
            ("since", since),
            ("by", self.by.clone()),
            ("action", self.action.clone()),
            ("object", self.object.clone()),
            ("result", result),
        ];
        let pairs = pairs.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", escaped(&value?))));
        pairs.collect::<Vec<_>>().join("&")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_a_query() {
        #[derive(Debug, clap::Parser)]
        struct Line {
            #[command(flatten)]
            audit: Audit,
        }
        let line = ["x", "--limit", "20", "--by", "uid 0", "--object", "a&b=c", "--refused"];
        let Line { audit } = clap::Parser::parse_from(line);
        assert_eq!(audit.query(), "limit=20&by=uid%200&object=a%26b%3Dc&result=refused");
        let Line { audit } = clap::Parser::parse_from(["x"]);
        assert_eq!(audit.query(), "");
    }
}
