//! Remembers the files that hold our names, so that an agent that comes later takes them out, wherever the file is by
//! then: it may have been renamed, or a mount may cover it, while no agent ran.

use std::{
    collections::BTreeMap,
    fs::File,
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use mesh_lifecycle::{FileId, FileKind};
use mesh_proto::ServicePath;
use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};

use super::{
    HostsFile,
    id::identity,
    place::{reach_in_process, walk},
    refused::reference,
};
use crate::{
    state::StateDir,
    sys::{handle::Handle, mounts},
};

/// The file in the state directory.
pub(crate) const FILE: &str = "hosts.json";

/// A file that may hold our names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Written {
    pub(super) service: ServicePath,
    /// Its name when it was opened.
    pub(super) name: PathBuf,
    /// The process whose `/etc/hosts` it was.
    process: Option<i32>,
    /// What is kept in it.
    #[serde(default, skip_serializing_if = "FileKind::is_hosts")]
    kind: FileKind,
    file: FileId,
    /// `None` if its file system has no handles.
    handle: Option<Handle>,
}

/// All of them, in memory and on disk.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    state: Option<StateDir>,
    book: Mutex<Book>,
    /// Held while the file is written: those that wait have their change written by one.
    writing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Book {
    files: BTreeMap<FileId, Written>,
    /// Those that an earlier agent left.
    left: Vec<FileId>,
    /// Why the names stay in a file.
    stay: BTreeMap<FileId, String>,
    changes: u64,
    saved: u64,
    /// A write of all changes is about to begin.
    is_asked: bool,
}

/// The file on disk.
#[derive(Serialize, Deserialize)]
struct OnDisk {
    version: u32,
    /// Which start of the machine: the numbers of file systems are given again by the next one.
    boot: String,
    files: Vec<Written>,
}

impl Written {
    pub(super) fn of(file: &HostsFile, service: &ServicePath) -> Self {
        Self {
            service: service.clone(),
            name: file.name().to_owned(),
            process: file.process(),
            kind: file.kind(),
            file: file.id(),
            handle: file.handle(),
        }
    }

    pub(super) fn kind(&self) -> FileKind {
        self.kind
    }

    /// Finds the file again. Blocks as long as its file system does.
    pub(super) fn find(&self) -> Found {
        let named = match self.process {
            Some(pid) => reach_in_process(pid, self.kind),
            None => walk(Path::new("/"), &self.name),
        };
        if let Some(found) = named.ok().filter(|found| self.is(found)) {
            return Found::There(found);
        }
        let views = [None].into_iter().chain(self.process.map(Some));
        let mounts: Vec<Mount> = views.flat_map(|view| Mount::all_of(view, self.file.dev)).collect();
        if mounts.is_empty() && self.process.is_some() {
            return Found::Gone("its process has ended, or sees it no more");
        }
        let Some(handle) = &self.handle else {
            return Found::Hidden("it isn't where it was, and its file system finds files only by their names".into());
        };
        let mut why = "it isn't where it was, and no mount of its file system can be reached".to_owned();
        for mount in mounts.iter().filter_map(Mount::open) {
            match handle.open(&mount) {
                Ok(found) if self.is(&found) => return Found::There(found),
                Ok(_) => {}
                Err(e) if e.raw_os_error() == Some(libc::ESTALE) => return Found::Gone("it is deleted"),
                Err(e) => why = format!("it isn't where it was, and can't be opened by its handle: {e}"),
            }
        }
        Found::Hidden(why)
    }

    /// Whether this is the file, and no later one with its number.
    fn is(&self, found: &OwnedFd) -> bool {
        let same = std::fs::metadata(reference(found)).is_ok_and(|metadata| identity(&metadata) == self.file);
        same && (self.handle.is_none() || self.handle == Handle::of(found).ok())
    }
}

/// What has become of a file.
#[derive(Debug)]
pub(super) enum Found {
    /// Here it is.
    There(OwnedFd),
    /// No program will read it any more.
    Gone(&'static str),
    /// It may be there, and can't be reached.
    Hidden(String),
}

/// A mount of a file system, as a process sees it, or the agent.
struct Mount {
    device: u64,
    root: PathBuf,
    point: PathBuf,
}

impl Mount {
    fn all_of(process: Option<i32>, device: u64) -> Vec<Self> {
        let Ok(all) = mounts::read(process) else { return vec![] };
        let number = format!("{}:{}", nix::sys::stat::major(device), nix::sys::stat::minor(device));
        let root = process.map_or_else(|| PathBuf::from("/"), |pid| PathBuf::from(format!("/proc/{pid}/root")));
        let of = |line: &str| {
            let mut fields = line.split(' ').skip(2);
            let (this, _, point) = (fields.next()?, fields.next()?, fields.next()?);
            // The numbers of Btrfs are those of its subvolumes.
            let may_be = this == number || line.contains(" - btrfs ");
            may_be.then(|| Self { device, root: root.clone(), point: point.into() })
        };
        all.lines().filter_map(of).collect()
    }

