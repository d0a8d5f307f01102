//! The labels of podman's containers. podman passes them to no hook, and answers no questions about a container while hooks of that
//! container run. They are in the database of libpod, podman's library: a file of bbolt (podman 3 and 4) or SQLite (since podman 4.8).
//!
//! The database isn't opened as one, with its locks and its trees: its pages are searched for the container's record. An outdated
//! copy of the record serves as well, since a container's ID is unique and its labels never change.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use memchr::memmem;
use nix::{libc, unistd::geteuid};
use serde::Deserialize;

use super::spec::Spec;
use crate::containers::Labels;

/// The database, from the directory of the store or of the volatile state.
const DATABASES: [&str; 4] = ["db.sql", "libpod/bolt_state.db", "bolt_state.db", "libpod/db.sql"];
/// Where podman keeps its state by default, for containers whose mounts don't show where.
const DEFAULTS: [&str; 2] = ["/var/lib/containers/storage", "/run/libpod"];
/// The file of the container's own that podman mounts into every container.
const MARK: &str = "/run/.containerenv";
/// What podman mounts into most containers from the directory of the store.
const SHM: &str = "/dev/shm";
/// The largest database that is read, in bytes. (A container takes about 20 KB.)
const MAX: u64 = 256 << 20;
/// How often the database is read while the record isn't found: another podman may be moving it.
const READS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(10);

/// What libpod has recorded of a container.
#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct Record {
    id: String,
    /// The container's own labels and those of its image.
    #[serde(default)]
    labels: Option<Labels>,
    /// Empty for a container without an image.
    #[serde(default, rename = "rootfsImageID")]
    pub(super) image: String,
    /// The store, set after reading.
    #[serde(skip)]
    pub(super) store: Option<PathBuf>,
}

impl Record {
    pub(super) fn labels(&self) -> Labels {
        self.labels.clone().unwrap_or_default()
    }
}

/// The record of the described container; `None`: it isn't podman's, or the record isn't found.
pub(super) fn record(spec: &Spec, store: Option<PathBuf>) -> Option<Record> {
    let id = id(spec)?;
    let of_mounts = [SHM, MARK].iter().filter_map(|mounted| state_directory(&spec.source_of(mounted)?));
    let directories: Vec<PathBuf> =
        store.into_iter().chain(of_mounts).chain(DEFAULTS.iter().map(PathBuf::from)).collect();
    (0..READS).find_map(|read| {
        if read > 0 {
            thread::sleep(PAUSE);
        }
        directories.iter().find_map(|directory| {
            let mut databases = DATABASES.iter().filter_map(|name| own_file(&directory.join(name)));
            let found = databases.find_map(|database| find(&database, &id))?;
            Some(Record { store: Some(directory.clone()), ..found })
        })
    })
}

/// The container's ID: podman describes containers without it, but names a file and the control group after it.
fn id(spec: &Spec) -> Option<String> {
    let mark = spec.source_of(MARK);
    let of_mark = mark.as_deref().and_then(Path::to_str).into_iter().flat_map(|path| path.rsplit('/'));
    let control_group = spec.control_group().unwrap_or_default();
    let of_group = control_group.rsplit(['/', ':', '-']).next();
    let is_id = |word: &&str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    of_mark.chain(of_group).find(is_id).map(str::to_owned)
}

/// The directory above `overlay-containers/ID/userdata/…`.
fn state_directory(source: &Path) -> Option<PathBuf> {
    let is_list = |place: &&Path| place.file_name().is_some_and(|name| name.to_string_lossy().ends_with("-containers"));
    source.ancestors().find(is_list)?.parent().map(Path::to_owned)
}

/// The content of a file, if it belongs to this process's user: the maker of a container's file system must not delay its start.
fn own_file(path: &Path) -> Option<Vec<u8>> {
    let is_own = |found: &fs::Metadata| found.is_file() && found.uid() == geteuid().as_raw() && found.len() <= MAX;
    if !fs::symlink_metadata(path).is_ok_and(|found| is_own(&found)) {
        return None;
    }
    let file = File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path).ok()?;
    let mut content = Vec::with_capacity(usize::try_from(file.metadata().ok()?.len()).ok()?);
    file.take(MAX).read_to_end(&mut content).ok()?;
    Some(content)
}

