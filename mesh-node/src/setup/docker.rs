//! Docker: `mesh-node runc-wrapper` as the runtime `mesh`, which becomes the default.

use std::path::Path;

use mesh_process::edit::Edit;
use serde::de::Error as _;
use serde_json::{Map, Value};

use super::{Caller, Plan, SetupError, error::Occupied, json, plain};

const FILE: &str = "/etc/docker/daemon.json";
/// The runtime's name in it.
const NAME: &str = "mesh";
/// The marks of mesh's runtime: its first argument, or the name of its program.
const COMMAND: &str = "runc-wrapper";
const LINK: &str = "mesh-runc";
/// Docker's own default runtime, which the wrapper runs.
const RUNC: &str = "runc";
/// A program that only runs another one.
const ENV: &str = "/usr/bin/env";
/// How to remove what `--undo` leaves.
const STUB: &str = "the runtime `mesh` stays in daemon.json as a name for runc: containers made with it could not start otherwise. Remove it when `docker inspect --format '{{.HostConfig.Runtime}} {{.Name}}' $(docker ps --all --quiet)` names it no more; restart those that run before you uninstall mesh-node";

pub(super) fn set_up(caller: &Caller) -> Result<Plan, SetupError> {
    let edit = Edit::of(FILE, |before| enter(before, caller).map(Some))?;
    let then =
        "next: systemctl reload docker. Existing containers keep their runtime; recreate those that belong to the mesh";
    Ok(Plan { edits: vec![edit], notes: vec![], then })
}

/// `runc`: the runtime that the configuration names for the wrapper.
pub(super) fn undo(runc: Option<&Path>) -> Result<Plan, SetupError> {
    let runc = runc.map_or_else(|| Ok(RUNC.to_owned()), plain)?;
    let mut stub = false;
    let edit = Edit::of::<SetupError>(FILE, |before| {
        let after = leave(before, &runc)?;
        stub = after.as_deref().is_some_and(has_stub);
        Ok(after)
    })?;
    let mut notes = if stub { vec![STUB.to_owned()] } else { vec![] };
    if stub && !is_runc(&runc) {
        notes.push(format!("mesh-runc runs {runc}, so `mesh` stays the default runtime if it was: runc in its place would be no sandbox"));
    }
    Ok(Plan { edits: vec![edit], notes, then: "next: systemctl reload docker" })
}

fn enter(before: Option<&str>, caller: &Caller) -> Result<String, SetupError> {
    let text = text_of(before);
    let file = parse(text)?;
    let occupied = |entry| SetupError::Occupied { file: FILE, entry };
    match file.get("default-runtime").map(|name| name.as_str().unwrap_or_default()) {
        None | Some(RUNC | NAME) => {}
        Some(other) => return Err(occupied(Occupied::Default(other.to_owned()))),
    }
    let there = runtime(&file)?;
    if there.is_some_and(|runtime| !is_ours(runtime) && !is_stub(runtime)) {
        return Err(occupied(Occupied::Name(NAME)));
    }
    // Docker writes path and arguments into a script without quotes.
    let program = plain(&caller.program)?;
    caller.state.as_deref().map(plain).transpose()?;
    let arguments: Vec<String> = [COMMAND.to_owned()].into_iter().chain(caller.state_option()).collect();
    change(text, &program, &arguments, NAME)
}

/// The configuration without the wrapper. The runtime's name stays, for the containers that were made with it.
fn leave(before: Option<&str>, runc: &str) -> Result<Option<String>, SetupError> {
    let text = text_of(before);
    let file = parse(text)?;
    if !runtime(&file)?.is_some_and(is_ours) {
        return Ok(before.map(str::to_owned));
    }
    let default = match file.get("default-runtime").and_then(Value::as_str) {
        // Explicit, because Docker 20.10 keeps the previous default at a reload if none is set.
        Some(NAME) if is_runc(runc) => RUNC,
        other => other.unwrap_or_default(),
    };
    // With arguments Docker 20.10 keeps a script under the runtime's name, which the shims of running containers call until those
    // end. A `path` alone would remove the script, so another program is the path and runc its argument.
    change(text, ENV, &[runc.to_owned()], default).map(Some)
}

