//! A coordinator's backup: one file (tar) with its database and keys, made while it runs, and put back into an empty
//! data directory.

use std::{
    fs::{self, File},
    io::{Read as _, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use mesh_process::directory;
use zeroize::Zeroizing;

use crate::{
    data::{self, DATABASE, DataDirectory},
    store::copy_of,
};

mod keys;

pub(crate) use keys::{export, import};

/// The first entry, which says what the file is.
const MANIFEST: &str = "mesh-coord-backup.json";
/// The version of the layout.
const LAYOUT: u32 = 1;
/// The largest file besides the database, in bytes.
const LARGEST: u64 = 16 << 20;
/// The most files besides the database.
const MOST: usize = 64;
/// How often the files are read until two readings are the same.
const READINGS: usize = 5;

#[derive(serde::Serialize, serde::Deserialize)]
struct Manifest {
    /// [`LAYOUT`].
    version: u32,
    /// The version of the program that made it.
    program: String,
    /// The revision of the database.
    revision: u64,
}

/// What is in a backup.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    /// The revision of the database.
    pub(crate) revision: u64,
    /// The other files, by name.
    pub(crate) files: Vec<String>,
}

type Files = Vec<(String, Zeroizing<Vec<u8>>)>;

/// Writes a backup of a data directory into a new file (mode 0600), completely or not at all. The coordinator may run.
///
/// # Errors
/// If there is no database, the file exists, or the disk fails.
pub(crate) fn make(directory: &Path, to: &Path) -> Result<Contents> {
    ensure!(!to.exists(), "{} exists: choose another name, or move it away", to.display());
    let database = directory.join(DATABASE);
    ensure!(
        database.exists(),
        "{} holds no coordinator's database: name the data directory with --data; with --store the records are in etcd \
         (`etcdctl snapshot save`, `mesh-coord keys export`)",
        directory.display()
    );
    let copy = beside(to, "db");
    let made = Removed(copy.clone());
    let (mut files, mut revision) = (others(directory)?, 0);
    for reading in 1.. {
        revision = copy_of(&database, &copy).map_err(|error| anyhow::anyhow!("{}: {error}", database.display()))?;
        // A relay that came or went meanwhile has its secret in a file.
        let again = others(directory)?;
        if again == files {
            break;
        }
        ensure!(reading < READINGS, "the files in {} change all the time: try again", directory.display());
        files = again;
        fs::remove_file(&copy).context("the copy of the database cannot be removed")?;
    }
    write(to, (MANIFEST, revision), &files, Some(&copy))?;
    drop(made);
    Ok(Contents { revision, files: names(files) })
}

/// Writes a new file (mode 0600) with these files, completely or not at all.
fn write(to: &Path, (name, revision): (&str, u64), files: &Files, database: Option<&Path>) -> Result<()> {
    let manifest = Manifest { version: LAYOUT, program: env!("CARGO_PKG_VERSION").to_owned(), revision };
    let new = beside(to, "new");
    let written = directory::write_new(&new, |file| {
        let mut tar = tar::Builder::new(file);
        append(&mut tar, name, &serde_json::to_vec(&manifest)?)?;
        for (name, contents) in files {
            append(&mut tar, name, contents)?;
        }
        if let Some(database) = database {
            let mut database = File::open(database)?;
            let size = database.metadata()?.len();
            tar.append_data(&mut header(size), DATABASE, &mut database)?;
        }
        tar.into_inner()?.flush()
    });
    written
        .and_then(|()| directory::put_in_place(&new, to))
        .with_context(|| format!("{} cannot be written", to.display()))
}

fn names(files: Files) -> Vec<String> {
    files.into_iter().map(|(name, _)| name).collect()
}

/// Puts a backup into a data directory that is empty or doesn't exist.
///
/// # Errors
/// If the directory holds anything, or the file is no sound backup. Then the directory is left as it was found.
pub(crate) fn restore(from: &Path, directory: &Path) -> Result<Contents> {
    let there = fs::read_dir(directory).map(|entries| entries.flatten().map(|entry| entry.file_name()).collect());
    let there: Vec<_> = there.unwrap_or_default();
    if let Some(first) = there.iter().find(|name| *name != data::LOCK) {
        bail!(
            "{} holds {} already, and nothing has changed: a backup is put into an empty data directory only",
            directory.display(),
            first.display()
        );
    }
    let held = DataDirectory::open(directory)?;
    let put = unpack(from, &held).with_context(|| format!("{} cannot be restored", from.display()));
    if put.is_err() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let _ = fs::remove_file(entry.path());
        }
    }
    put
}

