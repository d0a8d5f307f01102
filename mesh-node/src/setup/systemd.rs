//! systemd: the agent's unit, and the unit that makes a systemd service an instance.

use std::path::Path;

use mesh_process::{edit::Edit, systemd::Unit};

use super::{Caller, Plan, SetupError, gone, own, plain};

/// The agent's unit.
pub(crate) const AGENT: Unit = Unit { name: "mesh-node" };
const UNITS: [(Unit, &str); 2] = [
    (AGENT, include_str!("../../../examples/systemd/mesh-node.service")),
    (Unit { name: "mesh-attach@" }, include_str!("../../../examples/systemd/mesh-attach@.service")),
];
/// The first line of the units that `setup systemd` writes.
const MARK: &str = "# Written by `mesh-node setup systemd`, which takes it out again with --undo.\n";
/// The first line of those that `up` writes.
const MARK_OF_UP: &str =
    "# Written by `mesh-node up`; `mesh-node leave` takes it out again, and so does `mesh-node up --undo`.\n";
/// The program and state directory in the units, which are replaced by the actual ones.
const PROGRAM: &str = "/usr/bin/mesh-node";
const STATE: &str = "/var/lib/mesh-node";

pub(super) fn set_up(caller: &Caller) -> Result<Plan, SetupError> {
    if let Some(unit) = UNITS.iter().find_map(|(unit, _)| unit.packaged()) {
        return Err(SetupError::Packaged { unit });
    }
    let edit = |(unit, text): (Unit, &str)| {
        let (path, text) = (unit.own(), text_of(text, caller)?);
        Edit::of(&path, |before| own(&path, before, is_ours).map(|()| Some(format!("{MARK}{text}"))))
    };
    let edits = UNITS.map(edit).into_iter().collect::<Result<_, _>>()?;
    let then = "next: systemctl daemon-reload && systemctl enable --now mesh-node, once this machine has joined (mesh-node join URL TOKEN)";
    Ok(Plan { edits, notes: vec![], then })
}

pub(super) fn undo() -> Result<Plan, SetupError> {
    let edits = UNITS.map(|(unit, _)| Edit::of(unit.own(), gone(is_ours)));
    let then = "next: systemctl disable --now mesh-node; systemctl daemon-reload. Instances stay attached: `mesh-node leave` detaches them";
    Ok(Plan { edits: edits.into_iter().collect::<Result<_, _>>()?, notes: vec![], then })
}

/// The units for `up`, where neither a package nor the operator has brought them.
pub(super) fn bring_up(caller: &Caller) -> Result<Vec<Edit>, SetupError> {
    if let Some(unit) = AGENT.packaged() {
        return match &caller.state {
            None => Ok(vec![]),
            Some(state) => Err(SetupError::OtherState { unit, state: state.clone() }),
        };
    }
    let state = caller.state.as_deref().unwrap_or(Path::new(STATE));
    let edit = |(unit, text): (Unit, &str)| {
        let text = text_of(text, caller)?;
        Edit::of(unit.own(), |before| match before {
            Some(there) if is_ours(there) && !is_of(there, state) => {
                Err(SetupError::OtherState { unit: unit.own(), state: state.to_owned() })
            }
            _ => Ok(Some(brought_up(before, &text))),
        })
    };
    UNITS.map(edit).into_iter().collect()
}

/// A unit of `setup systemd` stays one, and the operator's own stays as it is.
fn brought_up(before: Option<&str>, text: &str) -> String {
    match before {
        Some(there) if there.starts_with(MARK) => format!("{MARK}{text}"),
        Some(there) if !is_ours(there) => there.to_owned(),
        _ => format!("{MARK_OF_UP}{text}"),
    }
}

