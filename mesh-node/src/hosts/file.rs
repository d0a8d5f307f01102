//! A hosts file: it is opened once, checked, and written in place.
//!
//! A container's owner can put anything in place of its hosts file. It has to be a regular file on a file system that
//! only stores (a write to /proc or /sys has effects), it must not be the machine's own hosts file, and it has to be a
//! text. The `/etc/hosts` of a process is opened with that process's rights.

use std::{
    fs::{self, File},
    io,
    net::Ipv4Addr,
    os::{
        fd::OwnedFd,
        unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use mesh_lifecycle::{FileId, FileKind};
use mesh_proto::message::Refusal;
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::statfs::fstatfs,
};
use tokio::runtime;

use super::{
    edit,
    id::identity,
    probe::Probe,
    refused::{Unkept, barred, leased, reference, refusal},
    resolv,
    scan::{Scan, take_out},
};
use crate::sys::{
    borrow::{Denied, Rights},
    handle::Handle,
};

/// The largest hosts file that is kept, in bytes without our block.
pub(super) const MAX: u64 = 1 << 20;
/// The setuid and setgid bits.
const SET_ID: u32 = 0o6000;

/// The file systems on which a write only stores bytes, by `f_type` (linux/magic.h; ZFS and bcachefs by their own
/// sources).
const STORING: [u32; 13] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683e, // Btrfs
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
    0x794c_7630, // overlayfs
    0xf2f5_2010, // F2FS
    0x2fc1_2fc1, // ZFS
    0xca45_1a4e, // bcachefs
    0x6969,      // NFS
    0x6573_5546, // FUSE, virtiofs
    0x0102_1997, // 9P
    0xff53_4d42, // CIFS
];

/// An open hosts file of an instance.
#[derive(Debug)]
pub(crate) struct HostsFile {
    file: File,
    id: FileId,
    owner: u32,
    name: PathBuf,
    /// The process whose `/etc/hosts` it was.
    process: Option<i32>,
    /// `None` if its file system has none.
    handle: Option<Handle>,
    /// What is kept in it.
    kind: FileKind,
    /// The whole file as the agent wrote it last.
    written: Vec<u8>,
    pub(super) probe: Probe,
}

impl HostsFile {
    /// Takes the file that [`super::Reach::reach`] found, on either side of the agent's socket, and that an operator or
    /// a runtime named.
    ///
    /// # Errors
    /// If it isn't a file that may be written.
    pub(crate) fn open(found: &OwnedFd, kind: FileKind) -> Result<Self, Refusal> {
        Self::open_unleased(found, None, kind).map_err(Unkept::refusal)?.ok_or_else(|| leased(found, kind))
    }

    /// Takes a file with these rights, if given. `None` if another process holds a lease on the file (fcntl(2),
    /// `F_SETLEASE`), as its owner may: the agent doesn't wait for it. The attempt makes the kernel end the lease
    /// within `/proc/sys/fs/lease-break-time`.
    ///
    /// # Errors
    /// If it isn't a file that may be written.
    pub(super) fn open_unleased(
        found: &OwnedFd,
        rights: Option<&Rights>,
        kind: FileKind,
    ) -> Result<Option<Self>, Unkept> {
        let name = fs::read_link(reference(found)).unwrap_or_default();
        let refuse = |why: String| Unkept::Refused(refusal(&name, kind, &why));
        check(found).map_err(refuse)?;
        let file = match open_for_writing(found, rights) {
            Ok(file) => file,
            Err(Denied::Process(e)) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(Denied::Process(e)) if rights.is_some() => {
                return Err(barred(&name, kind, &format!("its process may not write it ({e})")));
            }
            Err(Denied::Process(e)) => return Err(refuse(e.to_string())),
            Err(Denied::Ourselves(call, e)) => {
                return Err(barred(
                    &name,
                    kind,
                    &format!("the agent can't find out whether its process may write it ({call}: {e})"),
                ));
            }
        };
        check_text(&file).map_err(refuse)?;
        let metadata = file.metadata().map_err(|e| refuse(e.to_string()))?;
        Ok(Some(Self {
            file,
            id: identity(&metadata),
            owner: metadata.uid(),
            name,
            process: None,
            handle: Handle::of(found).ok(),
            kind,
            written: vec![],
            probe: Probe::default(),
        }))
    }

