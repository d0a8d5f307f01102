//! The file itself: opened once, checked, and written in place.
//!
//! A container's owner can put anything where its hosts file should be. What is found there must be a regular file on a file
//! system that only stores (writing to one of /proc or /sys does things), and it must not be the machine's own.

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
use nix::{fcntl::OFlag, sys::statfs::fstatfs};
use tokio::runtime::Handle;

use super::edit;

/// The largest hosts file that is read, in octets.
const MAX: u64 = 1 << 20;

/// File systems on which a write stores octets and does nothing else, by `f_type` (linux/magic.h; ZFS and bcachefs from
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
    name: PathBuf,
    /// The whole file as we wrote it last.
    written: Vec<u8>,
    /// While a test holds this, the file system doesn't answer.
    #[cfg(test)]
    pub(crate) stalled: std::sync::Arc<tokio::sync::Mutex<()>>,
}

/// Which file it is, wherever it was found: no other one has this number for as long as it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FileId {
    dev: u64,
    ino: u64,
}

impl HostsFile {
    /// Takes what [`super::Place::reach`] found, on either side of the agent's socket.
    ///
    /// # Errors
    /// If it is not a file that may be written to.
    pub(crate) fn open(found: &OwnedFd) -> Result<Self, Refusal> {
        Self::open_unleased(found)?.ok_or_else(|| {
            let name = fs::read_link(reference(found)).unwrap_or_default();
            Refusal::new(
                format!("the hosts file {} can't be had at present: somebody holds a lease on it", name.display()),
                "try again in a minute, or attach by --netns PATH, without a hosts file",
            )
        })
    }

    /// The same; `None` if somebody holds a lease on the file (fcntl(2), `F_SETLEASE`), as whoever owns it may, and for which we
    /// don't wait. The kernel takes it from him within `/proc/sys/fs/lease-break-time`, because we asked.
    ///
    /// # Errors
    /// If it is not a file that may be written to.
    pub(crate) fn open_unleased(found: &OwnedFd) -> Result<Option<Self>, Refusal> {
        // Through the descriptor, so that what was checked is what is opened.
        let reference = reference(found);
        let name = fs::read_link(&reference).unwrap_or_default();
        let refuse = |why: String| {
            Refusal::new(
                format!("the hosts file {} is refused: {why}", name.display()),
                "give another one with --hosts FILE, or attach by --netns PATH, without a hosts file",
            )
        };
        let metadata = fs::metadata(&reference).map_err(|e| refuse(e.to_string()))?;
        if !metadata.is_file() {
            return Err(refuse("it is not a regular file".into()));
        }
        if metadata.len() > MAX {
            return Err(refuse(format!("it has {} octets, and {MAX} is the most", metadata.len())));
        }
        let kind = fstatfs(found).map_err(|e| refuse(e.to_string()))?.filesystem_type();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "magic numbers have 32 bits")]
        let kind = kind.0 as u32;
        if !STORING.contains(&kind) {
            return Err(refuse(format!("it is on no ordinary file system, but on one of type {kind:#x}")));
        }
        if is_our_own(&metadata) {
            return Err(refuse("it is the machine's own".into()));
        }
        let mut options = File::options();
        options.read(true).write(true).custom_flags(OFlag::O_NONBLOCK.bits());
        match options.open(&reference) {
            Ok(file) => {
                let id = id(&file.metadata().map_err(|e| refuse(e.to_string()))?);
                Ok(Some(Self {
                    file,
                    id,
                    name,
                    written: vec![],
                    #[cfg(test)]
                    stalled: Default::default(),
                }))
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(refuse(e.to_string())),
        }
    }

    /// Puts these names, and no others, into our block. Gives whether that changed anything.
    ///
    /// # Errors
    /// If the file can't be read or written any more, or has grown beyond the limit; then it is left as it is.
    pub(super) fn put(&mut self, names: &[(Ipv4Addr, String)]) -> io::Result<bool> {
        self.rewrite(Some(names))
    }

    /// Takes our block out. Gives whether that changed anything.
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
        let found = self.read_settled()?;
        let mut before = edit::without_remains(&found, &self.written).to_vec();
        // Where somebody cut the file while we wrote, there is a hole.
        before.retain(|b| *b != 0);
        let after = match names {
            Some(names) => edit::with_block(&before, names),
            None => edit::without_block(&before),
        };
        if after == found {
            return Ok(false);
        }
        // What stands there already isn't written again: it might be somebody's past by now.
        let same = if after.starts_with(&found) { found.len() } else { 0 };
        if self.file.metadata()?.len() != found.len() as u64 {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "it is being written to"));
        }
        // First write, then cut: a reader in between sees too much, never too little.
        self.file.write_all_at(after.get(same..).unwrap_or_default(), same as u64)?;
        // What somebody else has cut meanwhile must not become longer by that.
        if found.len() > after.len() && self.file.metadata()?.len() == found.len() as u64 {
            self.file.set_len(after.len() as u64)?;
        }
        self.written = after;
        Ok(true)
    }

    /// What is in the file. Nobody means to leave it empty: whoever has emptied it is given time to fill it.
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
            return Err(io::Error::other(format!("it has grown to more than {MAX} octets")));
        }
        // One more than there should be: whoever is writing to it right now is not cut short, but waited for.
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

