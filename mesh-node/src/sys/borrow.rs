//! Opens a file with the rights of another process (credentials(7), user_namespaces(7)). The kernel decides: a
//! short-lived child takes on that process's user namespace, identifiers and capabilities, opens the file, and returns
//! the descriptor.
#![allow(unsafe_code, reason = "fork(2), capset(2) and sendmsg(2) between fork and exit have no safe wrapper")]

use std::{
    fs, io,
    mem::{self, MaybeUninit},
    os::{
        fd::{AsRawFd as _, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    thread,
    time::Duration,
};

use nix::libc;

use super::{
    fd::recv_with_fds,
    process::{has_ended, pidfd},
};

/// How long a file system may take to open a file.
const PATIENCE: Duration = Duration::from_secs(5);
/// `_LINUX_CAPABILITY_VERSION_3` (linux/capability.h).
const CAPABILITIES_V3: u32 = 0x2008_0522;

/// The rights of a process to files: its identifiers and capabilities, in its user namespace.
#[derive(Debug)]
pub(crate) struct Rights {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    capabilities: u64,
    /// Its user namespace, unless that is the agent's.
    namespace: Option<OwnedFd>,
}

/// Why a file is not opened.
#[derive(Debug)]
pub(crate) enum Denied {
    /// The process itself may not open it.
    Process(io::Error),
    /// The agent can't take on the process's rights: the call that failed, and its error.
    Ourselves(&'static str, io::Error),
}

impl Rights {
    /// The present rights of a process.
    ///
    /// # Errors
    /// If it has ended, or can't be inspected.
    pub(crate) fn of(pid: i32) -> io::Result<Self> {
        // A number is reused only after a process has ended: a process that still runs at the end had it all the while.
        let process = pidfd(pid)?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let theirs = fs::File::open(format!("/proc/{pid}/ns/user"))?;
        let is_ours = same_file(&theirs, &fs::File::open("/proc/self/ns/user")?)?;
        if has_ended(&process) {
            return Err(io::Error::other("it has just ended"));
        }
        let rights = parse(&status).ok_or_else(|| io::Error::other("its credentials can't be read"))?;
        Ok(Self { namespace: (!is_ours).then(|| theirs.into()), ..rights })
    }

    /// Opens the file behind a descriptor (`O_PATH`, open(2)) for reading and writing, with exactly these rights.
    ///
    /// # Errors
    /// If the file can't be opened with these rights, or they can't be taken on.
    pub(crate) fn open(&self, file: &OwnedFd, flags: i32) -> Result<fs::File, Denied> {
        let ourselves = |call| move |e: io::Error| Denied::Ourselves(call, e);
        let (ours, theirs) = UnixStream::pair().map_err(ourselves("socketpair"))?;
        let steps = self.steps(file, flags, theirs.as_raw_fd()).map_err(ourselves("/proc/self/status"))?;
        // SAFETY: the child makes only system calls on memory that was prepared before, and then ends: it can't block
        // on a lock that another thread of this process held.
        let child = match unsafe { libc::fork() } {
            0 => steps.run(),
            -1 => return Err(Denied::Ourselves("fork", io::Error::last_os_error())),
            child => child,
        };
        drop(theirs);
        let answer = receive(&ours);
        // A file system that doesn't answer may block the child, but not the caller.
        // SAFETY: the call takes two integers. The child is waited for only below, so that the number is still its own.
        unsafe { libc::kill(child, libc::SIGKILL) };
        let reaped = thread::Builder::new().name("reap".into()).spawn(move || {
            // SAFETY: no status is requested, so that no memory is written.
            while unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) } < 0
                && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
            {}
        });
        drop(reaped);
        answer
    }

    fn steps(&self, file: &OwnedFd, flags: i32, answer: RawFd) -> io::Result<Steps> {
        let own = fs::read_to_string("/proc/self/status")?;
        let own = parse(&own).ok_or_else(|| io::Error::other("unreadable"))?;
        // If this process has only groups that the other one has, too, none has to be dropped, which takes a
        // capability.
        let within = |group: &u32| self.groups.contains(group) || *group == self.gid;
        Ok(Steps {
            groups: (!own.groups.iter().all(within) || self.groups.len() > own.groups.len() && own.may_set_groups())
                .then(|| self.groups.clone()),
            gid: self.gid,
            uid: self.uid,
            namespace: self.namespace.as_ref().map(|fd| fd.as_raw_fd()),
            capabilities: self.capabilities,
            path: format!("/proc/self/fd/{}\0", file.as_raw_fd()),
            flags: flags | libc::O_RDWR | libc::O_CLOEXEC,
            file: file.as_raw_fd(),
            answer,
        })
    }

    /// Whether setgroups(2) is open to a process with these capabilities.
    fn may_set_groups(&self) -> bool {
        const SETGID: u64 = 1 << 6;
        let denied = fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "deny");
        self.capabilities & SETGID != 0 && !denied
    }
}