/// Takes out the units that `up` has written for this agent.
pub(super) fn take_down(caller: &Caller) -> Result<Vec<Edit>, SetupError> {
    let state = caller.state.as_deref().unwrap_or(Path::new(STATE));
    let kept = |before: Option<&str>| Ok(before.filter(|text| !is_by_up(text, state)).map(str::to_owned));
    UNITS.map(|(unit, _)| Edit::of(unit.own(), kept)).into_iter().collect()
}

/// Whether `up` has written a unit for the agent of this state directory.
fn is_by_up(text: &str, state: &Path) -> bool {
    text.starts_with(MARK_OF_UP) && is_of(text, state)
}

/// Whether a unit is for the agent of this state directory.
fn is_of(text: &str, state: &Path) -> bool {
    let mut words = text.split_whitespace();
    std::iter::from_fn(|| words.find(|word| *word == "--state").and(words.next()))
        .any(|named| Path::new(named) == state)
}

fn is_ours(text: &str) -> bool {
    text.starts_with(MARK) || text.starts_with(MARK_OF_UP)
}

/// A unit with the path of this program and its state directory.
fn text_of(text: &str, caller: &Caller) -> Result<String, SetupError> {
    let text = text.replace(PROGRAM, &plain(&caller.program)?);
    Ok(match &caller.state {
        None => text,
        Some(state) => {
            let lines = text.lines().filter(|line| !line.starts_with("StateDirectory")).map(|line| format!("{line}\n"));
            lines.collect::<String>().replace(STATE, &plain(state)?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(program: &str, state: Option<&str>) -> Result<Vec<String>, SetupError> {
        let caller = Caller { program: program.into(), state: state.map(Into::into) };
        UNITS.iter().map(|(_, text)| text_of(text, &caller)).collect()
    }

    #[test]
    fn units_are_unchanged_for_the_packaged_paths() {
        for (unit, (_, text)) in units("/usr/bin/mesh-node", None).unwrap().iter().zip(UNITS) {
            assert_eq!(unit, text);
            assert!(!is_ours(text));
        }
    }

    #[test]
    fn another_program_and_state_directory_are_everywhere() {
        let units = units("/opt/mesh/mesh-node", Some("/srv/agent")).unwrap();
        for unit in &units {
            assert!(!unit.contains(PROGRAM) && !unit.contains(STATE), "{unit}");
            assert!(unit.contains("/opt/mesh/mesh-node ") && unit.contains(" /srv/agent"), "{unit}");
        }
        assert!(units[0].contains("\nConditionPathExists=/srv/agent/identity.json\n"));
        assert!(!units[0].contains("StateDirectory"), "systemd would make it in /var/lib");
    }

    #[test]
    fn a_path_with_special_characters_is_refused() {
        for path in ["/opt/my programs/mesh-node", "/opt/%i/mesh-node", "/opt/$HOME/mesh-node"] {
            assert!(units(path, None).unwrap_err().to_string().contains(path));
        }
    }

    #[test]
    fn up_takes_out_what_it_has_written_for_the_same_agent_and_nothing_else() {
        let system = Path::new(STATE);
        for unit in units("/usr/bin/mesh-node", None).unwrap() {
            let by_up = brought_up(None, &unit);
            assert_eq!(brought_up(Some(&by_up), &unit), by_up, "once more changes nothing");
            assert!(is_ours(&by_up) && is_by_up(&by_up, system));
            assert!(!is_by_up(&by_up, Path::new("/srv/agent")), "another agent leaves");
            let by_setup = format!("{MARK}{unit}");
            assert_eq!(brought_up(Some(&by_setup), &unit), by_setup);
            assert_eq!(brought_up(Some(&unit), "another one"), unit, "the operator's own");
            assert!(!is_by_up(&by_setup, system) && !is_by_up(&unit, system));
        }
        let there = brought_up(None, &units("/usr/bin/mesh-node", Some("/srv/agent")).unwrap()[0]);
        assert!(is_by_up(&there, Path::new("/srv/agent")) && !is_by_up(&there, system));
    }
}
