//! What `mesh-node up` writes: the units, unless they are there, and in the configuration what can be said only there.

use std::path::Path;

use mesh_process::edit::Edit;

use super::{Caller, SetupError, line::Line, systemd};
use crate::{config::Config, state::StateDir};

/// The line for `--no-relay`, which is not remembered.
const RELAYS: Line = Line { table: "[agent]", key: "relays", mark: " # by `mesh-node up`" };

/// The changes before the agent is started.
///
/// # Errors
/// If a package's unit is for another agent, or a file can't be read.
pub(crate) fn bring_up(state: &StateDir, no_relay: bool) -> Result<Vec<Edit>, SetupError> {
    let mut edits = systemd::bring_up(&Caller::of(state)?)?;
    if no_relay {
        let path = Config::path(state);
        edits.push(Edit::of(&path, |before| without_relays(before.unwrap_or_default(), &path).map(Some))?);
    }
    Ok(edits)
}

/// The changes that take out what [`bring_up`] has written for this agent.
///
/// # Errors
/// If a file can't be read.
pub(crate) fn take_down(state: &StateDir) -> Result<Vec<Edit>, SetupError> {
    let mut edits = systemd::take_down(&Caller::of(state)?)?;
    let path = Config::path(state);
    edits.push(Edit::of(&path, |before| match before {
        Some(text) => with_relays(text, &path),
        None => Ok(None),
    })?);
    Ok(edits)
}

fn without_relays(text: &str, path: &Path) -> Result<String, SetupError> {
    let mut config = Config::parse(text, path)?;
    if !config.agent.relays {
        return Ok(text.to_owned());
    }
    config.agent.relays = false;
    RELAYS.enter(text, path, "false", &config)
}

/// The text without the line; `None` if nothing else is left.
fn with_relays(text: &str, path: &Path) -> Result<Option<String>, SetupError> {
    RELAYS.leave(text, path, || {
        let mut config = Config::parse(text, path)?;
        config.agent.relays = true;
        Ok(config)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relays_are_switched_off_by_a_line_that_goes_again() {
        let path = Path::new("/etc/mesh-node/config.toml");
        for before in
            ["", "#[agent]\n# nothing yet\n", "# ours\n[agent]\nlisten = 1\n\n[containers]\nfail = \"open\"\n"]
        {
            let after = without_relays(before, path).unwrap();
            let (was, is) = (Config::parse(before, path).unwrap(), Config::parse(&after, path).unwrap());
            assert!(!is.agent.relays && is.agent.listen == was.agent.listen && is.containers == was.containers);
            assert_eq!(without_relays(&after, path).unwrap(), after, "once more changes nothing");
            assert_eq!(with_relays(&after, path).unwrap().unwrap_or_default(), before);
        }
        let theirs = "[agent]\nrelays = false\n";
        assert_eq!(without_relays(theirs, path).unwrap(), theirs, "the operator says so already");
        assert_eq!(with_relays(theirs, path).unwrap().as_deref(), Some(theirs));
        let against = without_relays("[agent]\nrelays = true\n", path).unwrap_err();
        assert!(matches!(against, SetupError::AddLine { table: "[agent]", .. }), "{against}");
    }
}