/// Everything that the child does, prepared.
struct Steps {
    groups: Option<Vec<u32>>,
    gid: u32,
    uid: u32,
    namespace: Option<RawFd>,
    capabilities: u64,
    path: String,
    flags: i32,
    file: RawFd,
    answer: RawFd,
}

/// The calls that may fail, as the child reports them.
const CALLS: [&str; 7] = ["open", "setgroups", "setresgid", "setresuid", "capset", "setns", "close_range"];

impl Steps {
    /// Runs in the child only: from here to its end there are only system calls.
    fn run(&self) -> ! {
        let (call, result) = self.take_on_and_open();
        // SAFETY: errno belongs to the calling thread.
        let error = if result < 0 { unsafe { *libc::__errno_location() } } else { 0 };
        self.report(call, error, (result >= 0).then_some(result));
        // SAFETY: ends this process at once, without exit handlers.
        unsafe { libc::_exit(0) }
    }

    /// The last call and its result, which is a descriptor if all succeeded.
    fn take_on_and_open(&self) -> (u8, libc::c_int) {
        macro_rules! step {
            ($number:expr, $call:expr) => {
                // SAFETY: each call takes integers, or pointers to memory that outlives it.
                if unsafe { $call } < 0 {
                    return ($number, -1);
                }
            };
        }
        // A child that hangs must not hold the agent's descriptors.
        let mut kept = [Some(self.file), Some(self.answer), self.namespace];
        kept.sort_unstable();
        let mut from: u32 = 0;
        for fd in kept.into_iter().flatten() {
            let fd = fd.cast_unsigned();
            if fd > from {
                step!(6, libc::syscall(libc::SYS_close_range, from, fd - 1, 0));
            }
            from = fd + 1;
        }
        step!(6, libc::syscall(libc::SYS_close_range, from, u32::MAX, 0));
        // The raw calls: libc's wrappers would change other threads of the process as well, and this one has none.
        if let Some(groups) = &self.groups {
            step!(1, libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()));
        }
        step!(2, libc::syscall(libc::SYS_setresgid, self.gid, self.gid, self.gid));
        step!(3, libc::prctl(libc::PR_SET_KEEPCAPS, 1_u64, 0_u64, 0_u64, 0_u64));
        step!(3, libc::syscall(libc::SYS_setresuid, self.uid, self.uid, self.uid));
        // Makes the remaining permitted capabilities effective, which entering the namespace takes.
        step!(4, limit_capabilities(u64::MAX));
        if let Some(namespace) = self.namespace {
            step!(5, libc::syscall(libc::SYS_setns, namespace, libc::CLONE_NEWUSER));
        }
        step!(4, limit_capabilities(self.capabilities));
        // SAFETY: the path ends with a NUL. No file is created, so that no mode is read.
        (0, unsafe { libc::open(self.path.as_ptr().cast(), self.flags) })
    }

    fn report(&self, call: u8, error: i32, fd: Option<RawFd>) {
        let mut text = [0_u8; 5];
        text[0] = call;
        text[1..].copy_from_slice(&error.to_ne_bytes());
        let mut part = libc::iovec { iov_base: text.as_mut_ptr().cast(), iov_len: text.len() };
        let mut control = [0_u64; 4];
        // SAFETY: a `msghdr` of zeros is a valid one.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        if let Some(fd) = fd {
            let size = size_of::<RawFd>() as libc::c_uint;
            message.msg_control = control.as_mut_ptr().cast();
            // SAFETY: the macros calculate within `control`, which is aligned and has room for one header and one
            // descriptor.
            unsafe {
                message.msg_controllen = libc::CMSG_SPACE(size) as _;
                let header = libc::CMSG_FIRSTHDR(&raw const message);
                (*header).cmsg_level = libc::SOL_SOCKET;
                (*header).cmsg_type = libc::SCM_RIGHTS;
                (*header).cmsg_len = libc::CMSG_LEN(size) as _;
                libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(fd);
            }
        }
        // SAFETY: the message points to buffers that outlive the call. If there is no answer, the parent notices.
        unsafe { libc::sendmsg(self.answer, &raw const message, libc::MSG_NOSIGNAL) };
    }
}

/// `struct __user_cap_header_struct` and two of `struct __user_cap_data_struct` (linux/capability.h).
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Drops this process's permitted capabilities that aren't in `mask`, and makes the others effective.
///
/// # Safety
/// There are no requirements: it is `unsafe` like the other calls of the child.
unsafe fn limit_capabilities(mask: u64) -> libc::c_long {
    let mut header = Header { version: CAPABILITIES_V3, pid: 0 };
    let mut data = MaybeUninit::<[Data; 2]>::zeroed();
    // SAFETY: both pointers are to live values of the layout that version 3 prescribes; zeros are valid in them.
    unsafe {
        if libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) < 0 {
            return -1;
        }
        let mut data = data.assume_init();
        for (half, mask) in data.iter_mut().zip([mask as u32, (mask >> 32) as u32]) {
            half.permitted &= mask;
            half.effective = half.permitted;
            half.inheritable = 0;
        }
        libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr())
    }
}

