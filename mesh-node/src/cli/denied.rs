//! `mesh-node denied`: who was refused lately.

use std::process::ExitCode;

use clap::Args;

use super::{
    Context,
    output::{Failure, note},
};
use crate::local::{self, Request};

#[derive(Debug, Args)]
pub(super) struct Denied {}

impl Denied {
    #[expect(clippy::unused_self, reason = "every command is run the same way")]
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let answer: local::Denied = context.agent().ask(&Request::Denied, &[])?;
        if context.output.json {
            context.output.print_json(&answer)?;
        } else if answer.denied.is_empty() {
            note("nothing was refused");
        } else {
            let rows = answer.denied.iter().map(|refused| {
                let port = if refused.port == 0 { "-".to_owned() } else { refused.port.to_string() };
                let (caller, callee, reason) = (refused.caller.clone(), refused.callee.clone(), refused.reason.clone());
                [caller, callee, port, reason, refused.count.to_string(), format!("{} s ago", refused.age_seconds)]
            });
            context
                .output
                .print(&context.output.table(["CALLER", "CALLEE", "PORT", "REASON", "COUNT", "LAST"], rows))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
