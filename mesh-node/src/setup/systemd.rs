//! systemd: the agent's unit, and the one that makes a systemd service an instance.

use std::path::Path;

use mesh_proto::message::Refusal;

use super::{Edit, Ourselves, Plan, gone, own, plain};

const UNITS: [(&str, &str); 2] = [
    ("mesh-node.service", include_str!("../../../examples/systemd/mesh-node.service")),
    ("mesh-attach@.service", include_str!("../../../examples/systemd/mesh-attach@.service")),
];
const DIRECTORY: &str = "/etc/systemd/system";
/// Where packages put theirs.
const PACKAGED: [&str; 2] = ["/usr/lib/systemd/system", "/lib/systemd/system"];
/// What they begin with, by which they are known as ours.
const MARK: &str = "# Written by `mesh-node setup systemd`, which takes it out again with --undo.\n";
/// What the units have where a program, or a state directory, of our own may have to stand.
const PROGRAM: &str = "/usr/bin/mesh-node";
const STATE: &str = "/var/lib/mesh-node";

pub(super) fn set_up(ourselves: &Ourselves) -> Result<Plan, Refusal> {
    let packaged = UNITS.iter().flat_map(|(name, _)| PACKAGED.map(|directory| Path::new(directory).join(name)));
    if let Some(unit) = packaged.into_iter().find(|unit| unit.exists()) {
        let hint = "there is nothing to set up: systemctl enable --now mesh-node";
        return Err(Refusal::new(format!("a package has brought {} already", unit.display()), hint));
    }
    let edit = |(name, text): (&str, &str)| {
        let path = format!("{DIRECTORY}/{name}");
        let unit = unit(text, ourselves)?;
        Edit::of(&path, |before| own(&path, before, is_ours).map(|()| Some(unit)))
    };
    let edits = UNITS.map(edit).into_iter().collect::<Result<_, _>>()?;
    let then = "then: systemctl daemon-reload && systemctl enable --now mesh-node, once this machine has joined (mesh-node join URL TOKEN)";
    Ok(Plan { edits, notes: vec![], then })
}

pub(super) fn undo() -> Result<Plan, Refusal> {
    let edits = UNITS.map(|(name, _)| Edit::of(format!("{DIRECTORY}/{name}"), gone(is_ours)));
    let then = "then: systemctl disable --now mesh-node; systemctl daemon-reload. Instances stay attached: `mesh-node leave` detaches them";
    Ok(Plan { edits: edits.into_iter().collect::<Result<_, _>>()?, notes: vec![], then })
}

fn is_ours(text: &str) -> bool {
    text.starts_with(MARK)
}

/// A unit for this program and its state directory.
fn unit(text: &str, ourselves: &Ourselves) -> Result<String, Refusal> {
    let text = text.replace(PROGRAM, &plain(&ourselves.program)?);
    let text = match &ourselves.state {
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

    fn units(program: &str, state: Option<&str>) -> Result<Vec<String>, Refusal> {
        let ourselves = Ourselves { program: program.into(), state: state.map(Into::into) };
        UNITS.iter().map(|(_, text)| unit(text, &ourselves)).collect()
    }

    #[test]
    fn as_they_are_for_what_is_where_packages_put_it() {
        for (unit, (_, text)) in units("/usr/bin/mesh-node", None).unwrap().iter().zip(UNITS) {
            assert_eq!(unit.strip_prefix(MARK), Some(text));
            assert!(is_ours(unit) && !is_ours(text));
        }
    }

    #[test]
    fn another_program_and_another_state_directory_stand_everywhere() {
        let units = units("/opt/mesh/mesh-node", Some("/srv/agent")).unwrap();
        for unit in &units {
            assert!(!unit.contains(PROGRAM) && !unit.contains(STATE), "{unit}");
            assert!(unit.contains("/opt/mesh/mesh-node ") && unit.contains(" /srv/agent"), "{unit}");
        }
        assert!(units[0].contains("\nConditionPathExists=/srv/agent/identity.json\n"));
        assert!(!units[0].contains("StateDirectory"), "that would be made in /var/lib");
    }

    #[test]
    fn a_path_that_would_be_taken_for_something_else_is_refused() {
        for path in ["/opt/my programs/mesh-node", "/opt/%i/mesh-node", "/opt/$HOME/mesh-node"] {
            assert!(units(path, None).unwrap_err().error.contains(path));
        }
    }
}