fn receive(from: &UnixStream) -> Result<fs::File, Denied> {
    let ourselves = |e| Denied::Ourselves("recvmsg", e);
    from.set_read_timeout(Some(PATIENCE)).map_err(ourselves)?;
    let mut text = [0; 5];
    let (count, fds) = recv_with_fds(from, &mut text).map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => {
            Denied::Process(io::Error::new(io::ErrorKind::TimedOut, "its file system doesn't answer"))
        }
        _ => ourselves(e),
    })?;
    let [call, error @ ..] = text;
    match (count, i32::from_ne_bytes(error), fds.into_iter().next()) {
        (5, 0, Some(fd)) => Ok(fd.into()),
        (5, error, _) if call == 0 => Err(Denied::Process(io::Error::from_raw_os_error(error))),
        (5, error, _) => {
            let call = CALLS.get(usize::from(call)).copied().unwrap_or("?");
            Err(Denied::Ourselves(call, io::Error::from_raw_os_error(error)))
        }
        _ => Err(ourselves(io::Error::other("the child has said nothing"))),
    }
}

/// The values of proc(5), "status", that matter for files.
fn parse(status: &str) -> Option<Rights> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let fourth = |name| field(name)?.split_ascii_whitespace().nth(3)?.parse().ok();
    Some(Rights {
        uid: fourth("Uid")?,
        gid: fourth("Gid")?,
        groups: field("Groups")?.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?,
        capabilities: u64::from_str_radix(field("CapEff")?.trim(), 16).ok()?,
        namespace: None,
    })
}

fn same_file(one: &fs::File, other: &fs::File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let (one, other) = (one.metadata()?, other.metadata()?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        os::{
            fd::AsFd as _,
            unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
        },
        process::{Child, Command, Stdio},
    };

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;
    use crate::state::tests::Scratch;

    /// A process that has changed its rights and stays like that.
    struct Process(Child);

    impl Process {
        fn by(command: &[&str]) -> Self {
            let mut process = Command::new(command[0]);
            process.args(&command[1..]).args(["sh", "-c", "echo && exec cat"]);
            let mut child = process.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
            Self(child)
        }

        fn may_write(&self, path: &std::path::Path) -> Result<(), i32> {
            let found = fs::File::options().read(true).custom_flags(libc::O_PATH).open(path).unwrap();
            match Rights::of(self.0.id().cast_signed()).unwrap().open(&found.into(), 0) {
                Ok(file) => drop(file.set_len(0)),
                Err(Denied::Process(error)) => return Err(error.raw_os_error().unwrap()),
                Err(denied) => panic!("{denied:?}"),
            }
            Ok(())
        }
    }

    impl Drop for Process {
        fn drop(&mut self) {
            drop(self.0.stdin.take());
            let _ = self.0.wait();
        }
    }

    fn file(scratch: &Scratch, name: &str, mode: u32, uid: u32, gid: u32) -> std::path::PathBuf {
        let path = scratch.0.join(name);
        fs::write(&path, "precious").unwrap();
        std::os::unix::fs::chown(&path, Some(uid), Some(gid)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_process_lends_no_more_than_it_has() {
        let scratch = Scratch::new("borrow");
        let roots = file(&scratch, "root", 0o644, 0, 0);
        let groups = file(&scratch, "group", 0o664, 0, 4);
        let rootgroups = file(&scratch, "rootgroup", 0o664, 7, 0);
        let own = file(&scratch, "own", 0o644, 12345, 12345);
        let process = |how: &[&str]| Process::by(how);
        let root = process(&["env"]);
        assert!([&roots, &groups, &rootgroups, &own].into_iter().all(|path| root.may_write(path).is_ok()));
        let plain = process(&["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"]);
        let in_group = process(&["setpriv", "--reuid=12345", "--regid=12345", "--groups=4"]);
        let bare = process(&["setpriv", "--inh-caps=-all", "--bounding-set=-all"]);
        let namespaced = process(&[
            "setpriv",
            "--reuid=12345",
            "--regid=12345",
            "--clear-groups",
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
        ]);
        for (path, expected) in [
            (&roots, [false, false, true, false]),
            (&groups, [false, true, true, false]),
            (&rootgroups, [false, false, true, false]),
            (&own, [true, true, false, true]),
        ] {
            let may = [&plain, &in_group, &bare, &namespaced].map(|process| process.may_write(path));
            assert_eq!(may.map(|may| may.is_ok()), expected, "{path:?} {may:?}");
            assert!(may.iter().all(|may| may.is_ok() || *may == Err(libc::EACCES)), "{may:?}");
        }
    }

    #[test]
    fn a_process_that_has_ended_lends_nothing() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = child.id().cast_signed();
        let fd = pidfd(pid).unwrap();
        poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE).unwrap();
        assert!(Rights::of(pid).is_err());
        child.wait().unwrap();
    }
}
