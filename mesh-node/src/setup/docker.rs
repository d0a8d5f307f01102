//! Docker: `mesh-node runc-wrapper` as the runtime `mesh`, and that as the default one.

use mesh_proto::message::Refusal;
use serde_json::{Map, Value, json};

use super::{Edit, Ourselves, Plan};

const FILE: &str = "/etc/docker/daemon.json";
/// What the runtime is called in there.
const NAME: &str = "mesh";
/// By what it is known as ours.
const COMMAND: &str = "runc-wrapper";

pub(super) fn set_up(ourselves: &Ourselves) -> Result<Plan, Refusal> {
    let edit = Edit::of(FILE, |before| enter(before, ourselves).map(Some))?;
    let then = "then: systemctl reload docker. Containers that exist keep their runtime; make those anew that belong to the mesh";
    Ok(Plan { edits: vec![edit], then })
}

pub(super) fn undo() -> Result<Plan, Refusal> {
    let edit = Edit::of(FILE, leave)?;
    let then = "then: systemctl reload docker. Containers that were made meanwhile ask for the runtime `mesh` and won't start without it: make them anew";
    Ok(Plan { edits: vec![edit], then })
}

fn enter(before: Option<&str>, ourselves: &Ourselves) -> Result<String, Refusal> {
    let mut file = parse(before)?;
    let in_the_way = |what: String, hint: &str| Refusal::new(format!("{FILE} has {what} already"), hint);
    match file.get("default-runtime").map(|name| name.as_str().unwrap_or_default()) {
        None | Some("runc" | NAME) => {}
        Some(other) => {
            return Err(in_the_way(
                format!("the default runtime {other}"),
                "name its program in the agent's configuration ([containers] runc = \"/PATH\"), take it out there, and try again",
            ));
        }
    }
    let runtimes = file.entry("runtimes").or_insert_with(|| json!({}));
    let runtimes = runtimes.as_object_mut().ok_or_else(|| damaged(&"`runtimes` is not an object"))?;
    if runtimes.get(NAME).is_some_and(|runtime| !is_ours(runtime)) {
        return Err(in_the_way(format!("another runtime that is called {NAME}"), "call that one otherwise there"));
    }
    let arguments: Vec<String> = [COMMAND.to_owned()].into_iter().chain(ourselves.state_option()).collect();
    runtimes.insert(NAME.into(), json!({"path": ourselves.program, "runtimeArgs": arguments}));
    file.insert("default-runtime".into(), NAME.into());
    print(file)
}

fn leave(before: Option<&str>) -> Result<Option<String>, Refusal> {
    let mut file = parse(before)?;
    let ours = file.get("runtimes").and_then(|runtimes| runtimes.get(NAME)).is_some_and(is_ours);
    if !ours {
        return Ok(before.map(str::to_owned));
    }
    if let Some(runtimes) = file.get_mut("runtimes").and_then(Value::as_object_mut) {
        runtimes.remove(NAME);
        if runtimes.is_empty() {
            file.remove("runtimes");
        }
    }
    if file.get("default-runtime").is_some_and(|name| name == NAME) {
        file.remove("default-runtime");
    }
    if file.is_empty() { Ok(None) } else { print(file).map(Some) }
}

fn is_ours(runtime: &Value) -> bool {
    runtime.get("runtimeArgs").and_then(|arguments| arguments.get(0)).is_some_and(|first| first == COMMAND)
}

fn parse(text: Option<&str>) -> Result<Map<String, Value>, Refusal> {
    match text.map(str::trim) {
        None | Some("") => Ok(Map::new()),
        Some(text) => serde_json::from_str(text).map_err(|e| damaged(&e)),
    }
}

fn damaged(why: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(format!("{FILE} is not what Docker takes: {why}"), "put it right first")
}

fn print(file: Map<String, Value>) -> Result<String, Refusal> {
    let text = serde_json::to_string_pretty(&Value::Object(file)).map_err(|e| Refusal::bare(e.to_string()))?;
    Ok(text + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ourselves(state: Option<&str>) -> Ourselves {
        Ourselves { program: "/usr/bin/mesh-node".into(), state: state.map(Into::into) }
    }

    fn entered(before: Option<&str>, state: Option<&str>) -> Value {
        serde_json::from_str(&enter(before, &ourselves(state)).unwrap()).unwrap()
    }

    #[test]
    fn it_comes_and_goes_and_all_else_stays() {
        let ours = json!({"path": "/usr/bin/mesh-node", "runtimeArgs": ["runc-wrapper"]});
        assert_eq!(entered(None, None), json!({"default-runtime": "mesh", "runtimes": {"mesh": ours}}));
        let before = r#"{"dns": ["9.9.9.9"], "default-runtime": "runc", "runtimes": {"kata": {"path": "/k"}}}"#;
        let after = entered(Some(before), Some("/s"));
        assert_eq!(after["runtimes"]["mesh"]["runtimeArgs"], json!(["runc-wrapper", "--state", "/s"]));
        assert_eq!((&after["dns"][0], &after["runtimes"]["kata"]["path"]), (&json!("9.9.9.9"), &json!("/k")));
        assert_eq!(entered(Some(&after.to_string()), Some("/s")), after, "once more changes nothing");
        let left = leave(Some(&after.to_string())).unwrap().unwrap();
        let left: Value = serde_json::from_str(&left).unwrap();
        assert_eq!(left, json!({"dns": ["9.9.9.9"], "runtimes": {"kata": {"path": "/k"}}}));
        assert_eq!(leave(Some(&entered(Some(" \n"), None).to_string())), Ok(None), "a file with nothing but ours");
    }

    #[test]
    fn what_is_somebody_elses_is_in_the_way() {
        for (before, words) in [
            (r#"{"default-runtime": "nvidia"}"#, "the default runtime nvidia"),
            (r#"{"runtimes": {"mesh": {"path": "/opt/other"}}}"#, "another runtime that is called mesh"),
            (r#"{"runtimes": []}"#, "not an object"),
            ("{", "not what Docker takes"),
        ] {
            let refusal = enter(Some(before), &ourselves(None)).unwrap_err();
            assert!(refusal.error.contains(words) && refusal.hint.is_some(), "{}", refusal.error);
        }
        let theirs = r#"{"runtimes": {"mesh": {"path": "/opt/other"}}, "default-runtime": "mesh"}"#;
        assert_eq!(leave(Some(theirs)), Ok(Some(theirs.to_owned())));
        assert_eq!(leave(None), Ok(None));
    }
}