/// Whether a program is Docker's default runtime.
fn is_runc(program: &str) -> bool {
    Path::new(program).file_name().is_some_and(|name| name == RUNC)
}

/// The configuration with this runtime `mesh`, and with this default unless it is empty.
fn change(text: &str, path: &str, arguments: &[String], default: &str) -> Result<String, SetupError> {
    let quoted = |text: &str| Value::from(text).to_string();
    let arguments: Vec<String> = arguments.iter().map(|argument| quoted(argument)).collect();
    let runtime = format!("{{\"path\": {}, \"runtimeArgs\": [{}]}}", quoted(path), arguments.join(", "));
    let changed = || {
        let runtimes = json::get(text, "runtimes")?.unwrap_or("{}");
        let is_it = |there: &str| {
            let value = |text: &str| serde_json::from_str::<Value>(text).ok();
            value(there) == value(&runtime)
        };
        let mut text = match json::get(runtimes, NAME)? {
            Some(there) if is_it(there) => text.to_owned(),
            None if runtimes == "{}" => json::set(text, "runtimes", &format!("{{\"{NAME}\": {runtime}}}"))?,
            _ => json::set(text, "runtimes", &json::set(runtimes, NAME, &runtime)?)?,
        };
        if !default.is_empty() {
            text = json::set(&text, "default-runtime", &quoted(default))?;
        }
        Ok(text)
    };
    changed().map_err(damaged)
}

fn is_ours(runtime: &Value) -> bool {
    let by_name = || Path::new(runtime.get("path")?.as_str()?).file_name();
    argument(runtime).is_some_and(|first| first == COMMAND) || by_name().is_some_and(|name| name == LINK)
}

/// Whether a runtime is what `--undo` leaves.
fn is_stub(runtime: &Value) -> bool {
    runtime.get("path").is_some_and(|path| path == ENV) && argument(runtime).is_some()
}

fn has_stub(text: &str) -> bool {
    parse(text).is_ok_and(|file| runtime(&file).is_ok_and(|runtime| runtime.is_some_and(is_stub)))
}

fn argument(runtime: &Value) -> Option<&str> {
    runtime.get("runtimeArgs")?.get(0)?.as_str()
}

/// The runtime with the wrapper's name.
fn runtime(file: &Map<String, Value>) -> Result<Option<&Value>, SetupError> {
    match file.get("runtimes") {
        None => Ok(None),
        Some(Value::Object(runtimes)) => Ok(runtimes.get(NAME)),
        Some(_) => Err(damaged(serde_json::Error::custom("`runtimes` is not an object"))),
    }
}

/// The text of the file; an empty object if there is none or it is blank.
fn text_of(before: Option<&str>) -> &str {
    before.filter(|text| !text.trim().is_empty()).unwrap_or("{}\n")
}

fn parse(text: &str) -> Result<Map<String, Value>, SetupError> {
    serde_json::from_str(text).map_err(damaged)
}

