//! `mesh-node denied`: the most recently refused connections.

use std::process::ExitCode;

use clap::Args;
use mesh_proto::why::shell_word;

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
            note("no connection was refused");
        } else {
            let rows = answer.denied.iter().map(|refused| {
                let port = if refused.port == 0 { "-".to_owned() } else { refused.port.to_string() };
                let (caller, callee) = (refused.caller.clone(), refused.callee.clone());
                // An agent of version 0.1 sends no text.
                let reason = if refused.text.is_empty() { &refused.reason } else { &refused.text };
                [
                    caller,
                    callee,
                    port,
                    reason.clone(),
                    refused.count.to_string(),
                    format!("{} s ago", refused.age_seconds),
                ]
            });
            context
                .output
                .print(&context.output.table(["CALLER", "CALLEE", "PORT", "REASON", "COUNT", "LAST"], rows))?;
            if let Some(why) = answer.denied.iter().find_map(why) {
                note(&format!("for more about the last one: {why}"));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The command that explains a refusal, if both ends have names.
fn why(refused: &local::Refused) -> Option<String> {
    let (caller, callee) = (&refused.caller, &refused.callee);
    let named = refused.port != 0 && caller.contains('/') && callee.contains('/');
    named.then(|| format!("mesh-node why {} {} {}", shell_word(caller), shell_word(callee), refused.port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_explains_it_can_be_pasted() {
        let refused = |caller: &str, callee: &str, port| local::Refused {
            caller: caller.to_owned(),
            callee: callee.to_owned(),
            port,
            reason: "no-trust".to_owned(),
            text: "no trust".to_owned(),
            caller_address: None,
            callee_address: None,
            count: 1,
            age_seconds: 0,
        };
        let command = why(&refused("api/web", "shop/my db", 5432));
        assert_eq!(command.as_deref(), Some("mesh-node why api/web 'shop/my db' 5432"));
        assert_eq!(why(&refused("100.112.0.9", "shop/db", 1)), None);
        assert_eq!(why(&refused("api/web", "shop/db", 0)), None);
    }
}