fn unpack(from: &Path, held: &DataDirectory) -> Result<Contents> {
    let mut tar = tar::Archive::new(File::open(from)?);
    let mut entries = tar.entries()?;
    let manifest = manifest(&mut entries, MANIFEST).context("it is no backup of a coordinator")?;
    ensure!(manifest.version == LAYOUT, "it is of a later version, {}: use that mesh-coord", manifest.program);
    let (mut files, mut has_database) = (Vec::new(), false);
    for entry in entries {
        let mut entry = entry.context("it is cut short or damaged")?;
        let name = entry.path()?.to_str().map(ToOwned::to_owned).context("a name in it is no text")?;
        ensure!(
            entry.header().entry_type().is_file() && is_plain(&name),
            "it holds {name:?}, which is no file of a coordinator"
        );
        if name == DATABASE {
            ensure!(!has_database, "it holds two databases");
            directory::write_new(&held.file(DATABASE), |file| std::io::copy(&mut entry, file).map(drop))?;
            has_database = true;
        } else {
            ensure!(files.len() < MOST && !files.contains(&name), "it holds more files than a coordinator has");
            held.write(&name, &small(&mut entry)?)?;
            files.push(name);
        }
    }
    ensure!(has_database, "it holds no database: it is cut short or damaged");
    Ok(Contents { revision: manifest.revision, files })
}

/// The first entry.
fn manifest(entries: &mut tar::Entries<'_, File>, name: &str) -> Result<Manifest> {
    let mut first = entries.next().context("it is empty")??;
    ensure!(first.path()?.as_os_str() == name, "it begins with another file");
    Ok(serde_json::from_slice(&small(&mut first)?)?)
}

/// The contents of a file besides the database.
fn small(entry: &mut impl std::io::Read) -> Result<Zeroizing<Vec<u8>>> {
    let mut contents = Zeroizing::new(Vec::new());
    entry.take(LARGEST + 1).read_to_end(&mut contents).context("it is cut short or damaged")?;
    ensure!(contents.len() as u64 <= LARGEST, "a file in it is larger than a coordinator's are");
    Ok(contents)
}

/// A name without a directory, and not one of those that belong to a running coordinator.
fn is_plain(name: &str) -> bool {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let running = [data::LOCK, data::SOCKET, MANIFEST].contains(&name);
    plain && !name.is_empty() && !name.starts_with('.') && !running
}

/// The files of a data directory besides the database: keys and secrets, in order of their names.
fn others(directory: &Path) -> Result<Files> {
    let shown = directory.display();
    let mut files = Files::new();
    for entry in fs::read_dir(directory).with_context(|| format!("{shown} cannot be read"))? {
        let entry = entry.with_context(|| format!("{shown} cannot be read"))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let is_database = name == DATABASE || name.starts_with(&format!("{DATABASE}-"));
        if is_database || !is_plain(&name) || name.ends_with(".new") || !entry.file_type()?.is_file() {
            continue;
        }
        ensure!(files.len() < MOST, "{shown} holds more files than a coordinator has");
        let mut file =
            File::open(entry.path()).with_context(|| format!("{} cannot be read", entry.path().display()))?;
        files.push((name, small(&mut file)?));
    }
    files.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(files)
}

fn append(tar: &mut tar::Builder<impl Write>, name: &str, contents: &[u8]) -> std::io::Result<()> {
    tar.append_data(&mut header(contents.len() as u64), name, contents)
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o600);
    header.set_size(size);
    header
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{suffix}"));
    name.into()
}

/// A file that is removed at the end.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests;
