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
    /// Whether there is epoll_pwait2(2): Linux 5.11, and no seccomp filter of before.
    fine: bool,
}

/// Something is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ready {
    /// What the descriptor was added with.
    pub(crate) token: u64,
    /// There is an error or a hang-up to be found; perhaps also something to read.
    pub(crate) error: bool,
}

impl Poll {
    /// An empty set.
    ///
    /// # Errors
    /// What epoll_create1(2) says.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?, fine: cfg!(target_pointer_width = "64") })
    }

    /// Waits for `fd` to be readable, from now until it is closed.
    ///
    /// # Errors
    /// What epoll_ctl(2) says.
    pub(crate) fn add(&self, fd: impl AsFd, token: u64) -> io::Result<()> {
        Ok(self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token))?)
    }

    /// Waits until something is ready, at most `timeout` (`None`: for ever), and puts it into `ready`. A signal ends
    /// the waiting early, with nothing.
    ///
    /// # Errors
    /// What epoll_wait(2) says.
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
    // SAFETY: `EpollEvent` is a transparent `epoll_event`, of which as many may be written as there are; `TimeSpec` is a
    // transparent `timespec`, as the 64-bit kernels take it; the signal mask may be null.
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
    // Rounded up: to wake too early is to spin.
    let millis = timeout.map(|t| t.as_nanos().div_ceil(1_000_000).try_into().unwrap_or(u16::MAX));
    Ok(epoll.wait(events, millis.map_or(EpollTimeout::NONE, EpollTimeout::from))?)
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::net::UnixStream};

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
                assert_eq!(ready, [Ready { token: 7, error: false }], "level-triggered: told until it is read");
            }
            drop(theirs);
            poll.wait(&mut ready, None).unwrap();
            assert_eq!(ready, [Ready { token: 7, error: true }]);
            drop(ours);
            poll.wait(&mut ready, Some(Duration::ZERO)).unwrap();
            assert_eq!(ready, []);
        }
    }
}
