//! A change of one file: shown, carried out whole or not at all.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use mesh_proto::message::Refusal;

/// A file as it is and as it is to be; `None`: it is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edit {
    path: PathBuf,
    before: Option<String>,
    after: Option<String>,
}

impl Edit {
    /// What `change` makes of a file.
    ///
    /// # Errors
    /// If it can't be read, or `change` refuses.
    pub(super) fn of(
        path: impl Into<PathBuf>,
        change: impl FnOnce(Option<&str>) -> Result<Option<String>, Refusal>,
    ) -> Result<Self, Refusal> {
        let path = path.into();
        let before = match fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(Refusal::bare(format!("cannot read {}: {e}", path.display()))),
        };
        let after = change(before.as_deref())?;
        Ok(Self { path, before, after })
    }

    /// Whether there is anything to do.
    pub(crate) fn changes(&self) -> bool {
        self.before != self.after
    }

    /// The lines that go and those that come, for people.
    pub(crate) fn diff(&self) -> String {
        let name = |there: &Option<String>| match there {
            Some(_) => self.path.display().to_string(),
            None => "/dev/null".to_owned(),
        };
        let lines = |text: &Option<String>| text.iter().flat_map(|text| text.lines()).map(str::to_owned).collect();
        let (before, after): (Vec<String>, Vec<String>) = (lines(&self.before), lines(&self.after));
        let same_start = before.iter().zip(&after).take_while(|(a, b)| a == b).count();
        let rest = |all: &[String]| all.len() - same_start;
        let same_end = before.iter().rev().zip(after.iter().rev()).take_while(|(a, b)| a == b).count();
        let same_end = same_end.min(rest(&before)).min(rest(&after));
        let middle = |all: &[String]| all.get(same_start..all.len() - same_end).unwrap_or_default().to_vec();
        let mut text = format!("--- {}\n+++ {}\n", name(&self.before), name(&self.after));
        let kept = |line: &String| format!(" {line}\n");
        text.extend(before.iter().take(same_start).map(kept));
        text.extend(middle(&before).iter().map(|line| format!("-{line}\n")));
        text.extend(middle(&after).iter().map(|line| format!("+{line}\n")));
        text.extend(before.iter().skip(before.len() - same_end).map(kept));
        text
    }

    /// Carries it out.
    ///
    /// # Errors
    /// If the file can't be written; then it is as it was.
    pub(crate) fn apply(&self) -> Result<(), Refusal> {
        let done = match &self.after {
            Some(text) => replace(&self.path, text),
            None => fs::remove_file(&self.path),
        };
        done.map_err(|e| Refusal::new(format!("cannot change {}: {e}", self.path.display()), "be root"))
    }
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory)?;
    let next = path.with_extension("mesh-new");
    match fs::remove_file(&next) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(0o644).open(&next)?;
    if let Ok(metadata) = fs::metadata(path) {
        file.set_permissions(metadata.permissions())?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&next, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::Scratch;

    #[test]
    fn a_change_is_shown_and_carried_out_and_taken_back() {
        let scratch = Scratch::new("edit");
        let path = scratch.0.join("a/b.conf");
        let change = |text: Option<&'static str>| Edit::of(&path, |_| Ok(text.map(str::to_owned))).unwrap();
        let made = change(Some("one\ntwo\nthree\n"));
        assert_eq!(made.diff(), format!("--- /dev/null\n+++ {}\n+one\n+two\n+three\n", path.display()));
        made.apply().unwrap();
        let changed = change(Some("one\n2\nthree\n"));
        assert!(changed.diff().ends_with(".conf\n one\n-two\n+2\n three\n"), "{}", changed.diff());
        changed.apply().unwrap();
        assert!(!change(Some("one\n2\nthree\n")).changes());
        let gone = change(None);
        assert!(gone.diff().ends_with("+++ /dev/null\n-one\n-2\n-three\n"), "{}", gone.diff());
        gone.apply().unwrap();
        assert_eq!(fs::read_dir(scratch.0.join("a")).unwrap().count(), 0, "nothing beside it either");
    }

    #[test]
    fn lines_that_repeat_are_not_counted_twice() {
        let edit = |before: &str, after: &str| Edit {
            path: "/x".into(),
            before: Some(before.to_owned()),
            after: Some(after.to_owned()),
        };
        assert!(edit("a\na\n", "a\na\na\n").diff().ends_with(" a\n a\n+a\n"));
        assert!(edit("a\na\na\n", "a\n").diff().ends_with(" a\n-a\n-a\n"));
    }
}
