//! Where a hosts file is. What a container's owner has put there is reached inside the container, and never through a symbolic
//! link.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs::File,
    io,
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::{Component, Path, PathBuf},
};

use mesh_proto::message::Refusal;
use nix::{
    fcntl::{OFlag, open, openat, readlinkat},
    sys::{
        stat::Mode,
        statfs::{PROC_SUPER_MAGIC, fstatfs},
    },
    unistd::geteuid,
};
use serde::{Deserialize, Serialize};

use super::{
    HostsFile, Unkept,
    file::{FileId, barred, leased},
};
use crate::sys::borrow::Rights;

/// How many symbolic links are followed on the way to a file, as the kernel has it (path_resolution(7)).
const LINKS: u32 = 40;

/// Where a hosts file was found, to find it again after a restart of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Place {
    /// By a path of the machine's.
    Path(PathBuf),
    /// `/etc/hosts` as this process sees it.
    Process(i32),
    /// The same, as long as it is this file of its runtime's, whose path leads nowhere for an agent in a container of its own.
    Runtime(i32, PathBuf),
}

impl Place {
    /// Opens what is there as a mere reference (`O_PATH`, open(2)), which has no effect on it whatever it is.
    ///
    /// # Errors
    /// If nothing is there, or only a symbolic link.
    pub(crate) fn reach(&self) -> Result<OwnedFd, Refusal> {
        let (found, path) = match self {
            Self::Path(path) => (reach_path(path), path.display().to_string()),
            Self::Process(pid) | Self::Runtime(pid, _) => {
                (reach_in_process(*pid), format!("/proc/{pid}/root/etc/hosts"))
            }
        };
        found.map_err(|e| match e.raw_os_error() {
            Some(libc::ELOOP) => Refusal::new(
                format!("the hosts file {path} is reached by a symbolic link only, which could lead anywhere"),
                "give the file itself with --hosts FILE, or attach by --netns PATH, without a hosts file",
            ),
            _ => Refusal::new(
                format!("cannot open the hosts file {path}: {e}"),
                "give another one with --hosts FILE, or attach by --netns PATH, without a hosts file",
            ),
        })
    }

    /// Opens the hosts file there. One that a path leads to has been named by an operator or a runtime, and is opened with the
    /// rights of the agent. What a process has as its own has been put there by it, or by what made its mounts: it is looked for
    /// once more, and opened with the rights of that process, whatever the caller has found.
    ///
    /// # Errors
    /// If it is no hosts file, or not the process's to write.
    pub(crate) fn open(&self, found: &OwnedFd) -> Result<HostsFile, Unkept> {
        self.open_reached(found)?.ok_or_else(|| Unkept::Refused(leased(found)))
    }

    /// The same after a restart of the agent, or where the file has been replaced; `None` if another process holds a lease on it.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn open_again(&self) -> Result<Option<HostsFile>, Unkept> {
        self.open_reached(&self.reach().map_err(Unkept::Refused)?)
    }

    /// By a path that an operator has given: `/proc/PID/root/etc/hosts` is what that process has, however it is written.
    pub(crate) fn of(path: PathBuf) -> Self {
        let process = || path.to_str()?.strip_prefix("/proc/")?.strip_suffix("/root/etc/hosts")?.parse().ok();
        process().filter(|pid| *pid > 0).map_or(Self::Path(path.clone()), Self::Process)
    }

    /// Whether another file is there by now; `None`: none is, or only what can't be reached.
    pub(crate) fn leads_elsewhere(&self, file: FileId) -> Option<bool> {
        let found = File::from(self.reach().ok()?);
        Some(FileId::of(&found.metadata().ok()?) != file)
    }

    /// Whether the file there may take the place of one that `owner` had: whoever may only rename files in a directory must not
    /// have the agent write into those of others.
    pub(crate) fn is_heir_of(&self, owner: u32) -> bool {
        let Self::Path(path) = self else { return true };
        let heir =
            self.reach().and_then(|found| File::from(found).metadata().map_err(|e| Refusal::bare(e.to_string())));
        let directory = path.parent().and_then(|directory| std::fs::metadata(directory).ok());
        heir.is_ok_and(|heir| heir.uid() == owner || directory.is_some_and(|directory| directory.uid() == heir.uid()))
    }

    fn open_reached(&self, found: &OwnedFd) -> Result<Option<HostsFile>, Unkept> {
        let pid = match self {
            Self::Path(_) => return HostsFile::open_unleased(found, None),
            Self::Process(pid) => pid,
            // What a root made the mount of is not the container's choice.
            Self::Runtime(pid, path) if mounted_from(*pid, path) => {
                return HostsFile::open_unleased(&self.reach().map_err(Unkept::Refused)?, None);
            }
            Self::Runtime(pid, _) => pid,
        };
        let rights = Rights::of(*pid).map_err(|e| {
            barred(
                Path::new(&format!("/proc/{pid}/root/etc/hosts")),
                &format!("whose process it is can't be seen: {e}"),
            )
        })?;
        let found = self.reach().map_err(Unkept::Refused)?;
        HostsFile::open_unleased(&found, Some(&rights))
    }
}

