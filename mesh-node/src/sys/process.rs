//! Processes: notices their end, and restricts their children.
#![allow(unsafe_code, reason = "pidfd_open(2), capset(2) and prctl(2) have no safe wrapper in nix")]

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd},
};

use nix::{
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use tokio::io::{Interest, unix::AsyncFd};

/// Opens a process as a descriptor that becomes readable when it ends: pidfd_open(2), which is close-on-exec.
///
/// # Errors
/// If there is no such process.
pub(crate) fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two integers and touches no memory.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this descriptor, which no other code knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether the process behind a pidfd has ended.
pub(crate) fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut end = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    poll(&mut end, PollTimeout::ZERO) != Ok(0)
}

/// The number of the process behind a pidfd: proc(5), "fdinfo".
///
/// # Errors
/// If the descriptor isn't a pidfd, or the process has ended or isn't visible from here.
pub(crate) fn pid_of(pidfd: impl AsFd) -> io::Result<i32> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_fd().as_raw_fd()))?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    match pid {
        Some(pid @ 1..) => Ok(pid),
        Some(0) => Err(io::Error::other("it is in a PID namespace that can't be seen from here")),
        Some(_) => Err(io::Error::other("it has ended already")),
        None => Err(io::Error::other("the descriptor is none of a process")),
    }
}

/// Waits for the end of a process.
#[derive(Debug)]
pub(crate) struct End(AsyncFd<OwnedFd>);

impl End {
    /// Takes a pidfd; within a tokio runtime.
    ///
    /// # Errors
    /// If the descriptor can't be waited for: it isn't a pidfd.
    pub(crate) fn of(pidfd: OwnedFd) -> io::Result<Self> {
        // SAFETY: the `AsyncFd` owns the descriptor and never gives it away.
        let registered = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) };
        registered.map(Self).map_err(|e| e.into_parts().1)
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// If the runtime ends first.
    pub(crate) async fn wait(&self) -> io::Result<()> {
        self.0.readable().await.map(drop)
    }
}

/// A capability (linux/capability.h).
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub(crate) enum Capability {
    /// To receive changes in other network namespaces.
    NetBroadcast = 11,
    /// To change interfaces, addresses and routes.
    NetAdmin = 12,
    /// To mount, to enter namespaces, and much more.
    SysAdmin = 21,
}

/// Whether this process has a capability: proc(5), "status".
pub(crate) fn has(capability: Capability) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    effective.is_some_and(|set| set & (1 << capability as u32) != 0)
}

/// Takes a capability from the programs that this thread executes (capabilities(7): from the bounding set, and from the
/// inheritable and ambient ones, by which a program could get it otherwise). This thread keeps it.
///
/// # Errors
/// Without `CAP_SETPCAP`.
pub(crate) fn deny_children(capability: Capability) -> io::Result<()> {
    // SAFETY: the calls take integers and touch no memory.
    unsafe {
        check(libc::prctl(libc::PR_CAPBSET_DROP, capability as libc::c_ulong, 0, 0, 0))?;
        check(libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_LOWER, capability as libc::c_ulong, 0, 0))?;
    }
    disinherit(capability)
}

/// `struct __user_cap_header_struct` (linux/capability.h).
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct` (linux/capability.h); version 3 has two of them.
#[repr(C)]
#[derive(Default, Clone, Copy)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`.
const VERSION_3: u32 = 0x2008_0522;

fn disinherit(capability: Capability) -> io::Result<()> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: both pointers are to live values of the layout that version 3 prescribes: one header, two data.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) } as libc::c_int)?;
    for half in data.iter_mut().take(1) {
        half.inheritable &= !(1 << capability as u32);
    }
    // SAFETY: as above; the kernel only reads.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) } as libc::c_int)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    #[test]
    fn the_end_of_a_process_shows() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let fd = pidfd(i32::try_from(child.id()).unwrap()).unwrap();
        let ended =
            |timeout: PollTimeout| poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout).unwrap() == 1;
        assert!(!ended(PollTimeout::ZERO));
        assert_eq!(pid_of(&fd).unwrap(), child.id().cast_signed());
        drop(child.stdin.take());
        assert!(ended(PollTimeout::NONE));
        child.wait().unwrap();
        assert!(pid_of(&fd).unwrap_err().to_string().contains("has ended"));
        assert!(pid_of(fs::File::open("/dev/null").unwrap()).is_err());
        assert!(pidfd(-1).is_err());
    }

    #[test]
    fn children_have_what_they_were_not_denied() {
        // A thread of its own: the bounding set is the thread's.
        std::thread::spawn(|| {
            match deny_children(Capability::NetAdmin) {
                Ok(()) => {}
                Err(e) if e.raw_os_error() == Some(libc::EPERM) => return, // not root, nothing to be denied
                Err(e) => panic!("{e}"),
            }
            let status = std::process::Command::new("cat").arg("/proc/self/status").output().unwrap();
            let status = String::from_utf8(status.stdout).unwrap();
            for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
                let line = status.lines().find_map(|line| line.strip_prefix(set)).unwrap();
                let bits = u64::from_str_radix(line.trim(), 16).unwrap();
                assert_eq!(bits & (1 << Capability::NetAdmin as u32), 0, "{set}{line}");
            }
        })
        .join()
        .unwrap();
    }
}
