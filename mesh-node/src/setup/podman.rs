//! podman: a hook (oci-hooks(5)), and a configuration that names its directory (containers.conf(5)).

use std::{fs, path::Path};

use mesh_process::edit::Edit;
use serde_json::{Value, json};

use super::{Caller, Plan, SetupError, gone, own};

const HOOK: &str = "/etc/containers/oci/hooks.d/mesh.json";
const CONFIGURATION: &str = "/etc/containers/containers.conf.d/mesh.conf";
/// Adds the hook's directory to podman's. The first one is podman's default.
const TEXT: &str = "# Written by `mesh-node setup podman`, which takes it out again with --undo.
[engine]
hooks_dir = [\"/usr/share/containers/oci/hooks.d\", \"/etc/containers/oci/hooks.d\"]
";
/// Other files that may list the directories of hooks.
const OTHERS: [&str; 2] = ["/etc/containers/containers.conf", "/etc/containers/containers.conf.d"];

pub(super) fn set_up(caller: &Caller) -> Result<Plan, SetupError> {
    let arguments = ["mesh-node", "hook", "precreate"].map(str::to_owned).into_iter().chain(caller.state_option());
    let hook = json!({
        "version": "1.0.0",
        "hook": {"path": caller.program, "args": arguments.collect::<Vec<_>>(), "timeout": 30},
        // podman passes labels to no hook. Only a hook that always runs can refuse a label in place of an annotation.
        "when": {"always": true},
        "stages": ["precreate"],
    });
    let hook = format!("{hook:#}\n");
    let edits = vec![
        Edit::of(HOOK, |before| own(HOOK, before, is_our_hook).map(|()| Some(hook)))?,
        Edit::of(CONFIGURATION, |before| {
            own(CONFIGURATION, before, |text| text == TEXT).map(|()| Some(TEXT.to_owned()))
        })?,
    ];
    if let Some(other) = said_elsewhere() {
        return Err(SetupError::PodmanHooks { other, hook: HOOK });
    }
    let then = "no restart is needed; existing containers have the hook from their next start on. podman needs an annotation, not a label: podman run --annotation mesh.service=DEPLOYMENT/SERVICE …";
    Ok(Plan { edits, notes: vec![], then })
}

pub(super) fn undo() -> Result<Plan, SetupError> {
    let edits = vec![Edit::of(HOOK, gone(is_our_hook))?, Edit::of(CONFIGURATION, gone(|text| text == TEXT))?];
    let then =
        "no restart is needed; attached containers stay attached until they end, and start without the mesh next time";
    Ok(Plan { edits, notes: vec![], then })
}

fn is_our_hook(text: &str) -> bool {
    let hook = serde_json::from_str::<Value>(text).unwrap_or_default();
    hook["hook"]["args"][0] == "mesh-node" && hook["hook"]["args"][1] == "hook"
}

/// Another file of podman's configuration that lists directories of hooks.
fn said_elsewhere() -> Option<String> {
    let [file, directory] = OTHERS;
    let further = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut all =
        [Path::new(file).to_owned()].into_iter().chain(further).filter(|path| path != Path::new(CONFIGURATION));
    let says = |path: &Path| fs::read_to_string(path).is_ok_and(|text| says_where(&text));
    all.find(|path| says(path)).map(|path| path.display().to_string())
}

fn says_where(text: &str) -> bool {
    text.lines()
        .any(|line| line.trim_start().strip_prefix("hooks_dir").is_some_and(|rest| rest.trim_start().starts_with('=')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_directories_is_told_from_a_comment_about_one() {
        assert!(says_where("[engine]\n  hooks_dir = [\"/x\"]\n") && says_where("hooks_dir=[]"));
        assert!(
            !says_where("#hooks_dir = [\"/x\"]\n")
                && !says_where("hooks_directory = 1")
                && !says_where(TEXT.lines().next().unwrap())
        );
    }

    #[test]
    fn a_foreign_hook_prevents_the_change() {
        assert!(matches!(own(HOOK, Some("{}"), is_our_hook), Err(SetupError::Foreign { .. })));
        assert!(own(HOOK, Some(r#"{"hook": {"args": ["mesh-node", "hook", "precreate"]}}"#), is_our_hook).is_ok());
        assert!(own(HOOK, None, is_our_hook).is_ok());
    }
}
