//! epoll(7), level-triggered, with time-outs finer than a millisecond.
#![allow(unsafe_code, reason = "epoll_pwait2 has no safe wrapper")]

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    ptr,
    time::Duration,
};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// A set of descriptors to wait for.
#[derive(Debug)]
pub(crate) struct Poll {
    epoll: Epoll,
    /// Whether epoll_pwait2(2) works: Linux 5.11, without an older seccomp filter.
    fine: bool,
}

/// A ready descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ready {
    /// The token of the descriptor.
    pub(crate) token: u64,
    /// Whether there is an error or a hang-up. There may be something to read as well.
    pub(crate) error: bool,
}

impl Poll {
    /// An empty set.
    ///
    /// # Errors
    /// The error of epoll_create1(2).
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?, fine: cfg!(target_pointer_width = "64") })
    }

    /// Waits for `fd` to be readable, from now until it is closed.
    ///
    /// # Errors
    /// The error of epoll_ctl(2).
    pub(crate) fn add(&self, fd: impl AsFd, token: u64) -> io::Result<()> {
        Ok(self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token))?)
    }

    /// Waits for a descriptor to be readable, or only for an error.
    ///
    /// # Errors
    /// The error of epoll_ctl(2).
    pub(crate) fn set_readable(&self, fd: impl AsFd, token: u64, readable: bool) -> io::Result<()> {
        let flags = if readable { EpollFlags::EPOLLIN } else { EpollFlags::empty() };
        Ok(self.epoll.modify(fd, &mut EpollEvent::new(flags, token))?)
    }

    /// Waits for a descriptor to be writable as well, or no longer.
    ///
    /// # Errors
    /// The error of epoll_ctl(2).
    pub(crate) fn set_writable(&self, fd: impl AsFd, token: u64, writable: bool) -> io::Result<()> {
        let flags = if writable { EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN };
        Ok(self.epoll.modify(fd, &mut EpollEvent::new(flags, token))?)
    }

    /// Waits until a descriptor is ready, at most `timeout` (`None`: for ever), and puts the ready ones into `ready`. A
    /// signal ends the wait early, with none.
    ///
    /// # Errors
    /// The error of epoll_wait(2).
    pub(crate) fn wait(&mut self, ready: &mut Vec<Ready>, timeout: Option<Duration>) -> io::Result<()> {
        ready.clear();
        let mut events = [EpollEvent::empty(); 64];
        let waited = match self.fine.then(|| pwait2(&self.epoll, &mut events, timeout)) {
            Some(Err(error)) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                self.fine = false;
                coarse(&self.epoll, &mut events, timeout)
            }
            Some(result) => result,
            None => coarse(&self.epoll, &mut events, timeout),
        };
        let count = match waited {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            other => other?,
        };
        ready.extend(events.iter().take(count).map(|event| Ready {
            token: event.data(),
            error: event.events().intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP),
        }));
        Ok(())
    }
}

fn pwait2(epoll: &Epoll, events: &mut [EpollEvent], timeout: Option<Duration>) -> io::Result<usize> {
    let timeout = timeout.map(nix::sys::time::TimeSpec::from);
    // SAFETY: `EpollEvent` is a transparent `epoll_event`, and the given number of them may be written; `TimeSpec` is a
    // transparent `timespec`, as 64-bit kernels take it; the signal mask may be null.
    let count = unsafe {
        libc::syscall(
            libc::SYS_epoll_pwait2,
            epoll.0.as_raw_fd(),
            events.as_mut_ptr(),
            events.len() as libc::c_int,
            timeout.as_ref().map_or(ptr::null(), ptr::from_ref),
            ptr::null::<libc::sigset_t>(),
            0_usize,
        )
    };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

fn coarse(epoll: &Epoll, events: &mut [EpollEvent], timeout: Option<Duration>) -> io::Result<usize> {
    // Rounded up, since waking too early would spin.
    let millis = timeout.map(|t| t.as_nanos().div_ceil(1_000_000).try_into().unwrap_or(u16::MAX));
    Ok(epoll.wait(events, millis.map_or(EpollTimeout::NONE, EpollTimeout::from))?)
}

#[cfg(test)]
mod tests {
    use std::{io::Write, net::Shutdown, os::unix::net::UnixStream};

    use super::*;

    #[test]
    fn what_is_ready_is_told_by_either_system_call() {
        for fine in [true, false] {
            let mut poll = Poll { fine, ..Poll::new().unwrap() };
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            poll.add(&ours, 7).unwrap();
            let mut ready = Vec::new();
            poll.wait(&mut ready, Some(Duration::from_micros(1))).unwrap();
            assert_eq!(ready, []);
            theirs.write_all(b"x").unwrap();
            for _ in 0..2 {
                poll.wait(&mut ready, None).unwrap();
                assert_eq!(ready, [Ready { token: 7, error: false }], "level-triggered: reported until it is read");
            }
            // Not dropped: another test's child has copies of the descriptors until it executes its program.
            theirs.shutdown(Shutdown::Both).unwrap();
            poll.wait(&mut ready, None).unwrap();
            assert_eq!(ready, [Ready { token: 7, error: true }]);
            drop(ours);
            while !ready.is_empty() {
                poll.wait(&mut ready, Some(Duration::ZERO)).unwrap();
            }
        }
    }
}
