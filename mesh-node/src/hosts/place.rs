//! Where a hosts file is. A path that a container's owner controls is resolved inside the container, and never through
//! a symbolic link.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs::File,
    io,
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::{Component, Path, PathBuf},
};

pub(crate) use mesh_lifecycle::HostsPlace as Place;
use mesh_lifecycle::{FileId, FileKind};
use mesh_proto::message::Refusal;
use nix::{
    fcntl::{OFlag, open, openat, readlinkat},
    sys::{
        stat::Mode,
        statfs::{PROC_SUPER_MAGIC, fstatfs},
    },
    unistd::geteuid,
};

use super::{
    HostsFile, Unkept,
    id::identity,
    refused::{barred, elsewhere, leased},
};
use crate::sys::{
    borrow::Rights,
    process::{has_ended, pidfd},
};

/// How many symbolic links are followed on the way to a file, as in the kernel (path_resolution(7)).
const LINKS: u32 = 40;

/// Leads from a place to the file there.
pub(crate) trait Reach: Sized {
    /// By a path from an operator. Every spelling of `/proc/PID/root/etc/hosts` means the file of that process.
    fn of(path: PathBuf) -> Self;

    /// Opens the place as a mere reference (`O_PATH`, open(2)), which has no side effects.
    ///
    /// # Errors
    /// If there is nothing, or only a symbolic link.
    fn reach(&self) -> Result<OwnedFd, Refusal>;

    /// Opens the hosts file. A path comes from an operator or a runtime and is opened with the agent's rights. The file
    /// of a process comes from that process or its mounts: it is looked up again and opened with that process's rights,
    /// whatever the caller has found.
    ///
    /// # Errors
    /// If it is no hosts file, or the process may not write it.
    fn open(&self, found: &OwnedFd) -> Result<HostsFile, Unkept>;

    /// Opens it after a restart of the agent, or after the file was replaced. `None` if another process holds a lease
    /// on it.
    ///
    /// # Errors
    /// As [`Self::open`].
    fn open_again(&self) -> Result<Option<HostsFile>, Unkept>;

    /// Whether another file is there by now; `None`: none is, or it can't be reached. A process that has no hosts file
    /// any more does not have this one.
    fn leads_elsewhere(&self, file: FileId) -> Option<bool>;

    /// Whether the file there may replace one of `owner`: a user that can only rename files in a directory must not
    /// make the agent write to files of others.
    fn is_heir_of(&self, owner: u32) -> bool;
}

impl Reach for Place {
    fn reach(&self) -> Result<OwnedFd, Refusal> {
        let kind = self.kind();
        let (found, path) = match self.bare() {
            Self::Path(path) => (reach_path(path), path.display().to_string()),
            Self::Process(pid) | Self::Runtime(pid, _) => {
                (reach_in_process(*pid, kind), format!("/proc/{pid}/root{}", kind.path()))
            }
            Self::Resolv(_) => (Err(io::Error::from(io::ErrorKind::InvalidInput)), String::new()),
        };
        found.map_err(|e| match e.raw_os_error() {
            Some(libc::ELOOP) => Refusal::new(
                format!("the {} {path} is reached by a symbolic link only, which could lead anywhere", kind.name()),
                format!(
                    "give the file itself with {}, or attach by --netns PATH, without a {}",
                    kind.option(),
                    kind.name()
                ),
            ),
            _ => Refusal::new(format!("cannot open the {} {path}: {e}", kind.name()), elsewhere(kind)),
        })
    }

    fn open(&self, found: &OwnedFd) -> Result<HostsFile, Unkept> {
        open_reached(self, found)?.ok_or_else(|| Unkept::Refused(leased(found, self.kind())))
    }

    fn open_again(&self) -> Result<Option<HostsFile>, Unkept> {
        open_reached(self, &self.reach().map_err(Unkept::Refused)?)
    }

    fn of(path: PathBuf) -> Self {
        let process = || path.to_str()?.strip_prefix("/proc/")?.strip_suffix("/root/etc/hosts")?.parse().ok();
        process().filter(|pid| *pid > 0).map_or(Self::Path(path.clone()), Self::Process)
    }

    fn leads_elsewhere(&self, file: FileId) -> Option<bool> {
        match self.bare() {
            Self::Path(_) | Self::Resolv(_) => {
                let found = File::from(self.reach().ok()?);
                Some(identity(&found.metadata().ok()?) != file)
            }
            Self::Process(pid) | Self::Runtime(pid, _) => {
                is_seen_by(*pid, &pidfd(*pid).ok()?, (file, self.kind())).map(|is_seen| !is_seen)
            }
        }
    }