    /// Puts exactly these names into our block. Returns whether the file has changed.
    ///
    /// # Errors
    /// If the file can't be read or written any more, or has grown beyond the limit. Then it isn't changed.
    pub(super) fn put(&mut self, names: &[(Ipv4Addr, String)]) -> io::Result<bool> {
        self.rewrite(Some(names))
    }

    /// Removes our block, whatever the file has become. Returns whether the file has changed.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub(super) fn clear(&mut self) -> io::Result<bool> {
        self.rewrite(None)
    }

    /// It is the `/etc/hosts` of this process.
    pub(super) fn seen_by(self, pid: i32) -> Self {
        Self { process: Some(pid), ..self }
    }

    /// The process whose `/etc/hosts` it was when it was opened.
    pub(super) fn process(&self) -> Option<i32> {
        self.process
    }

    /// What is kept in it.
    pub(super) fn kind(&self) -> FileKind {
        self.kind
    }

    /// Its handle, if its file system has such.
    pub(super) fn handle(&self) -> Option<Handle> {
        self.handle.clone()
    }

    /// Its identity.
    pub(super) fn id(&self) -> FileId {
        self.id
    }

    /// Its owner.
    pub(super) fn owner(&self) -> u32 {
        self.owner
    }

    /// Its name.
    pub(crate) fn name(&self) -> &Path {
        &self.name
    }

    /// A path that leads to exactly this file, as long as this process holds it.
    pub(super) fn reference(&self) -> PathBuf {
        reference(&self.file)
    }

    /// Closes it, which may block as long as a write that is still under way.
    pub(crate) fn let_go(self) {
        if let Ok(runtime) = runtime::Handle::try_current() {
            runtime.spawn_blocking(move || drop(self));
        }
    }

    /// Runtimes rewrite the file as well, perhaps at the same moment. The next call, which their close of the file
    /// causes, corrects the result.
    fn rewrite(&mut self, names: Option<&[(Ipv4Addr, String)]>) -> io::Result<bool> {
        let mut attempts = 10;
        loop {
            match self.try_rewrite(names) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted && attempts > 0 => attempts -= 1,
                other => return other,
            }
        }
    }

    fn try_rewrite(&mut self, names: Option<&[(Ipv4Addr, String)]>) -> io::Result<bool> {
        if self.file.metadata()?.len() > MAX {
            // Our block must not stay. An earlier version may even have made the file that long.
            let taken_out = take_out(&self.file)?;
            match names {
                None => return Ok(taken_out),
                Some(_) if self.file.metadata()?.len() > MAX => {
                    return Err(io::Error::other(format!(
                        "it has grown to more than {MAX} bytes, so the names are not in it"
                    )));
                }
                Some(_) => {}
            }
        }
        let found = self.read_settled()?;
        if found.contains(&0) {
            return match names {
                None => take_out(&self.file),
                Some(_) => {
                    Err(io::Error::other(format!("it holds a NUL byte, so it is no {} any more", self.kind.name())))
                }
            };
        }
        let before = edit::without_remains(&found, &self.written);
        let after = match names {
            Some(names) => match self.kind {
                FileKind::Hosts => edit::with_block(before, names),
                FileKind::Resolv => resolv::with_resolver(before, names),
            },
            None => edit::without_block(before),
        };
        if after == found {
            return Ok(false);
        }
        if self.file.metadata()?.len() != found.len() as u64 {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "it is being written to"));
        }
        self.replace(&found, after)?;
        Ok(true)
    }

    fn replace(&mut self, found: &[u8], after: Vec<u8>) -> io::Result<()> {
        if let Some(more) = after.strip_prefix(found).filter(|_| !found.is_empty()) {
            // Equal bytes aren't written again: they may be outdated by now. At the end, wherever that is: if a runtime
            // has emptied the file meanwhile, there must be no hole.
            self.append(more)?;
            let emptied = self.file.metadata()?.len() == more.len() as u64;
            self.written = if emptied { more.to_vec() } else { after };
            return Ok(());
        }
        // Written first and truncated afterwards: a reader in between sees too much and never too little.
        self.file.write_all_at(&after, 0)?;
        // A file that a runtime has truncated meanwhile must not become longer again.
        if found.len() > after.len() && self.file.metadata()?.len() == found.len() as u64 {
            self.file.set_len(after.len() as u64)?;
        }
        self.written = after;
        Ok(())
    }

    fn append(&self, more: &[u8]) -> io::Result<()> {
        fcntl(&self.file, FcntlArg::F_SETFL(OFlag::O_APPEND | OFlag::O_NONBLOCK))?;
        let written = self.file.write_all_at(more, 0);
        fcntl(&self.file, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        written
    }

    /// Reads the file. A runtime doesn't leave it empty on purpose: it gets time to fill an empty file.
    fn read_settled(&self) -> io::Result<Vec<u8>> {
        for _ in 0..20 {
            let found = self.read()?;
            if !found.is_empty() {
                return Ok(found);
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        self.read()
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        self.probe.reads();
        let length = self.file.metadata()?.len();
        if length > MAX {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "it has just grown"));
        }
        // One byte more than expected: a runtime that is writing right now is waited for.
        let mut found = vec![0; usize::try_from(length).map_err(io::Error::other)? + 1];
        let mut filled = 0;
        while let Some(rest) = found.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, filled as u64)? {
                0 => break,
                n => filled += n,
            }
        }
        if filled as u64 > length {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "it is being written to"));
        }
        found.truncate(filled);
        Ok(found)
    }
}

