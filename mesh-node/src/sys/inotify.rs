//! Notices that a file was written to: inotify(7).
#![allow(unsafe_code, reason = "tokio requires that a registered descriptor stays open")]

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd, RawFd},
    path::Path,
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor},
};
use tokio::io::{Interest, unix::AsyncFd};

/// A watch on a file.
pub(crate) type Watched = WatchDescriptor;

/// Watches on any number of files.
#[derive(Debug)]
pub(crate) struct Writes(AsyncFd<Owned>);

/// An inotify instance in the form that tokio needs.
#[derive(Debug)]
struct Owned(Inotify);

impl AsRawFd for Owned {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// An event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// A program that had this file open for writing has closed it.
    One(Watched),
    /// This file was renamed or unlinked: another file may have its name.
    Moved(Watched),
    /// Events were lost.
    Any,
}

impl Writes {
    /// Without a watch; within a tokio runtime.
    ///
    /// # Errors
    /// If this user has too many instances (`fs.inotify.max_user_instances`).
    pub(crate) fn new() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        // SAFETY: the `AsyncFd` owns the descriptor and never gives it away.
        let registered = unsafe { AsyncFd::register_with_interest(Owned(inotify), Interest::READABLE) };
        registered.map(Self).map_err(|e| e.into_parts().1)
    }

    /// Watches a file for writes and renames. A second call for the same file returns the same watch.
    ///
    /// # Errors
    /// If the file doesn't exist, or this user has too many watches (`fs.inotify.max_user_watches`).
    pub(crate) fn watch(&self, path: &Path) -> io::Result<Watched> {
        // If another file takes its name, it loses a link, which is a change of its attributes.
        let events = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_MOVE_SELF;
        Ok(self.0.get_ref().0.add_watch(path, events)?)
    }

    /// Ends a watch.
    pub(crate) fn unwatch(&self, watched: Watched) {
        // The watch may have ended with its file.
        let _ = self.0.get_ref().0.rm_watch(watched);
    }

    /// Waits for the next event.
    ///
    /// # Errors
    /// The error of read(2).
    pub(crate) async fn next(&self) -> io::Result<Vec<Written>> {
        loop {
            let mut ready = self.0.readable().await?;
            match self.0.get_ref().0.read_events() {
                Ok(events) => {
                    let what = |mask: AddWatchFlags, watched| match mask {
                        _ if mask.contains(AddWatchFlags::IN_Q_OVERFLOW) => Written::Any,
                        _ if mask.intersects(AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_MOVE_SELF) => {
                            Written::Moved(watched)
                        }
                        _ => Written::One(watched),
                    };
                    return Ok(events.iter().map(|event| what(event.mask, event.wd)).collect());
                }
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
