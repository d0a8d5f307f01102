//! `check`: whether the files are valid, and what they expect holds.

use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use clap::Args;
use mesh_model::{
    Admin, AdminCommand, Change, Command, Judgement, Knowledge, Record, State, UnixSeconds, declare::Expect,
    record::Meta,
};
use mesh_proto::{Label, Range, Revision, view::Network};
use serde::Serialize;

use super::{
    apply::{self, Read},
    client::Reach,
    output::{count, note, print, print_json},
};
use crate::api::VERSION;

#[derive(Debug, Args)]
pub(super) struct Check {
    /// mesh.toml or warp.config.js files, judged together; `-` reads a mesh.toml from standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<std::path::PathBuf>,
    /// The deployment for the services of a warp.config.js
    #[arg(long, value_name = "NAME")]
    deployment: Option<Label>,
    #[command(flatten)]
    reach: Reach,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Checked {
    version: u32,
    /// Whether the coordinator was asked.
    asked: bool,
    expectations: Vec<Judged>,
}

#[derive(Debug, Serialize)]
struct Judged {
    #[serde(flatten)]
    expect: Expect,
    #[serde(flatten)]
    judgement: Judgement,
}

pub(super) async fn run(args: Check) -> Result<()> {
    let Read { declared, expect } = apply::gather(&args.files, args.deployment.as_ref())?;
    if args.reach.is_given() {
        // The coordinator refuses what doesn't hold.
        apply::try_all(&args.reach, declared, expect.clone()).await?;
        let met = expect.into_iter().map(|expect| Judged { expect, judgement: Judgement::Met });
        return show(args.json, Checked { version: VERSION, asked: true, expectations: met.collect() });
    }
    let meta = Meta::new(Network { range: Range::DEFAULT, mtu: crate::coordinator::DEFAULT_MTU })?;
    let mut state = State::load(Revision(1), [Record::Meta(Arc::new(meta))])?;
    let by = Admin::socket(0);
    let what = AdminCommand::Apply { files: declared, dry_run: false, force: false, prune: Some(true) };
    let decision = state.decide(&Command::Admin { by: by.clone(), what }, UnixSeconds(0));
    let decision = decision.map_err(|refusal| super::output::Refused(refusal.into()))?;
    let changes: Vec<Change> = decision.changes;
    state.absorb(&changes, Revision(2));
    let judge = |expect: Expect| Judged { judgement: state.judge(&by, &expect, Knowledge::Files), expect };
    let expectations = expect.into_iter().map(judge).collect();
    show(args.json, Checked { version: VERSION, asked: false, expectations })
}

fn show(json: bool, checked: Checked) -> Result<()> {
    let number = |of: fn(&Judgement) -> bool| checked.expectations.iter().filter(|one| of(&one.judgement)).count();
    let unmet = number(|judgement| matches!(judgement, Judgement::Unmet { .. }));
    let undecided = number(|judgement| matches!(judgement, Judgement::Undecided { .. }));
    let all = checked.expectations.len();
    if json {
        print_json(&checked)?;
    } else {
        for Judged { expect, judgement } in &checked.expectations {
            match judgement {
                Judgement::Met => {}
                Judgement::Unmet { why } => print(&format!("{expect}, but {why}"))?,
                Judgement::Undecided { why } => note(&format!("not decided: {expect}: {why}")),
            }
        }
        if unmet == 0 {
            let open = if undecided > 0 {
                format!(", {undecided} need the coordinator (--url, --data)")
            } else {
                String::new()
            };
            print(&format!("the files are valid; {} of {} hold{open}", all - undecided, count(all, "expectation")))?;
        }
    }
    ensure!(
        unmet == 0,
        "{} not hold",
        if unmet == 1 { "an expectation does".to_owned() } else { format!("{unmet} expectations do") }
    );
    if undecided > 0 && checked.asked {
        bail!("the coordinator left expectations open: is its version another one?");
    }
    Ok(())
}
