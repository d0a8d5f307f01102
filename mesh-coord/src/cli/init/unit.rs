//! The coordinator's unit, where no package and no operator has brought one.

use std::path::Path;

use anyhow::Result;
use mesh_process::{
    edit::{Edit, EditError},
    systemd::{SystemdError, Unit, is_plain},
};
use mesh_proto::message::Refusal;

use super::{super::output::Refused, edit_error};

/// The unit.
pub(super) const UNIT: Unit = Unit { name: "mesh-coord" };
/// Its data directory.
pub(super) const DATA: &str = "/var/lib/mesh-coord";
const TEXT: &str = include_str!("../../../../examples/systemd/mesh-coord.service");
/// The program in it.
const PROGRAM: &str = "/usr/bin/mesh-coord";
/// The first line of one that `init` has written.
const MARK: &str = "# Written by `mesh-coord init`, which takes it out again with --undo.\n";

/// systemd's answer, an error with its hint.
pub(super) fn asked<T>(answer: Result<T, SystemdError>) -> Result<T> {
    answer.map_err(|error| Refused(Refusal::new(error.to_string(), error.hint())).into())
}

/// Whether `init` has written it.
pub(super) fn is_ours(text: &str) -> bool {
    text.starts_with(MARK)
}

/// The change that writes it.
pub(super) fn written(program: &Path) -> Result<Edit> {
    let text = text(program)?;
    Edit::of(UNIT.own(), |_| Ok::<_, EditError>(Some(text))).map_err(edit_error)
}

/// The change that takes it out again.
pub(super) fn taken_out() -> Result<Edit> {
    let kept = |before: Option<&str>| Ok::<_, EditError>(before.filter(|text| !is_ours(text)).map(str::to_owned));
    Edit::of(UNIT.own(), kept).map_err(edit_error)
}

fn text(program: &Path) -> Result<String> {
    let shown = program.display().to_string();
    anyhow::ensure!(
        is_plain(&shown),
        "{shown} has characters with a special meaning in a unit: move the program to a path of letters, digits and /._-+"
    );
    Ok(format!("{MARK}{}", TEXT.replace(PROGRAM, &shown)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_that_of_the_package_with_the_path_of_this_program() {
        let here = text(Path::new("/opt/mesh/mesh-coord")).unwrap();
        assert!(here.contains("\nExecStart=/opt/mesh/mesh-coord serve ") && !here.contains(PROGRAM), "{here}");
        assert!(is_ours(&here) && !is_ours(TEXT));
        assert_eq!(text(Path::new(PROGRAM)).unwrap(), format!("{MARK}{TEXT}"));
        assert!(text(Path::new("/opt/my programs/mesh-coord")).is_err());
    }
}
