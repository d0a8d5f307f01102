//! podman: a hook (oci-hooks(5)), and the directory that it is in made known (containers.conf(5)).

use std::{fs, path::Path};

use mesh_proto::message::Refusal;
use serde_json::{Value, json};

use super::{Edit, Ourselves, Plan, gone, own};

const HOOK: &str = "/etc/containers/oci/hooks.d/mesh.json";
const CONFIGURATION: &str = "/etc/containers/containers.conf.d/mesh.conf";
/// What makes the directory of the hook one of podman's. The first is the one that it has by itself.
const TEXT: &str = "# Written by `mesh-node setup podman`, which takes it out again with --undo.
[engine]
hooks_dir = [\"/usr/share/containers/oci/hooks.d\", \"/etc/containers/oci/hooks.d\"]
";
/// Other files that may say where hooks are.
const OTHERS: [&str; 2] = ["/etc/containers/containers.conf", "/etc/containers/containers.conf.d"];

pub(super) fn set_up(ourselves: &Ourselves) -> Result<Plan, Refusal> {
    let arguments = ["mesh-node", "hook", "precreate"].map(str::to_owned).into_iter().chain(ourselves.state_option());
    let hook = json!({
        "version": "1.0.0",
        "hook": {"path": ourselves.program, "args": arguments.collect::<Vec<_>>(), "timeout": 30},
        // podman tells nobody of labels, so that one which is given in place of an annotation only shows to who is always called.
        "when": {"always": true},
        "stages": ["precreate"],
    });
    let hook = serde_json::to_string_pretty(&hook).map_err(|e| Refusal::bare(e.to_string()))? + "\n";
    let edits = vec![
        Edit::of(HOOK, |before| own(HOOK, before, is_our_hook).map(|()| Some(hook)))?,
        Edit::of(CONFIGURATION, |before| {
            own(CONFIGURATION, before, |text| text == TEXT).map(|()| Some(TEXT.to_owned()))
        })?,
    ];
    if let Some(other) = said_elsewhere() {
        return Err(Refusal::new(
            format!("{other} says where podman's hooks are"),
            format!(
                "add \"/etc/containers/oci/hooks.d\" to its hooks_dir and write {HOOK} yourself, as docs/guides/podman.md shows it"
            ),
        ));
    }
    let then = "nothing has to be restarted; containers that exist have the hook from their next start on. With podman it is an annotation, not a label: podman run --annotation mesh.service=DEPLOYMENT/SERVICE …";
    Ok(Plan { edits, notes: vec![], then })
}

pub(super) fn undo() -> Result<Plan, Refusal> {
    let edits = vec![Edit::of(HOOK, gone(is_our_hook))?, Edit::of(CONFIGURATION, gone(|text| text == TEXT))?];
    let then = "nothing has to be restarted; what is attached stays so until it ends, and starts again without";
    Ok(Plan { edits, notes: vec![], then })
}

fn is_our_hook(text: &str) -> bool {
    let hook = serde_json::from_str::<Value>(text).unwrap_or_default();
    hook["hook"]["args"][0] == "mesh-node" && hook["hook"]["args"][1] == "hook"
}

/// A file of podman's configuration other than ours that has its own list of directories.
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
    fn a_list_of_directories_is_told_from_a_remark_about_one() {
        assert!(says_where("[engine]\n  hooks_dir = [\"/x\"]\n") && says_where("hooks_dir=[]"));
        assert!(
            !says_where("#hooks_dir = [\"/x\"]\n")
                && !says_where("hooks_directory = 1")
                && !says_where(TEXT.lines().next().unwrap())
        );
    }

    #[test]
    fn what_is_not_from_us_is_in_the_way() {
        assert!(own(HOOK, Some("{}"), is_our_hook).unwrap_err().error.contains("not from us"));
        assert!(own(HOOK, Some(r#"{"hook": {"args": ["mesh-node", "hook", "precreate"]}}"#), is_our_hook).is_ok());
        assert!(own(HOOK, None, is_our_hook).is_ok());
    }
}
