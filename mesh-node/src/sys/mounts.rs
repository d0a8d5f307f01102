//! The mounts of a namespace: proc_pid_mountinfo(5), which also tells of each change by poll(2).
#![allow(unsafe_code, reason = "tokio requires that a registered descriptor stays open")]

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
};

use tokio::io::{Interest, unix::AsyncFd};

/// The mounts that a process sees. The mount namespace stays as long as this does.
#[derive(Debug)]
pub(crate) struct Mounts(AsyncFd<File>);

impl Mounts {
    /// The mounts that this process sees; `None`: this one. Within a tokio runtime.
    ///
    /// # Errors
    /// If the process has ended, or can't be inspected.
    pub(crate) fn of(pid: Option<i32>) -> io::Result<Self> {
        let file = File::open(path(pid))?;
        // SAFETY: the `AsyncFd` owns the descriptor and never gives it away.
        let registered = unsafe { AsyncFd::register_with_interest(file, Interest::PRIORITY) };
        registered.map(Self).map_err(|e| e.into_parts().1)
    }

    /// Waits for a change since the last one, or since this was opened.
    ///
    /// # Errors
    /// If the runtime ends first.
    pub(crate) async fn changed(&self) -> io::Result<()> {
        self.0.ready(Interest::PRIORITY).await?.clear_ready();
        Ok(())
    }

    /// The present mounts, one a line.
    ///
    /// # Errors
    /// The error of read(2).
    pub(crate) fn read(&self) -> io::Result<String> {
        let (mut text, mut piece) = (vec![], vec![0; 1 << 16]);
        loop {
            match self.0.get_ref().read_at(&mut piece, text.len() as u64)? {
                0 => return Ok(String::from_utf8_lossy(&text).into_owned()),
                count => text.extend_from_slice(piece.get(..count).unwrap_or_default()),
            }
        }
    }
}

/// The present mounts that a process sees, one a line; `None`: this one.
///
/// # Errors
/// As [`Mounts::of`].
pub(crate) fn read(pid: Option<i32>) -> io::Result<String> {
    fs::read(path(pid)).map(|text| String::from_utf8_lossy(&text).into_owned())
}

fn path(pid: Option<i32>) -> String {
    pid.map_or_else(|| "/proc/self/mountinfo".to_owned(), |pid| format!("/proc/{pid}/mountinfo"))
}
