//! Why a machine is not brought up.

use std::path::PathBuf;

use crate::hint::Hint;

/// Why a machine is not brought up.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpError {
    #[error("systemd does not run this machine, so it can't run the agent: nothing was done")]
    NoSystemd {
        /// The command line for this machine.
        instead: String,
    },
    #[error("only root may have systemd run the agent: nothing was done")]
    NotRoot,
    #[error("an agent runs with the state directory {state}, and not as systemd's unit mesh-node", state = state.display())]
    ByHand { state: PathBuf },
    #[error("the agent is not connected: {why}")]
    NotConnected { why: String, hint: Option<String> },
    #[error("systemd has started the agent, and it does not answer: {why}")]
    NoAnswer { why: String },
}

impl Hint for UpError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoSystemd { instead } => {
                return Some(format!("run the agent in the foreground, under what starts programs here: {instead}"));
            }
            Self::NotRoot => "sudo mesh-node up …; for an agent of this user: mesh-node join URL TOKEN",
            Self::ByHand { .. } => "end it (Ctrl-C, or where it was started), then try again: instances stay attached",
            Self::NotConnected { hint, .. } => {
                let more = "it goes on trying: `mesh-node status` says how far it is, `mesh-node up --undo` stops it";
                return Some(hint.as_ref().map_or_else(|| more.to_owned(), |hint| format!("{hint}; {more}")));
            }
            Self::NoAnswer { .. } => "journalctl -u mesh-node has all of it; `mesh-node up --undo` stops it",
        };
        Some(hint.into())
    }
}

/// The command line that does in the foreground what this one, of `mesh-node up`, would have done.
pub(super) fn instead(arguments: impl Iterator<Item = String>) -> String {
    // Those of `up` alone: a token was overwritten once it was read.
    let ours = |argument: &String| ["--dry-run", "--undo", "--json"].contains(&&**argument);
    let mut is_replaced = false;
    let words = arguments.skip(1).filter(|argument| !ours(argument)).map(|argument| {
        if argument == "up" && !std::mem::replace(&mut is_replaced, true) {
            return "join".to_owned();
        }
        if argument.starts_with("mesh") && argument.contains("***") {
            return "TOKEN".to_owned();
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:,@=[]".contains(c);
        if argument.is_empty() || !argument.chars().all(is_plain) {
            return format!("'{}'", argument.replace('\'', r"'\''"));
        }
        argument
    });
    std::iter::once("mesh-node".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_run_instead_is_the_same_line_with_join() {
        let line = |text: &str| instead(text.split(' ').map(str::to_owned));
        for (given, expected) in [
            ("mesh-node up @token --name up --json", "mesh-node join @token --name up"),
            (
                "/usr/bin/mesh-node --state /s up https://c:7443 mesh2.*********",
                "mesh-node --state /s join https://c:7443 TOKEN",
            ),
            ("mesh-node up --dry-run --endpoint [2001:db8::1]:5", "mesh-node join --endpoint [2001:db8::1]:5"),
            ("mesh-node up @my$token", "mesh-node join '@my$token'"),
        ] {
            assert_eq!(line(given), expected);
        }
    }
}