fn reference(fd: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Whether this is the hosts file of the machine itself: of the agent, that is, and of the first process where the agent is in a
/// container of its own and sees the machine's processes.
fn is_our_own(metadata: &fs::Metadata) -> bool {
    let is = |path| fs::metadata(path).is_ok_and(|own| id(&own) == id(metadata));
    is("/etc/hosts") || is("/proc/1/root/etc/hosts")
}

fn id(metadata: &fs::Metadata) -> FileId {
    FileId { dev: metadata.dev(), ino: metadata.ino() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::{super::Place, *};
    use crate::state::tests::Scratch;

    fn open(path: impl Into<PathBuf>) -> Result<HostsFile, Refusal> {
        HostsFile::open(&Place::Path(path.into()).reach()?)
    }

    fn names() -> Vec<(Ipv4Addr, String)> {
        vec![(Ipv4Addr::new(100, 112, 0, 2), "db".into())]
    }

    #[test]
    fn names_come_and_go_in_place() {
        let scratch = Scratch::new("hosts");
        let path = scratch.0.join("hosts");
        fs::write(&path, "127.0.0.1 localhost\n").unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        let mut hosts = open(&path).unwrap();
        hosts.put(&names()).unwrap();
        hosts.put(&names()).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "127.0.0.1 localhost\n# mesh-node begin\n100.112.0.2 db\n# mesh-node end\n"
        );
        hosts.clear().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "127.0.0.1 localhost\n");
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    }

    #[test]
    fn what_comes_of_two_who_write_at_once_is_put_right() {
        let scratch = Scratch::new("both");
        let path = scratch.0.join("hosts");
        let block = "# mesh-node begin\n100.112.0.2 db\n# mesh-node end\n";
        fs::write(&path, "127.0.0.1 localhost\n").unwrap();
        let mut hosts = open(&path).unwrap();
        hosts.put(&names()).unwrap();
        // Somebody emptied it, we wrote, he wrote: over our beginning, or before it with a hole between.
        let theirs = "127.0.0.1 localhost\n172.17.0.2 web\n";
        let ours = fs::read_to_string(&path).unwrap();
        for both in [format!("{theirs}{}", &ours[theirs.len()..]), format!("{theirs}\0\0\0{block}")] {
            fs::write(&path, both).unwrap();
            assert!(hosts.put(&names()).unwrap());
            assert_eq!(fs::read_to_string(&path).unwrap(), format!("{theirs}{block}"));
            fs::write(&path, "127.0.0.1 localhost\n").unwrap();
            hosts.put(&names()).unwrap();
        }
        assert!(!hosts.put(&names()).unwrap(), "it is there");
    }

    #[test]
    fn what_is_no_hosts_file_is_refused_and_not_touched() {
        let scratch = Scratch::new("hostile");
        let at = |name: &str| scratch.0.join(name);
        let refused = |path: PathBuf, why: &str| {
            let error = open(&path).expect_err(why);
            assert!(error.error.contains(why), "{error}");
            assert!(error.hint.is_some_and(|hint| hint.contains("--hosts FILE")));
        };
        fs::write(at("victim"), "precious").unwrap();
        symlink(at("victim"), at("link")).unwrap();
        refused(at("link"), "symbolic link");
        assert_eq!(fs::read(at("victim")).unwrap(), b"precious");
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        refused(at("fifo"), "not a regular file");
        refused(scratch.0.clone(), "not a regular file");
        refused("/dev/null".into(), "not a regular file");
        File::create(at("large")).unwrap().set_len(MAX + 1).unwrap();
        refused(at("large"), "1048576 is the most");
        refused("/etc/hosts".into(), "the machine's own");
        refused(at("missing"), "cannot open");
        // A regular file as far as stat(2) can tell, where a write would not store but act.
        refused("/proc/self/comm".into(), "no ordinary file system");
    }

    #[test]
    fn a_process_in_our_own_file_system_has_only_the_machines_own() {
        let ours = Place::Process(std::process::id().cast_signed()).reach();
        let error = ours.and_then(|found| HostsFile::open(&found)).unwrap_err();
        assert!(error.error.contains("the machine's own") || error.error.contains("symbolic link"), "{error}");
    }

    #[test]
    fn a_file_that_grows_too_large_is_left_alone() {
        let scratch = Scratch::new("growing");
        let path = scratch.0.join("hosts");
        fs::write(&path, "").unwrap();
        let mut hosts = open(&path).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(MAX + 1).unwrap();
        assert!(hosts.put(&names()).unwrap_err().to_string().contains("has grown"));
        assert_eq!(fs::metadata(&path).unwrap().len(), MAX + 1);
    }
}