/// Whether a reference (`O_PATH`) leads to a file that can be opened and written without side effects.
fn check(found: &OwnedFd) -> Result<(), String> {
    let metadata = fs::metadata(reference(found)).map_err(|e| e.to_string())?;
    if !metadata.is_file() {
        return Err("it is not a regular file".into());
    }
    if metadata.mode() & SET_ID != 0 {
        return Err("it has the setuid or setgid bit, as no hosts file has".into());
    }
    let kind = fstatfs(found).map_err(|e| e.to_string())?.filesystem_type();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "magic numbers have 32 bits")]
    let kind = kind.0 as u32;
    if !STORING.contains(&kind) {
        return Err(format!("it is on no ordinary file system, but on one of type {kind:#x}"));
    }
    if is_our_own(&metadata) {
        return Err("it is the machine's own".into());
    }
    Ok(())
}

/// Opens the file through the reference, so that it is the checked one.
fn open_for_writing(found: &OwnedFd, rights: Option<&Rights>) -> Result<File, Denied> {
    match rights {
        Some(rights) => rights.open(found, OFlag::O_NONBLOCK.bits()),
        None => {
            let mut options = File::options();
            options.read(true).write(true).custom_flags(OFlag::O_NONBLOCK.bits());
            options.open(reference(found)).map_err(Denied::Process)
        }
    }
}

/// Whether the file is a text of limited length, apart from the block of an earlier version.
fn check_text(file: &File) -> Result<(), String> {
    let Scan { length, ours, nul, whole } = Scan::of(file).map_err(|e| e.to_string())?;
    let ours: u64 = ours.iter().map(|block| block.end - block.start).sum();
    if !whole || length - ours > MAX {
        return Err(format!("it has {} bytes, and {MAX} is the most", length - ours));
    }
    match nul {
        true => Err("it holds a NUL byte, so it is no text".into()),
        false => Ok(()),
    }
}

/// Whether this is the machine's own hosts file or resolv.conf: that of the agent, or that of the first process if the agent
/// runs in a container and sees the machine's processes.
fn is_our_own(metadata: &fs::Metadata) -> bool {
    let is = |path: String| fs::metadata(path).is_ok_and(|own| identity(&own) == identity(metadata));
    let both = [FileKind::Hosts, FileKind::Resolv].map(FileKind::path);
    both.into_iter().any(|path| is(path.to_owned()) || is(format!("/proc/1/root{path}")))
}

#[cfg(test)]
mod tests;
