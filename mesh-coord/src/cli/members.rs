//! `members`: which coordinators serve.

use anyhow::Result;

use super::{
    Listing,
    output::{print_json, print_table},
    time,
};
use crate::api::{Member, MemberState, Members};

pub(super) async fn run(args: Listing) -> Result<()> {
    let members: Members = args.reach.get("members").await?;
    if args.json {
        return print_json(&members);
    }
    let row = |member: Member| {
        let seen = match member.state {
            MemberState::Fresh => "now".to_owned(),
            MemberState::Stale | MemberState::Gone => format!("{} ago", time::show(member.age_seconds)),
        };
        let state = match member.state {
            MemberState::Fresh => "fresh",
            MemberState::Stale => "stale",
            MemberState::Gone => "gone",
        };
        vec![
            member.id.to_string(),
            member.host,
            state.to_owned(),
            seen,
            member.runners.to_string(),
            member.revision.to_string(),
            member.program,
            member.urls.join(", "),
        ]
    };
    let header = ["id", "host", "state", "seen", "runners", "revision", "version", "urls"];
    print_table(&header, members.members.into_iter().map(row).collect(), "no coordinator")
}