/// Finds a container's record in a database.
fn find(database: &[u8], id: &str) -> Option<Record> {
    if database.starts_with(b"SQLite format 3\0") { sqlite(database, id) } else { bbolt(database, id) }
}

/// A value of bbolt is stored in one piece, right behind its key, `config`. No text within JSON looks like the marks that are
/// searched for: quotes in texts are escaped.
fn bbolt(database: &[u8], id: &str) -> Option<Record> {
    let (named, key) = (format!("\"id\":\"{id}\""), b"config{\"");
    memmem::find_iter(database, named.as_bytes()).find_map(|at| {
        let start = memmem::rfind(&database[..=at], key)? + b"config".len();
        parse(&database[start..], id)
    })
}

/// The record at the start of a text.
fn parse(text: &[u8], id: &str) -> Option<Record> {
    let first = serde_json::Deserializer::from_slice(text).into_iter::<Record>().next();
    first?.ok().filter(|record| record.id == id)
}

/// Searches all leaf pages of tables (SQLite, "Database File Format", 1.6) for the row with the record.
fn sqlite(database: &[u8], id: &str) -> Option<Record> {
    let size = match u16::from_be_bytes(bytes(database, 16)?) {
        1 => 1 << 16,
        size => usize::from(size),
    };
    // podman has SQLite's usual pages of 4096 bytes. On a leaf of less than 1000 bytes a row may not have its whole ID.
    let usable = size.checked_sub(usize::from(*database.get(20)?)).filter(|usable| *usable >= 1000)?;
    database.chunks(size).enumerate().find_map(|(number, page)| {
        // The first page begins with the header of the file.
        let header = if number == 0 { 100 } else { 0 };
        // A leaf of a table.
        if page.get(header) != Some(&0x0d) {
            return None;
        }
        let cells = usize::from(u16::from_be_bytes(bytes(page, header + 3)?));
        (0..cells).find_map(|cell| {
            let start = u16::from_be_bytes(bytes(page, header + 8 + 2 * cell)?);
            let row = row(database, (size, usable), page.get(start.into()..)?, id)?;
            parse(&row[memmem::find(&row, b"{\"")?..], id)
        })
    })
}

/// The content of a row that has `id` in its part on the leaf page: its first column.
fn row(database: &[u8], (size, usable): (usize, usize), cell: &[u8], id: &str) -> Option<Vec<u8>> {
    let (length, cell) = varint(cell)?;
    let (_rowid, cell) = varint(cell)?;
    let length = usize::try_from(length).ok().filter(|length| *length <= database.len())?;
    let (most, least) = (usable - 35, (usable - 12) * 32 / 255 - 23);
    let some = least + length.saturating_sub(least) % (usable - 4);
    let local = if length <= most {
        length
    } else if some <= most {
        some
    } else {
        least
    };
    let mut content = cell.get(..local)?.to_owned();
    memmem::find(&content, id.as_bytes())?;
    let mut next = bytes(cell, local);
    while content.len() < length {
        // Pages are counted from 1.
        let page = usize::try_from(u32::from_be_bytes(next?)).ok()?.checked_sub(1)?;
        let page = database.get(page.checked_mul(size)?..)?.get(..usable)?;
        next = bytes(page, 0);
        let rest = length - content.len();
        content.extend_from_slice(&page[4..usable.min(4 + rest)]);
    }
    Some(content)
}

/// SQLite's integer of 1 to 9 bytes, and what follows it.
fn varint(text: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (at, byte) in text.iter().enumerate().take(9) {
        if at == 8 {
            return Some((value << 8 | u64::from(*byte), &text[9..]));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, &text[at + 1..]));
        }
    }
    None
}