fn damaged(error: serde_json::Error) -> SetupError {
    SetupError::DockerConfig { file: FILE, error }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::hint::Hint as _;

    fn caller(state: Option<&str>) -> Caller {
        Caller { program: "/usr/bin/mesh-node".into(), state: state.map(Into::into) }
    }

    fn entered(before: Option<&str>, state: Option<&str>) -> String {
        enter(before, &caller(state)).unwrap()
    }

    fn left(before: &str) -> String {
        leave(Some(before), RUNC).unwrap().unwrap()
    }

    #[test]
    fn it_comes_and_goes_and_all_else_stays_to_the_byte() {
        let fresh = "{\n  \"runtimes\": {\"mesh\": {\"path\": \"/usr/bin/mesh-node\", \"runtimeArgs\": [\"runc-wrapper\"]}},\n  \"default-runtime\": \"mesh\"\n}\n";
        assert_eq!(entered(None, None), fresh);
        assert_eq!(entered(Some(" \n"), None), fresh);
        let before = "{\n    \"dns\": [ \"9.9.9.9\" ],\n    \"default-runtime\": \"runc\",\n    \"runtimes\": {\"kata\": {\"path\": \"/k\"}}\n}";
        let after = entered(Some(before), Some("/s"));
        let added =
            ", \"mesh\": {\"path\": \"/usr/bin/mesh-node\", \"runtimeArgs\": [\"runc-wrapper\", \"--state\", \"/s\"]}}";
        assert_eq!(after, before.replace("\"/k\"}}", &format!("\"/k\"}}{added}")).replace("\"runc\",", "\"mesh\","),);
        assert_eq!(entered(Some(&after), Some("/s")), after, "once more changes nothing");
        let stub = ", \"mesh\": {\"path\": \"/usr/bin/env\", \"runtimeArgs\": [\"runc\"]}}";
        assert_eq!(left(&after), before.replace("\"/k\"}}", &format!("\"/k\"}}{stub}")));
        assert_eq!(entered(Some(&left(&after)), Some("/s")), after, "what is left is no one else's");
    }

    #[test]
    fn the_name_stays_as_runcs_and_undone_twice_is_the_same() {
        let undone = left(&entered(None, None));
        let file: Value = serde_json::from_str(&undone).unwrap();
        let stub = json!({"path": "/usr/bin/env", "runtimeArgs": ["runc"]});
        assert_eq!(file, json!({"default-runtime": "runc", "runtimes": {"mesh": stub}}));
        assert!(has_stub(&undone));
        assert_eq!(left(&undone), undone);
        // The runtime that the operator configured for the wrapper stays; a wrapper that the operator added is known by its name.
        let added = r#"{"runtimes": {"mesh": {"path": "/usr/bin/mesh-runc"}}, "default-runtime": "mesh"}"#;
        let file: Value = serde_json::from_str(&leave(Some(added), "/opt/crun").unwrap().unwrap()).unwrap();
        assert_eq!(file["runtimes"]["mesh"], json!({"path": "/usr/bin/env", "runtimeArgs": ["/opt/crun"]}));
        assert_eq!(file["default-runtime"], "mesh", "runc would be another one than was chosen");
        let file: Value = serde_json::from_str(&leave(Some(added), "/usr/local/bin/runc").unwrap().unwrap()).unwrap();
        assert_eq!(file["default-runtime"], "runc");
        assert_eq!(leave(None, RUNC).unwrap(), None);
    }

    #[test]
    fn another_runtime_prevents_the_change() {
        for (before, words) in [
            (r#"{"default-runtime": "nvidia"}"#, "the default runtime nvidia"),
            (r#"{"runtimes": {"mesh": {"path": "/opt/other"}}}"#, "another runtime with the name mesh"),
            (r#"{"runtimes": []}"#, "not an object"),
            ("{", "not what Docker takes"),
            ("{\n  // ours\n}", "line 2"),
        ] {
            let refusal = enter(Some(before), &caller(None)).unwrap_err();
            assert!(refusal.to_string().contains(words) && refusal.hint().is_some(), "{refusal}");
        }
        let theirs = r#"{"runtimes": {"mesh": {"path": "/opt/other"}}, "default-runtime": "mesh"}"#;
        assert_eq!(leave(Some(theirs), RUNC).unwrap().as_deref(), Some(theirs));
        let odd = Caller { program: "/opt/my programs/mesh-node".into(), state: None };
        assert!(enter(None, &odd).unwrap_err().to_string().contains("/opt/my programs/mesh-node"));
    }
}