    fn is_heir_of(&self, owner: u32) -> bool {
        let Self::Path(path) = self.bare() else { return true };
        let heir =
            self.reach().and_then(|found| File::from(found).metadata().map_err(|e| Refusal::bare(e.to_string())));
        let directory = path.parent().and_then(|directory| std::fs::metadata(directory).ok());
        heir.is_ok_and(|heir| heir.uid() == owner || directory.is_some_and(|directory| directory.uid() == heir.uid()))
    }
}

/// Opens what [`Reach::reach`] found.
fn open_reached(place: &Place, found: &OwnedFd) -> Result<Option<HostsFile>, Unkept> {
    let kind = place.kind();
    let (pid, rights) = match place.bare() {
        Place::Path(_) | Place::Resolv(_) => return HostsFile::open_unleased(found, None, kind),
        // A mount that a root user made is not the container's choice.
        Place::Runtime(pid, path) if mounted_from(*pid, path, kind) => (*pid, None),
        Place::Process(pid) | Place::Runtime(pid, _) => (*pid, Some(rights_of(*pid, kind)?)),
    };
    let found = place.reach().map_err(Unkept::Refused)?;
    let opened = HostsFile::open_unleased(&found, rights.as_ref(), kind)?;
    Ok(opened.map(|file| file.seen_by(pid)))
}

fn rights_of(pid: i32, kind: FileKind) -> Result<Rights, Unkept> {
    Rights::of(pid).map_err(|e| {
        let path = format!("/proc/{pid}/root{}", kind.path());
        barred(Path::new(&path), kind, &format!("whose process it is can't be seen: {e}"))
    })
}

/// Whether a process has this file as its `/etc/hosts`, or as its resolv.conf; `None`: it has ended, or that can't be seen.
pub(super) fn is_seen_by(pid: i32, process: &OwnedFd, (file, kind): (FileId, FileKind)) -> Option<bool> {
    let seen = reach_in_process(pid, kind).and_then(|found| File::from(found).metadata());
    // After that: its number is given again only after its end.
    if has_ended(process) {
        return None;
    }
    match seen {
        Ok(metadata) => Some(identity(&metadata) == file),
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => Some(false),
        Err(_) => None,
    }
}

/// Opens the file that a path leads to. The owner of a directory on the way could lead the agent anywhere by a symbolic
/// link: only links of root, or of the agent's own user, are followed, and none at the end.
fn reach_path(path: &Path) -> io::Result<OwnedFd> {
    walk(Path::new("/"), &without_links(path)?)
}

/// Opens a path below a directory without following links, which could lead out of it. (openat2(2) can do the same, but
/// systemd's RestrictSUIDSGID= denies it.)
pub(super) fn walk(root: &Path, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let mut at = open(root, flags | OFlag::O_DIRECTORY, Mode::empty())?;
    for part in path.components() {
        let part = match part {
            Component::RootDir => continue,
            Component::Normal(part) => part,
            _ => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
        };
        let next = File::from(openat(&at, part, flags | OFlag::O_NOFOLLOW, Mode::empty())?);
        if next.metadata()?.is_symlink() {
            return Err(io::Error::from_raw_os_error(libc::ELOOP));
        }
        at = next.into();
    }
    Ok(at)
}

/// The path without the symbolic links on its way.
fn without_links(path: &Path) -> io::Result<PathBuf> {
    let parts = |path: &Path| path.components().map(|part| part.as_os_str().to_owned()).collect::<Vec<OsString>>();
    let (mut rest, mut at, mut links) = (VecDeque::from(parts(&std::path::absolute(path)?)), PathBuf::from("/"), 0);
    while let Some(part) = rest.pop_front() {
        if part == ".." {
            at.pop();
            continue;
        }
        let next = at.join(part);
        if rest.is_empty() {
            return Ok(next);
        }
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let there = File::from(open(&next, flags, Mode::empty())?);
        let metadata = there.metadata()?;
        if !metadata.is_symlink() {
            at = next;
            continue;
        }
        links += 1;
        // The links in /proc/PID don't lead to their text; /proc/self and the like do.
        let magic = at != Path::new("/proc") && fstatfs(&there)?.filesystem_type() == PROC_SUPER_MAGIC;
        if magic || links > LINKS || ![0, geteuid().as_raw()].contains(&metadata.uid()) {
            return Err(io::Error::from_raw_os_error(libc::ELOOP));
        }
        let target = PathBuf::from(readlinkat(&there, "")?);
        parts(&target).into_iter().rev().for_each(|part| rest.push_front(part));
    }
    Ok(at)
}