fn bytes<const N: usize>(text: &[u8], at: usize) -> Option<[u8; N]> {
    text.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::state::tests::Scratch;

    /// Made by SQLite 3.40, with pages of 1024 bytes: the table `ContainerConfig` of podman 5, with three containers. The second record
    /// takes several pages.
    const SQLITE: &[u8] = include_bytes!("../../testdata/libpod.sqlite");

    fn label(name: &str, value: &str) -> Labels {
        [(name.to_owned(), value.to_owned())].into()
    }

    /// A database of bbolt as far as it is looked at: an outdated, half overwritten copy, another container, and the record.
    fn of_bbolt(id: &str) -> Vec<u8> {
        let record = |id: &str, labels: &Labels| {
            let odd = format!("config{{\"id\":\"{id}\"");
            let (odd, labels) = (json!([odd]), json!(labels));
            format!(r#"{{"spec":{{"env":{odd}}},"id":"{id}","labels":{labels},"rootfsImageID":"f00"}}"#)
        };
        let whole = record(id, &label("mesh.service", "shop/db"));
        let parts =
            [&whole[..whole.len() - 30], "\0\0config", &record(&"e".repeat(64), &Labels::new()), "config", &whole];
        format!("\0config{}\0", parts.concat()).into_bytes()
    }

    #[test]
    fn labels_are_found_in_both_kinds_of_database() {
        let [a, b, c, other] = ["a", "b", "c", "d"].map(|letter| letter.repeat(64));
        let of = |database: &[u8], id: &str| find(database, id).map(|record| (record.labels(), record.image));
        assert_eq!(of(SQLITE, &a), Some((Labels::new(), String::new())));
        assert_eq!(of(SQLITE, &b), Some((label("mesh.service", "shop/db"), "f00".to_owned())));
        assert_eq!(of(SQLITE, &c), Some((label("mesh.client", "true"), String::new())));
        assert_eq!(of(SQLITE, &other), None);
        assert_eq!(of(&of_bbolt(&b), &b), Some((label("mesh.service", "shop/db"), "f00".to_owned())));
        assert_eq!(of(&of_bbolt(&b), &"e".repeat(64)).map(|(labels, _)| labels), Some(Labels::new()));
        assert_eq!(of(&of_bbolt(&b), &other), None);
    }

    #[test]
    fn a_damaged_database_is_no_panic() {
        let b = "b".repeat(64);
        for length in 0..SQLITE.len() {
            let _ = find(&SQLITE[..length], &b);
        }
        for at in 0..SQLITE.len() {
            for byte in [0, 1, 0x0d, 0x80, 0xff] {
                let mut damaged = SQLITE.to_vec();
                damaged[at] = byte;
                let _ = find(&damaged, &b);
            }
        }
    }

    #[test]
    fn a_container_is_known_by_its_file_or_its_control_group() {
        let b = "b".repeat(64);
        let of = |value: serde_json::Value| id(&Spec::read(value.to_string().as_bytes()).unwrap());
        let source = format!("/run/containers/storage/overlay-containers/{b}/userdata/.containerenv");
        assert_eq!(of(json!({"mounts": [{"destination": "/run/.containerenv", "source": source}]})), Some(b.clone()));
        for path in [format!("machine.slice:libpod:{b}"), format!("/libpod_parent/libpod-{b}")] {
            assert_eq!(of(json!({"linux": {"cgroupsPath": path}})), Some(b.clone()));
        }
        assert_eq!(of(json!({"linux": {"cgroupsPath": "/x"}})), None, "another program's");
    }

    #[test]
    fn only_a_database_of_this_user_is_read() {
        let (scratch, b) = (Scratch::new("libpod"), "b".repeat(64));
        let path = format!("/libpod_parent/libpod-{b}");
        let spec = Spec::read(json!({"linux": {"cgroupsPath": path}}).to_string().as_bytes()).unwrap();
        let found = || record(&spec, Some(scratch.0.clone())).and_then(|record| record.store);
        assert_eq!(found(), None);
        nix::unistd::mkfifo(&scratch.0.join("db.sql"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert_eq!(found(), None, "it isn't waited for");
        fs::create_dir(scratch.0.join("libpod")).unwrap();
        fs::write(scratch.0.join("libpod/bolt_state.db"), of_bbolt(&b)).unwrap();
        assert_eq!(found(), Some(scratch.0.clone()));
    }
}
