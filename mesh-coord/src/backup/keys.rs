//! A coordinator's keys in one file (tar), for others that share its records: agents know all of them by the same keys.

use std::{fs, fs::File, io, path::Path};

use anyhow::{Context as _, Result, ensure};

use super::{Files, LAYOUT, MOST, is_plain, manifest, names, others, small, write};
use crate::data::{DataDirectory, ENROL_KEY, TLS_KEY};

/// The first entry, which says what the file is.
const MANIFEST: &str = "mesh-coord-keys.json";

/// Writes the keys of a data directory into a new file (mode 0600), completely or not at all. The coordinator may run.
/// Returns their names.
///
/// # Errors
/// If there are none, the file exists, or the disk fails.
pub(crate) fn export(directory: &Path, to: &Path) -> Result<Vec<String>> {
    ensure!(!to.exists(), "{} exists: choose another name, or move it away", to.display());
    let files: Files = others(directory)?.into_iter().filter(|(name, _)| is_key(name)).collect();
    ensure!(
        files.iter().any(|(name, _)| name == TLS_KEY),
        "{} holds no coordinator's keys: name the data directory with --data, or start the coordinator once",
        directory.display()
    );
    write(to, (MANIFEST, 0), &files, None)?;
    Ok(names(files))
}

/// Puts the keys of another coordinator into a data directory. What changes only as relays come and go may be there
/// already. Returns the names of the files.
///
/// # Errors
/// If a coordinator runs there, the directory has other keys, or the file is no sound one. Then nothing has changed.
pub(crate) fn import(from: &Path, directory: &Path) -> Result<Vec<String>> {
    let files = read(from).with_context(|| format!("{} cannot be imported", from.display()))?;
    let held = DataDirectory::open(directory)?;
    for (name, contents) in files.iter().filter(|(name, _)| [TLS_KEY, ENROL_KEY].contains(&name.as_str())) {
        let is_other = match fs::read(held.file(name)) {
            Ok(there) => there != **contents,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error).with_context(|| format!("{} cannot be read", held.file(name).display())),
        };
        ensure!(
            !is_other,
            "{} holds keys of another coordinator, and nothing has changed: choose another --data, or remove {name} there \
             if no runner knows this one",
            directory.display()
        );
    }
    for (name, contents) in &files {
        held.write(name, contents).with_context(|| format!("{} cannot be written", held.file(name).display()))?;
    }
    Ok(names(files))
}

fn read(from: &Path) -> Result<Files> {
    let mut tar = tar::Archive::new(File::open(from)?);
    let mut entries = tar.entries()?;
    let manifest = manifest(&mut entries, MANIFEST).context("it holds no coordinator's keys")?;
    ensure!(manifest.version == LAYOUT, "it is of a later version, {}: use that mesh-coord", manifest.program);
    let mut files = Files::new();
    for entry in entries {
        let mut entry = entry.context("it is cut short or damaged")?;
        let name = entry.path()?.to_str().map(ToOwned::to_owned).context("a name in it is no text")?;
        let is_file = entry.header().entry_type().is_file() && is_plain(&name) && is_key(&name);
        ensure!(is_file && files.len() < MOST, "it holds {name:?}, which is no key of a coordinator");
        files.push((name, small(&mut entry)?));
    }
    ensure!(files.iter().any(|(name, _)| name == TLS_KEY), "it holds no TLS key: it is cut short or damaged");
    Ok(files)
}

/// Whether a file of a data directory is one of those that coordinators share.
fn is_key(name: &str) -> bool {
    [TLS_KEY, ENROL_KEY, crate::relay_secrets::FILE].contains(&name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::data::scratch::Scratch;

    fn with_keys(path: &Path, tls: &str) {
        let data = DataDirectory::open(path).unwrap();
        data.write(TLS_KEY, tls.as_bytes()).unwrap();
        data.write(ENROL_KEY, b"enrol").unwrap();
        data.write("something", b"else").unwrap();
    }

    #[test]
    fn keys_are_carried_to_another_coordinator() {
        let scratch = Scratch::new();
        let (one, other, file) =
            (scratch.path().join("one"), scratch.path().join("other"), scratch.path().join("keys"));
        let error = export(&scratch.path().join("none"), &file).unwrap_err().to_string();
        assert!(error.contains("cannot be read"), "{error}");
        with_keys(&one, "key");
        let keys = vec![ENROL_KEY.to_owned(), TLS_KEY.to_owned()];
        assert_eq!(export(&one, &file).unwrap(), keys);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert!(export(&one, &file).unwrap_err().to_string().contains("exists"));
        for _ in 0..2 {
            assert_eq!(import(&file, &other).unwrap(), keys, "also where they are already");
        }
        assert_eq!(fs::read(other.join(TLS_KEY)).unwrap(), b"key");
        assert_eq!(fs::metadata(other.join(TLS_KEY)).unwrap().mode() & 0o777, 0o600);
        assert!(!other.join("something").exists());
    }

    #[test]
    fn other_keys_and_other_files_are_left_alone() {
        let scratch = Scratch::new();
        let (one, other, file) =
            (scratch.path().join("one"), scratch.path().join("other"), scratch.path().join("keys"));
        with_keys(&one, "key");
        with_keys(&other, "another key");
        export(&one, &file).unwrap();
        let error = import(&file, &other).unwrap_err().to_string();
        assert!(error.contains("another coordinator") && error.contains("nothing has changed"), "{error}");
        assert_eq!(fs::read(other.join(TLS_KEY)).unwrap(), b"another key");
        let held = DataDirectory::open(&one).unwrap();
        assert!(import(&file, &one).unwrap_err().to_string().contains("another coordinator is running"));
        drop(held);
        fs::write(&file, "no keys at all").unwrap();
        assert!(format!("{:#}", import(&file, &one).unwrap_err()).contains("no coordinator's keys"));
    }
}