    /// Opens its root, unless another mount covers it: nothing is opened on a file system that is not the file's.
    fn open(&self) -> Option<File> {
        let found = walk(&self.root, &self.point).ok()?;
        let metadata = std::fs::metadata(reference(&found)).ok()?;
        if identity(&metadata).dev != self.device || !(metadata.is_dir() || metadata.is_file()) {
            return None;
        }
        let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        File::options().read(true).custom_flags(flags.bits()).open(reference(&found)).ok()
    }
}

impl Ledger {
    /// What an earlier agent left. A damaged file is put aside.
    pub(super) fn load(state: StateDir) -> Self {
        let read = state.read::<OnDisk>(FILE).unwrap_or_else(|error| {
            state.put_aside(FILE);
            tracing::warn!(%error, "which hosts files hold names is lost: names may stay in files that were replaced meanwhile");
            None
        });
        let boot = mesh_process::boot_id().unwrap_or_default();
        let files: BTreeMap<_, _> = (read.filter(|read| read.boot == boot).into_iter())
            .flat_map(|read| read.files)
            .map(|written| (written.file, written))
            .collect();
        let book = Book { left: files.keys().copied().collect(), files, ..Book::default() };
        Self { state: Some(state), book: Mutex::new(book), writing: Mutex::default() }
    }

    /// From now on the file may hold our names.
    pub(super) fn note(&self, written: Written) {
        let mut book = self.book();
        book.left.retain(|file| *file != written.file);
        book.stay.remove(&written.file);
        if book.files.get(&written.file) != Some(&written) {
            book.files.insert(written.file, written);
            book.changes += 1;
        }
    }

    /// Whether a file may hold our names.
    pub(super) fn holds(&self, file: FileId) -> bool {
        self.book().files.contains_key(&file)
    }

    /// It holds none any more.
    pub(super) fn forget(&self, file: FileId) {
        let mut book = self.book();
        book.stay.remove(&file);
        book.left.retain(|left| *left != file);
        if book.files.remove(&file).is_some() {
            book.changes += 1;
        }
    }

    /// No program will read it any more.
    pub(super) fn forget_gone(&self, gone: &Written, why: &str) {
        tracing::info!(hosts = %gone.name.display(), service = %gone.service, why, "names are not taken out of a hosts file");
        self.forget(gone.file);
        self.save();
    }

    /// Whether [`Self::save`] is to be called, by whom this tells so: one call is enough for all that wait for its turn.
    pub(super) fn is_to_be_saved(&self) -> bool {
        let mut book = self.book();
        book.changes != book.saved && !std::mem::replace(&mut book.is_asked, true)
    }

    /// Writes what has changed. Blocks as long as the disk does, within limits.
    pub(super) fn save(&self) {
        let Some(state) = &self.state else { return };
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let (changes, files) = {
            let mut book = self.book();
            book.is_asked = false;
            if book.changes == book.saved {
                return;
            }
            (book.changes, book.files.values().cloned().collect())
        };
        let boot = mesh_process::boot_id().unwrap_or_default();
        // A failure is logged and retried by the state directory.
        let _ = state.remember(FILE, &OnDisk { version: 1, boot, files });
        self.book().saved = changes;
    }

    /// The files that an earlier agent left, and that are not kept now.
    pub(super) fn left(&self) -> Vec<Written> {
        let book = self.book();
        book.left.iter().filter_map(|file| book.files.get(file).cloned()).collect()
    }

    /// The names stay in a file. The next agent tries again.
    pub(super) fn stays(&self, written: &Written, why: &str) {
        let text = format!(
            "names of {} stay in the {} {}: {why}; take the lines between `# mesh-node begin` and `# mesh-node end` out of it",
            written.service,
            written.kind.name(),
            written.name.display()
        );
        tracing::warn!("{text}");
        let mut book = self.book();
        book.files.insert(written.file, written.clone());
        book.stay.insert(written.file, text);
    }

    /// Where names stay, and why.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.book().stay.values().cloned().collect()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
