//! Notices the end of a process: an instance's or a container's first one. Its namespace can outlive it by minutes.

use std::{io, os::fd::OwnedFd};

use tokio::{sync::mpsc, task::JoinHandle};

use crate::sys::process::End;

/// A watch over one process, until dropped.
#[derive(Debug)]
pub(crate) struct Watch(JoinHandle<()>);

impl Watch {
    /// Reports `what` when the process behind the pidfd has ended.
    ///
    /// # Errors
    /// If the descriptor can't be waited for: it is no pidfd.
    pub(crate) fn new<T: Send + 'static>(pidfd: OwnedFd, what: T, ended: mpsc::UnboundedSender<T>) -> io::Result<Self> {
        let end = End::of(pidfd)?;
        Ok(Self(tokio::spawn(async move {
            if end.wait().await.is_ok() {
                let _ = ended.send(what);
            }
        })))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}
