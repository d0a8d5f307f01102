//! Docker: `mesh-node runc-wrapper` as the runtime `mesh`, and that as the default one.

use std::path::Path;

use mesh_proto::message::Refusal;
use serde_json::{Map, Value};

use super::{Edit, Ourselves, Plan, json, plain};

const FILE: &str = "/etc/docker/daemon.json";
/// What the runtime is called in there.
const NAME: &str = "mesh";
/// By what it is known as ours: how the program is called, or what.
const COMMAND: &str = "runc-wrapper";
const LINK: &str = "mesh-runc";
/// What stands behind it, and is Docker's own default.
const RUNC: &str = "runc";
/// What calls something else by its name, and nothing more.
const ENV: &str = "/usr/bin/env";
/// How to be rid of what `--undo` leaves.
const STUB: &str = "the runtime `mesh` stays in daemon.json as a name for runc: containers made with it could not start otherwise. Remove it when `docker inspect --format '{{.HostConfig.Runtime}} {{.Name}}' $(docker ps --all --quiet)` names it no more; restart those that run before you uninstall mesh-node";

pub(super) fn set_up(ourselves: &Ourselves) -> Result<Plan, Refusal> {
    let edit = Edit::of(FILE, |before| enter(before, ourselves).map(Some))?;
    let then = "then: systemctl reload docker. Containers that exist keep their runtime; make those anew that belong to the mesh";
    Ok(Plan { edits: vec![edit], notes: vec![], then })
}

/// `runc`: what stands behind the wrapper by the configuration.
pub(super) fn undo(runc: Option<&Path>) -> Result<Plan, Refusal> {
    let runc = runc.map_or_else(|| Ok(RUNC.to_owned()), plain)?;
    let mut stub = false;
    let edit = Edit::of(FILE, |before| {
        let after = leave(before, &runc)?;
        stub = after.as_deref().is_some_and(has_stub);
        Ok(after)
    })?;
    let mut notes = if stub { vec![STUB.to_owned()] } else { vec![] };
    if stub && !is_runc(&runc) {
        notes.push(format!("it is {runc} that stands behind it, and if it was the default it stays so: runc in its place would be no sandbox"));
    }
    Ok(Plan { edits: vec![edit], notes, then: "then: systemctl reload docker" })
}

fn enter(before: Option<&str>, ourselves: &Ourselves) -> Result<String, Refusal> {
    let text = text_of(before);
    let file = parse(text)?;
    let in_the_way = |what: String, hint: &str| Refusal::new(format!("{FILE} has {what} already"), hint);
    match file.get("default-runtime").map(|name| name.as_str().unwrap_or_default()) {
        None | Some(RUNC | NAME) => {}
        Some(other) => {
            return Err(in_the_way(
                format!("the default runtime {other}"),
                "name its program in the agent's configuration ([containers] runc = \"/PATH\"), take it out there, and try again",
            ));
        }
    }
    let there = runtime(&file)?;
    if there.is_some_and(|runtime| !is_ours(runtime) && !is_stub(runtime)) {
        return Err(in_the_way(format!("another runtime that is called {NAME}"), "call that one otherwise there"));
    }
    // Docker writes path and arguments into a script as they are.
    let program = plain(&ourselves.program)?;
    ourselves.state.as_deref().map(plain).transpose()?;
    let arguments: Vec<String> = [COMMAND.to_owned()].into_iter().chain(ourselves.state_option()).collect();
    change(text, &program, &arguments, NAME)
}

/// The configuration without us. The name of the runtime stays, for the containers that were made with it.
fn leave(before: Option<&str>, runc: &str) -> Result<Option<String>, Refusal> {
    let text = text_of(before);
    let file = parse(text)?;
    if !runtime(&file)?.is_some_and(is_ours) {
        return Ok(before.map(str::to_owned));
    }
    let default = match file.get("default-runtime").and_then(Value::as_str) {
        // Said, since a reload leaves Docker 20.10 with the default of before where none is said.
        Some(NAME) if is_runc(runc) => RUNC,
        other => other.unwrap_or_default(),
    };
    // By way of another program, not as `path`: with arguments Docker 20.10 keeps a script under the runtime's name, and the
    // shims of containers that run call that until these end.
    change(text, ENV, &[runc.to_owned()], default).map(Some)
}

/// Whether a program is what Docker itself takes by default.
fn is_runc(program: &str) -> bool {
    Path::new(program).file_name().is_some_and(|name| name == RUNC)
}

