//! A change of one file of the machine's configuration: shown as a diff, and made completely or not at all.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown, symlink},
    path::{Path, PathBuf},
};

/// Why a file isn't changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// It can't be read.
    #[error("cannot read {path}: {error}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// It can't be written.
    #[error("cannot change {path}: {error}", path = path.display())]
    Change {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// A link without a target.
    #[error("{path} is a link that leads nowhere", path = path.display())]
    Dangling {
        /// The link.
        path: PathBuf,
    },
    /// A file where a link should be.
    #[error("{path} is there already, and is no link", path = path.display())]
    NoLink {
        /// The file.
        path: PathBuf,
    },
}

impl EditError {
    /// What to try next, if anything is known to help.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Read { error, .. } | Self::Change { error, .. } => match error.kind() {
                io::ErrorKind::PermissionDenied => Some("be root"),
                io::ErrorKind::ReadOnlyFilesystem => {
                    Some("the machine's configuration is made elsewhere: make the change there; --dry-run shows it")
                }
                _ => None,
            },
            Self::Dangling { .. } => Some("give it a target, or remove it"),
            Self::NoLink { .. } => Some("rename it, or remove it"),
        }
    }
}

/// A file or link before and after the change; `None`: it doesn't exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    path: PathBuf,
    before: Option<Content>,
    after: Option<Content>,
}

/// The content of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    Text(String),
    /// The target of a link.
    Link(PathBuf),
}

impl Content {
    /// Its lines in the diff.
    fn lines(&self) -> Vec<String> {
        match self {
            Self::Text(text) => text.lines().map(str::to_owned).collect(),
            Self::Link(to) => vec![format!("link to {}", to.display())],
        }
    }
}

impl Edit {
    /// The change that `change` makes to a file.
    ///
    /// # Errors
    /// If the file can't be read, or `change` refuses.
    pub fn of<E: From<EditError>>(
        path: impl Into<PathBuf>,
        change: impl FnOnce(Option<&str>) -> Result<Option<String>, E>,
    ) -> Result<Self, E> {
        let path = path.into();
        let before = match fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(e) if e.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(&path).is_ok() => {
                return Err(EditError::Dangling { path }.into());
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(EditError::Read { path, error }.into()),
        };
        let after = change(before.as_deref())?;
        Ok(Self { path, before: before.map(Content::Text), after: after.map(Content::Text) })
    }

    /// The change that `change` makes to a link.
    ///
    /// # Errors
    /// If the path is no link, or `change` refuses.
    pub fn of_link<E: From<EditError>>(
        path: impl Into<PathBuf>,
        change: impl FnOnce(Option<&Path>) -> Result<Option<PathBuf>, E>,
    ) -> Result<Self, E> {
        let path = path.into();
        let before = match fs::read_link(&path) {
            Ok(to) => Some(to),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => {
                return Err(EditError::NoLink { path }.into());
            }
            Err(error) => return Err(EditError::Read { path, error }.into()),
        };
        let after = change(before.as_deref())?;
        Ok(Self { path, before: before.map(Content::Link), after: after.map(Content::Link) })
    }

