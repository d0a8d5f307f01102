//! The file itself: opened once, checked, and written in place.
//!
//! A container's owner can put anything where its hosts file should be. What is found there must be a regular file on a file
//! system that only stores (writing to one of /proc or /sys does things), it must not be the machine's own, and it must be a
//! text. What a process has as its `/etc/hosts` is opened with the rights of that process.

use std::{
    fs::{self, File},
    io,
    net::Ipv4Addr,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use mesh_proto::message::Refusal;
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::statfs::fstatfs,
};
use tokio::runtime::Handle;

use super::{
    edit,
    scan::{Scan, take_out},
};
use crate::sys::borrow::{Denied, Rights};

/// The largest hosts file that is kept, in bytes, our block not counted.
pub(super) const MAX: u64 = 1 << 20;
/// The setuid and setgid bits.
const SET_ID: u32 = 0o6000;

/// File systems on which a write stores bytes and does nothing else, by `f_type` (linux/magic.h; ZFS and bcachefs from
/// their own sources).
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

/// An instance's hosts file, open.
#[derive(Debug)]
pub(crate) struct HostsFile {
    file: File,
    id: FileId,
    owner: u32,
    name: PathBuf,
    /// The whole file as we wrote it last.
    written: Vec<u8>,
    /// While a test holds this, the file system doesn't answer.
    #[cfg(test)]
    pub(crate) stalled: std::sync::Arc<tokio::sync::Mutex<()>>,
}

/// Which file it is, wherever it was found: no other one has this number for as long as it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    dev: u64,
    ino: u64,
}

impl FileId {
    pub(super) fn of(metadata: &fs::Metadata) -> Self {
        Self { dev: metadata.dev(), ino: metadata.ino() }
    }
}

/// Why a hosts file is not kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unkept {
    /// It is no hosts file: what was asked for can't be.
    Refused(Refusal),
    /// The process whose file it is could not write it: the instance does without its names there.
    Barred(Refusal),
}

impl Unkept {
    /// What is wrong with it.
    pub(crate) fn refusal(self) -> Refusal {
        match self {
            Self::Refused(refusal) | Self::Barred(refusal) => refusal,
        }
    }
}

impl HostsFile {
    /// Takes what [`super::Place::reach`] found, on either side of the agent's socket, where an operator or a runtime named it.
    ///
    /// # Errors
    /// If it is not a file that may be written to.
    pub(crate) fn open(found: &OwnedFd) -> Result<Self, Refusal> {
        Self::open_unleased(found, None).map_err(Unkept::refusal)?.ok_or_else(|| leased(found))
    }

    /// The same, with these rights if some are given; `None` if another process holds a lease on the file (fcntl(2),
    /// `F_SETLEASE`), as its owner may, and for which we don't wait. The kernel takes it away within
    /// `/proc/sys/fs/lease-break-time`, because we asked.
    ///
    /// # Errors
    /// If it is not a file that may be written to.
    pub(super) fn open_unleased(found: &OwnedFd, rights: Option<&Rights>) -> Result<Option<Self>, Unkept> {
        let name = fs::read_link(reference(found)).unwrap_or_default();
        let refuse = |why: String| Unkept::Refused(refusal(&name, &why));
        check(found).map_err(refuse)?;
        let file = match open_for_writing(found, rights) {
            Ok(file) => file,
            Err(Denied::Process(e)) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(Denied::Process(e)) if rights.is_some() => {
                return Err(barred(&name, &format!("its process may not write it ({e})")));
            }
            Err(Denied::Process(e)) => return Err(refuse(e.to_string())),
            Err(Denied::Ourselves(call, e)) => {
                return Err(barred(
                    &name,
                    &format!("the agent can't find out whether its process may write it ({call}: {e})"),
                ));
            }
        };
        check_text(&file).map_err(refuse)?;
        let metadata = file.metadata().map_err(|e| refuse(e.to_string()))?;
        Ok(Some(Self {
            file,
            id: FileId::of(&metadata),
            owner: metadata.uid(),
            name,
            written: vec![],
            #[cfg(test)]
            stalled: Default::default(),
        }))
    }

    /// Puts these names, and no others, into our block. Gives whether that changed anything.
    ///
    /// # Errors
    /// If the file can't be read or written any more, or has grown beyond the limit; then it is left as it is.
    pub(super) fn put(&mut self, names: &[(Ipv4Addr, String)]) -> io::Result<bool> {
        self.rewrite(Some(names))
    }