/// Whether the last mount over a process's `/etc/hosts`, or resolv.conf, is of this file (proc_pid_mountinfo(5)). The path there starts
/// at the root of its file system, so that it is the end of the whole path.
fn mounted_from(pid: i32, path: &Path, kind: FileKind) -> bool {
    let Ok(mounts) = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")) else { return false };
    is_mounted_from(&mounts, path, kind)
}

fn is_mounted_from(mounts: &str, path: &Path, kind: FileKind) -> bool {
    let root_of = |line: &str| {
        let mut fields = line.split(' ').skip(3);
        let (root, at) = (fields.next()?, fields.next()?);
        (at == kind.path()).then(|| PathBuf::from(root))
    };
    let Some(root) = mounts.lines().filter_map(root_of).next_back() else { return false };
    let Ok(inner) = root.strip_prefix("/") else { return false };
    // If a container's directory is the root of a file system, only the name is left, which any file may have.
    inner.components().count() >= 2 && path.ends_with(inner)
}

pub(super) fn reach_in_process(pid: i32, kind: FileKind) -> io::Result<OwnedFd> {
    walk(Path::new(&format!("/proc/{pid}/root")), Path::new(kind.path()))
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{lchown, symlink},
    };

    use super::*;
    use crate::state::tests::Scratch;

    #[test]
    fn only_the_links_of_root_lead_to_a_hosts_file() {
        let scratch = Scratch::new("links");
        let at = |name: &str| scratch.0.join(name);
        fs::create_dir(at("there")).unwrap();
        fs::write(at("there/hosts"), "").unwrap();
        symlink("there", at("relative")).unwrap();
        symlink(at("relative/../relative"), at("absolute")).unwrap();
        for way in ["there/hosts", "relative/hosts", "absolute/hosts", "there/../there/./hosts"] {
            assert!(Place::Path(at(way)).reach().is_ok(), "{way}");
        }
        symlink("hosts", at("there/link")).unwrap();
        symlink("loop", at("loop")).unwrap();
        lchown(at("relative"), Some(12345), None).unwrap();
        for way in ["there/link", "relative/hosts", "absolute/hosts", "loop/hosts"] {
            let refusal = Place::Path(at(way)).reach().unwrap_err();
            assert!(refusal.error.contains("symbolic link"), "{way}: {refusal}");
        }
        let by_process = format!("/proc/{}/root{}", std::process::id(), at("there/hosts").display());
        assert!(Place::Path(by_process.into()).reach().unwrap_err().error.contains("symbolic link"));
        assert!(Place::Path(at("there/none")).reach().unwrap_err().error.contains("cannot open"));
    }

    #[test]
    fn a_process_is_a_process_however_its_file_is_written() {
        assert_eq!(Place::of("/proc/7/root/etc/hosts".into()), Place::Process(7));
        for path in ["/proc/self/root/etc/hosts", "/proc/7/root/etc/other", "/run/hosts", "/proc/-7/root/etc/hosts"] {
            assert_eq!(Place::of(path.into()), Place::Path(path.into()));
        }
    }

    #[test]
    fn a_runtimes_own_file_is_known_by_its_mount() {
        let hosts = Path::new("/var/lib/docker/containers/f00d/hosts");
        let line = |root: &str| format!("7 1 8:1 {root} /etc/hosts rw,relatime - ext4 /dev/sda1 rw\n");
        let other = "6 1 8:1 / / rw - ext4 /dev/sda1 rw\n";
        for own in ["/var/lib/docker/containers/f00d/hosts", "/containers/f00d/hosts", "/f00d/hosts"] {
            assert!(is_mounted_from(&format!("{other}{}", line(own)), hosts, FileKind::Hosts), "{own}");
        }
        for foreign in [
            "/hosts",
            "/etc/shadow",
            "/var/lib/docker/containers/beef/hosts",
            "/x/var/lib/docker/containers/f00d/hosts",
        ] {
            assert!(!is_mounted_from(&line(foreign), hosts, FileKind::Hosts), "{foreign}");
        }
        assert!(
            !is_mounted_from(&(line("/f00d/hosts") + &line("/etc/shadow")), hosts, FileKind::Hosts),
            "the last one covers the others"
        );
        assert!(!is_mounted_from(other, hosts, FileKind::Hosts));
    }

    #[test]
    fn a_file_of_root_does_not_replace_a_users() {
        let scratch = Scratch::new("heirs");
        let path = scratch.0.join("hosts");
        fs::write(&path, "").unwrap();
        let place = Place::Path(path.clone());
        assert!(place.is_heir_of(0));
        lchown(&scratch.0, Some(12345), None).unwrap();
        assert!(!place.is_heir_of(12345), "as where a user has put a link to it there");
        lchown(&path, Some(12345), None).unwrap();
        assert!(place.is_heir_of(0) && place.is_heir_of(12345));
    }
}
