//! CDI: the services with devices, in the agent's configuration. The file belongs to the operator, so this module changes one marked
//! line and keeps the rest, to the byte.

use std::{collections::BTreeSet, path::Path};

use mesh_process::edit::Edit;
use mesh_proto::ServicePath;
use serde_json::Value;

use super::{Plan, SetupError, line::Line};
use crate::{agent::cdi, config::Config};

/// The line.
const LINE: Line = Line { table: "[containers]", key: "cdi", mark: " # by `mesh-node setup cdi`" };

pub(super) fn set_up(configuration: &Path, services: &[ServicePath]) -> Result<Plan, SetupError> {
    let edit = Edit::of(configuration, |before| enter(before.unwrap_or_default(), configuration, services).map(Some))?;
    let then = "next: systemctl restart mesh-node; attached instances stay. podman then has these devices; Docker 25 to 28.1 needs {\"features\": {\"cdi\": true}} in its daemon.json";
    Ok(Plan { edits: vec![edit], notes: vec![], then })
}

pub(super) fn undo(configuration: &Path) -> Result<Plan, SetupError> {
    let line = Edit::of(configuration, |before| match before {
        Some(text) => leave(text, configuration),
        None => Ok(None),
    })?;
    // An agent without these services removes the file too, but perhaps none starts again.
    let ours = |text: &str| serde_json::from_str::<Value>(text).is_ok_and(|file| cdi::is_ours(&file));
    let devices = Edit::of::<SetupError>(cdi::FILE, |before| match before.filter(|_| line.changes()) {
        Some(text) if ours(text) => Ok(None),
        _ => Ok(before.map(str::to_owned)),
    })?;
    let then = "next: systemctl restart mesh-node; attached instances stay";
    Ok(Plan { edits: vec![line, devices], notes: vec![], then })
}

/// The configuration with these services and those that were added before.
fn enter(text: &str, path: &Path, services: &[ServicePath]) -> Result<String, SetupError> {
    let mut config = Config::parse(text, path)?;
    let listed = &config.containers.cdi;
    let all: BTreeSet<&ServicePath> = listed.iter().chain(services).collect();
    if all.is_empty() {
        return Err(SetupError::NoService);
    }
    if all.len() == listed.iter().collect::<BTreeSet<_>>().len() {
        return Ok(text.to_owned());
    }
    let names: Vec<String> = all.iter().map(|service| toml::Value::String(service.to_string()).to_string()).collect();
    let value = format!("[{}]", names.join(", "));
    config.containers.cdi = all.into_iter().cloned().collect();
    LINE.enter(text, path, &value, &config)
}

/// The configuration without the added lines; `None` if nothing else is left.
fn leave(text: &str, path: &Path) -> Result<Option<String>, SetupError> {
    let mut config = Config::parse(text, path)?;
    config.containers.cdi.clear();
    LINE.leave(text, path, || Ok(config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hint::Hint as _;

    const FILE: &str = "/etc/mesh-node/config.toml";

    fn entered(before: &str, services: &[&str]) -> Result<String, SetupError> {
        let services: Vec<ServicePath> = services.iter().map(|service| service.parse().unwrap()).collect();
        enter(before, Path::new(FILE), &services)
    }

    fn left(text: &str) -> Option<String> {
        leave(text, Path::new(FILE)).unwrap()
    }

    #[test]
    fn it_comes_and_goes_and_the_operators_lines_stay_to_the_byte() {
        for before in [
            "",
            "# nothing yet\n",
            "# ours\n[containers]\nfail = \"open\"   # for now\n\n[containers.sources]\ncompose = [\"shop\"]\n",
            "[containers.sources]\npods = [\"shop\"]\n",
        ] {
            let after = entered(before, &["shop/db"]).unwrap();
            assert_eq!(Config::parse(&after, Path::new(FILE)).unwrap().containers.cdi, ["shop/db".parse().unwrap()]);
            assert_eq!(entered(&after, &[]).unwrap(), after, "once more changes nothing");
            let more = entered(&after, &["shop/my \"db\""]).unwrap();
            assert_eq!(more.lines().count(), after.lines().count(), "{more}");
            assert_eq!(left(&more).unwrap_or_default(), before);
        }
        assert_eq!(left(&entered("", &["shop/db"]).unwrap()), None, "a file with nothing but ours");
    }

    #[test]
    fn settings_below_the_added_heading_keep_a_heading() {
        let after = entered("", &["shop/db"]).unwrap() + "fail = \"open\"\n";
        assert_eq!(left(&after).unwrap(), "[containers]\nfail = \"open\"\n");
    }

    #[test]
    fn the_operators_own_list_is_kept() {
        let theirs = "[containers]\ncdi = [\"shop/app\"]\n";
        assert_eq!(entered(theirs, &["shop/app"]).unwrap(), theirs, "it is there already");
        let refusal = entered(theirs, &["shop/db"]).unwrap_err();
        assert_eq!(
            refusal.hint().as_deref(),
            Some("write it yourself, under [containers]: cdi = [\"shop/app\", \"shop/db\"]")
        );
        assert_eq!(left(theirs).as_deref(), Some(theirs));
        assert!(entered("containers = { fail = \"open\" }\n", &["shop/db"]).is_err());
        assert!(entered("", &[]).unwrap_err().hint().unwrap().contains("--service shop/db"));
        assert!(entered("containers = [", &["shop/db"]).unwrap_err().to_string().contains("line 1"));
    }
}