    /// Takes our block out, whatever else the file has become. Gives whether that changed anything.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub(super) fn clear(&mut self) -> io::Result<bool> {
        self.rewrite(None)
    }

    /// Which it is.
    pub(super) fn id(&self) -> FileId {
        self.id
    }

    /// Whose it is.
    pub(super) fn owner(&self) -> u32 {
        self.owner
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &Path {
        &self.name
    }

    /// A path that leads to this file and no other, for as long as this process holds it.
    pub(super) fn reference(&self) -> PathBuf {
        reference(&self.file)
    }

    /// Closes it where that may take its time: as long as a write, if one is still under way.
    pub(crate) fn let_go(self) {
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn_blocking(move || drop(self));
        }
    }

    /// Runtimes rewrite the file as well, and nothing keeps them from doing so at the same moment. What comes of that is put
    /// right by the next call, which their closing of the file brings about.
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
            // What is ours must not stay there; an earlier version may even have made it so long.
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
                Some(_) => Err(io::Error::other("it holds a NUL byte, so it is no hosts file any more")),
            };
        }
        let before = edit::without_remains(&found, &self.written);
        let after = match names {
            Some(names) => edit::with_block(before, names),
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
            // What stands there already isn't written again: it might be the past by now. At the end, wherever that is: where a
            // runtime has emptied the file meanwhile, there must be no hole.
            self.append(more)?;
            let emptied = self.file.metadata()?.len() == more.len() as u64;
            self.written = if emptied { more.to_vec() } else { after };
            return Ok(());
        }
        // First write, then cut: a reader in between sees too much, never too little.
        self.file.write_all_at(&after, 0)?;
        // What a runtime has cut meanwhile must not become longer by that.
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

    /// What is in the file. No runtime means to leave it empty: one that has emptied it is given time to fill it.
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
        #[cfg(test)]
        drop(self.stalled.blocking_lock());
        let length = self.file.metadata()?.len();
        if length > MAX {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "it has just grown"));
        }
        // One more than there should be: a runtime that is writing to it right now is not cut short, but waited for.
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

/// Another process holds a lease on it.
pub(super) fn leased(found: &OwnedFd) -> Refusal {
    let name = fs::read_link(reference(found)).unwrap_or_default();
    Refusal::new(
        format!("the hosts file {} can't be had at present: another process holds a lease on it", name.display()),
        "try again in a minute, or attach by --netns PATH, without a hosts file",
    )
}

fn refusal(name: &Path, why: &str) -> Refusal {
    Refusal::new(
        format!("the hosts file {} is refused: {why}", name.display()),
        "give another one with --hosts FILE, or attach by --netns PATH, without a hosts file",
    )
}

/// The hosts file of a process that lends no right to write it.
pub(super) fn barred(name: &Path, why: &str) -> Unkept {
    Unkept::Barred(Refusal::new(
        format!("no names are kept in the hosts file {}: {why}", name.display()),
        "give a file to keep them in with --hosts FILE, if it is to be written nevertheless",
    ))
}

/// Whether what is behind a reference (`O_PATH`) is a file that can be opened and written to without doing anything else.
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

/// Opens it through the reference, so that what was checked is what is opened.
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

/// Whether it is a text of bounded length, but for what an earlier version may have put there.
fn check_text(file: &File) -> Result<(), String> {
    let Scan { length, ours, nul, whole } = Scan::of(file).map_err(|e| e.to_string())?;
    let ours: u64 = ours.iter().map(|block| block.end - block.start).sum();
    if !whole || length - ours > MAX {
        return Err(format!("it has {} bytes, and {MAX} is the most", length - ours));
    }
    match nul {
        true => Err("it holds a NUL byte, so it is no hosts file".into()),
        false => Ok(()),
    }
}

pub(super) fn reference(fd: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Whether this is the hosts file of the machine itself: of the agent, that is, and of the first process where the agent is in a
/// container of its own and sees the machine's processes.
fn is_our_own(metadata: &fs::Metadata) -> bool {
    let is = |path| fs::metadata(path).is_ok_and(|own| FileId::of(&own) == FileId::of(metadata));
    is("/etc/hosts") || is("/proc/1/root/etc/hosts")
}

#[cfg(test)]
mod tests;