/// The configuration with this as the runtime `mesh`, and with this default if it is one.
fn change(text: &str, path: &str, arguments: &[String], default: &str) -> Result<String, Refusal> {
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
    changed().map_err(|e: serde_json::Error| damaged(&e))
}

fn is_ours(runtime: &Value) -> bool {
    let by_name = || Path::new(runtime.get("path")?.as_str()?).file_name();
    argument(runtime).is_some_and(|first| first == COMMAND) || by_name().is_some_and(|name| name == LINK)
}

/// Whether it is what `--undo` leaves.
fn is_stub(runtime: &Value) -> bool {
    runtime.get("path").is_some_and(|path| path == ENV) && argument(runtime).is_some()
}

fn has_stub(text: &str) -> bool {
    parse(text).is_ok_and(|file| runtime(&file).is_ok_and(|runtime| runtime.is_some_and(is_stub)))
}

fn argument(runtime: &Value) -> Option<&str> {
    runtime.get("runtimeArgs")?.get(0)?.as_str()
}

/// The runtime of our name.
fn runtime(file: &Map<String, Value>) -> Result<Option<&Value>, Refusal> {
    match file.get("runtimes") {
        None => Ok(None),
        Some(Value::Object(runtimes)) => Ok(runtimes.get(NAME)),
        Some(_) => Err(damaged(&"`runtimes` is not an object")),
    }
}

/// What is in the file, where there is one with something in it.
fn text_of(before: Option<&str>) -> &str {
    before.filter(|text| !text.trim().is_empty()).unwrap_or("{}\n")
}

fn parse(text: &str) -> Result<Map<String, Value>, Refusal> {
    serde_json::from_str(text).map_err(|e| damaged(&e))
}

fn damaged(why: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(format!("{FILE} is not what Docker takes: {why}"), "put it right first; it can hold no comments")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ourselves(state: Option<&str>) -> Ourselves {
        Ourselves { program: "/usr/bin/mesh-node".into(), state: state.map(Into::into) }
    }

    fn entered(before: Option<&str>, state: Option<&str>) -> String {
        enter(before, &ourselves(state)).unwrap()
    }

    fn left(before: &str) -> String {
        leave(Some(before), RUNC).unwrap().unwrap()
    }

    #[test]
    fn it_comes_and_goes_and_all_else_stays_to_the_octet() {
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
        // What the operator has put behind the wrapper stays there; what he wrote himself is known by its name.
        let his = r#"{"runtimes": {"mesh": {"path": "/usr/bin/mesh-runc"}}, "default-runtime": "mesh"}"#;
        let file: Value = serde_json::from_str(&leave(Some(his), "/opt/crun").unwrap().unwrap()).unwrap();
        assert_eq!(file["runtimes"]["mesh"], json!({"path": "/usr/bin/env", "runtimeArgs": ["/opt/crun"]}));
        assert_eq!(file["default-runtime"], "mesh", "runc would be another one than was chosen");
        let file: Value = serde_json::from_str(&leave(Some(his), "/usr/local/bin/runc").unwrap().unwrap()).unwrap();
        assert_eq!(file["default-runtime"], "runc");
        assert_eq!(leave(None, RUNC), Ok(None));
    }

    #[test]
    fn what_is_somebody_elses_is_in_the_way() {
        for (before, words) in [
            (r#"{"default-runtime": "nvidia"}"#, "the default runtime nvidia"),
            (r#"{"runtimes": {"mesh": {"path": "/opt/other"}}}"#, "another runtime that is called mesh"),
            (r#"{"runtimes": []}"#, "not an object"),
            ("{", "not what Docker takes"),
            ("{\n  // ours\n}", "line 2"),
        ] {
            let refusal = enter(Some(before), &ourselves(None)).unwrap_err();
            assert!(refusal.error.contains(words) && refusal.hint.is_some(), "{}", refusal.error);
        }
        let theirs = r#"{"runtimes": {"mesh": {"path": "/opt/other"}}, "default-runtime": "mesh"}"#;
        assert_eq!(leave(Some(theirs), RUNC), Ok(Some(theirs.to_owned())));
        let odd = Ourselves { program: "/opt/my programs/mesh-node".into(), state: None };
        assert!(enter(None, &odd).unwrap_err().error.contains("/opt/my programs/mesh-node"));
    }
}
