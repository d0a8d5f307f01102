//! systemd: the agent's unit, and the unit that makes a systemd service an instance.

use std::path::Path;

use super::{Caller, Edit, Plan, SetupError, gone, own, plain};

const UNITS: [(&str, &str); 2] = [
    ("mesh-node.service", include_str!("../../../examples/systemd/mesh-node.service")),
    ("mesh-attach@.service", include_str!("../../../examples/systemd/mesh-attach@.service")),
];
const DIRECTORY: &str = "/etc/systemd/system";
/// The directories of packaged units.
const PACKAGED: [&str; 2] = ["/usr/lib/systemd/system", "/lib/systemd/system"];
/// The first line of the units that this module writes.
const MARK: &str = "# Written by `mesh-node setup systemd`, which takes it out again with --undo.\n";
/// The program and state directory in the units, which are replaced by the actual ones.
const PROGRAM: &str = "/usr/bin/mesh-node";
const STATE: &str = "/var/lib/mesh-node";

pub(super) fn set_up(caller: &Caller) -> Result<Plan, SetupError> {
    let packaged = UNITS.iter().flat_map(|(name, _)| PACKAGED.map(|directory| Path::new(directory).join(name)));
    if let Some(unit) = packaged.into_iter().find(|unit| unit.exists()) {
        return Err(SetupError::Packaged { unit });
    }
    let edit = |(name, text): (&str, &str)| {
        let path = format!("{DIRECTORY}/{name}");
        let unit = unit(text, caller)?;
        Edit::of(&path, |before| own(&path, before, is_ours).map(|()| Some(unit)))
    };
    let edits = UNITS.map(edit).into_iter().collect::<Result<_, _>>()?;
    let then = "next: systemctl daemon-reload && systemctl enable --now mesh-node, once this machine has joined (mesh-node join URL TOKEN)";
    Ok(Plan { edits, notes: vec![], then })
}

pub(super) fn undo() -> Result<Plan, SetupError> {
    let edits = UNITS.map(|(name, _)| Edit::of(format!("{DIRECTORY}/{name}"), gone(is_ours)));
    let then = "next: systemctl disable --now mesh-node; systemctl daemon-reload. Instances stay attached: `mesh-node leave` detaches them";
    Ok(Plan { edits: edits.into_iter().collect::<Result<_, _>>()?, notes: vec![], then })
}

fn is_ours(text: &str) -> bool {
    text.starts_with(MARK)
}

/// A unit with the path of this program and its state directory.
fn unit(text: &str, caller: &Caller) -> Result<String, SetupError> {
    let text = text.replace(PROGRAM, &plain(&caller.program)?);
    let text = match &caller.state {
        None => text,
        Some(state) => {
            let lines = text.lines().filter(|line| !line.starts_with("StateDirectory")).map(|line| format!("{line}\n"));
            lines.collect::<String>().replace(STATE, &plain(state)?)
        }
    };
    Ok(format!("{MARK}{text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(program: &str, state: Option<&str>) -> Result<Vec<String>, SetupError> {
        let caller = Caller { program: program.into(), state: state.map(Into::into) };
        UNITS.iter().map(|(_, text)| unit(text, &caller)).collect()
    }

    #[test]
    fn units_are_unchanged_for_the_packaged_paths() {
        for (unit, (_, text)) in units("/usr/bin/mesh-node", None).unwrap().iter().zip(UNITS) {
            assert_eq!(unit.strip_prefix(MARK), Some(text));
            assert!(is_ours(unit) && !is_ours(text));
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
}