    /// Whether it changes anything.
    #[must_use]
    pub fn changes(&self) -> bool {
        self.before != self.after
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The removed and added lines, for people.
    #[must_use]
    pub fn diff(&self) -> String {
        let name = |there: &Option<Content>| match there {
            Some(_) => self.path.display().to_string(),
            None => "/dev/null".to_owned(),
        };
        let lines = |content: &Option<Content>| content.as_ref().map(Content::lines).unwrap_or_default();
        let (before, after) = (lines(&self.before), lines(&self.after));
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

    /// Makes the change.
    ///
    /// # Errors
    /// If the file can't be written; it is then unchanged.
    pub fn apply(&self) -> Result<(), EditError> {
        let done = match &self.after {
            Some(content) => replace(&self.path, content),
            None => fs::remove_file(&self.path),
        };
        done.map_err(|error| EditError::Change { path: self.path.clone(), error })
    }
}

fn replace(path: &Path, content: &Content) -> io::Result<()> {
    // If the path is a link, its target is changed and the link stays.
    let kept = match content {
        Content::Text(_) => fs::canonicalize(path).ok(),
        Content::Link(_) => None,
    };
    let path = kept.as_deref().unwrap_or(path);
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory)?;
    let next = path.with_extension("mesh-new");
    match fs::remove_file(&next) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    match content {
        Content::Text(text) => {
            let mut file = File::options().write(true).create_new(true).mode(0o644).open(&next)?;
            if let Ok(metadata) = fs::metadata(path) {
                fchown(&file, Some(metadata.uid()), Some(metadata.gid()))?;
                file.set_permissions(metadata.permissions())?;
            }
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
        }
        Content::Link(to) => symlink(to, &next)?,
    }
    fs::rename(&next, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A directory of a test's own.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("mesh-process-{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn of(path: &Path, text: Option<&str>) -> Result<Edit, EditError> {
        Edit::of(path, |_| Ok(text.map(str::to_owned)))
    }

    #[test]
    fn a_change_is_shown_made_and_undone() {
        let scratch = Scratch::new("edit");
        let path = scratch.0.join("a/b.conf");
        let change = |text: Option<&str>| of(&path, text).unwrap();
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
        assert_eq!(fs::read_dir(scratch.0.join("a")).unwrap().count(), 0, "nothing is left beside it");
    }

    #[test]
    fn the_target_of_a_link_is_changed_and_the_link_stays() {
        let scratch = Scratch::new("edit-kept");
        let (path, kept) = (scratch.0.join("daemon.json"), scratch.0.join("kept.json"));
        fs::write(&kept, "one\n").unwrap();
        fs::set_permissions(&kept, fs::Permissions::from_mode(0o600)).unwrap();
        symlink("kept.json", &path).unwrap();
        of(&path, Some("two\n")).unwrap().apply().unwrap();
        assert_eq!(fs::read_link(&path).unwrap(), Path::new("kept.json"));
        assert_eq!(fs::read_to_string(&kept).unwrap(), "two\n");
        assert_eq!(fs::metadata(&kept).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 2);
        fs::remove_file(&kept).unwrap();
        assert!(of(&path, None).unwrap_err().to_string().contains("leads nowhere"));
    }

    #[test]
    fn an_error_has_a_hint() {
        let hint = |kind: io::ErrorKind| EditError::Change { path: "/x".into(), error: kind.into() }.hint();
        assert_eq!(hint(io::ErrorKind::PermissionDenied), Some("be root"));
        assert!(hint(io::ErrorKind::ReadOnlyFilesystem).unwrap().contains("--dry-run"));
        assert_eq!(hint(io::ErrorKind::IsADirectory), None);
    }

    #[test]
    fn a_link_is_made_and_removed_and_a_file_prevents_it() {
        let scratch = Scratch::new("edit-link");
        let path = scratch.0.join("bin/mesh");
        let change = |to: Option<&str>| Edit::of_link::<EditError>(&path, |_| Ok(to.map(PathBuf::from)));
        let made = change(Some("/usr/bin/mesh-node")).unwrap();
        assert!(made.diff().ends_with("/bin/mesh\n+link to /usr/bin/mesh-node\n"), "{}", made.diff());
        made.apply().unwrap();
        assert_eq!(fs::read_link(&path).unwrap(), Path::new("/usr/bin/mesh-node"));
        assert!(!change(Some("/usr/bin/mesh-node")).unwrap().changes());
        change(None).unwrap().apply().unwrap();
        assert_eq!(fs::read_dir(scratch.0.join("bin")).unwrap().count(), 0);
        fs::write(&path, "").unwrap();
        assert!(matches!(change(None), Err(EditError::NoLink { .. })));
    }

    #[test]
    fn lines_that_repeat_are_not_counted_twice() {
        let edit = |before: &str, after: &str| Edit {
            path: "/x".into(),
            before: Some(Content::Text(before.to_owned())),
            after: Some(Content::Text(after.to_owned())),
        };
        assert!(edit("a\na\n", "a\na\na\n").diff().ends_with(" a\n a\n+a\n"));
        assert!(edit("a\na\na\n", "a\n").diff().ends_with(" a\n-a\n-a\n"));
    }
}