/// Opens what a path leads to. Whoever owns a directory on the way could lead the agent anywhere by a symbolic link in there:
/// only those of root, or of the agent's own user, are followed, and none at the end.
fn reach_path(path: &Path) -> io::Result<OwnedFd> {
    walk(Path::new("/"), &without_links(path)?)
}

/// Opens what is below a directory, and follows no link on the way, which could lead out of it. (openat2(2) can do the same, but
/// systemd's RestrictSUIDSGID= takes it away.)
fn walk(root: &Path, path: &Path) -> io::Result<OwnedFd> {
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

/// The path that is meant, without the symbolic links on its way.
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
        // Those of /proc/PID lead elsewhere than they say; /proc/self and its like do not.
        let magic = at != Path::new("/proc") && fstatfs(&there)?.filesystem_type() == PROC_SUPER_MAGIC;
        if magic || links > LINKS || ![0, geteuid().as_raw()].contains(&metadata.uid()) {
            return Err(io::Error::from_raw_os_error(libc::ELOOP));
        }
        let target = PathBuf::from(readlinkat(&there, "")?);
        parts(&target).into_iter().rev().for_each(|part| rest.push_front(part));
    }
    Ok(at)
}

/// Whether the last mount over a process's `/etc/hosts` is of this file (proc_pid_mountinfo(5)): the path there begins at the root of
/// its file system, so that it is the end of the whole one.
fn mounted_from(pid: i32, path: &Path) -> bool {
    let Ok(mounts) = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")) else { return false };
    is_mounted_from(&mounts, path)
}

fn is_mounted_from(mounts: &str, path: &Path) -> bool {
    let root_of = |line: &str| {
        let mut fields = line.split(' ').skip(3);
        let (root, at) = (fields.next()?, fields.next()?);
        (at == "/etc/hosts").then(|| PathBuf::from(root))
    };
    let Some(root) = mounts.lines().filter_map(root_of).next_back() else { return false };
    let Ok(inner) = root.strip_prefix("/") else { return false };
    // A file system's root that is a container's directory would leave the name alone, as any file has it.
    inner.components().count() >= 2 && path.ends_with(inner)
}

fn reach_in_process(pid: i32) -> io::Result<OwnedFd> {
    walk(Path::new(&format!("/proc/{pid}/root")), Path::new("etc/hosts"))
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
            assert!(is_mounted_from(&format!("{other}{}", line(own)), hosts), "{own}");
        }
        for foreign in [
            "/hosts",
            "/etc/shadow",
            "/var/lib/docker/containers/beef/hosts",
            "/x/var/lib/docker/containers/f00d/hosts",
        ] {
            assert!(!is_mounted_from(&line(foreign), hosts), "{foreign}");
        }
        assert!(
            !is_mounted_from(&(line("/f00d/hosts") + &line("/etc/shadow")), hosts),
            "the last one covers the others"
        );
        assert!(!is_mounted_from(other, hosts));
    }

    #[test]
    fn a_file_of_root_is_no_heir_of_a_users() {
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
