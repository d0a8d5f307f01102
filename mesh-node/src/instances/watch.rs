//! Notices the end of an instance's first process. Its namespace can outlive it by minutes.

use std::{io, os::fd::OwnedFd};

use tokio::{sync::mpsc, task::JoinHandle};

use crate::{attach::NamespaceId, sys::process::End};

/// A watch over one process, until dropped.
#[derive(Debug)]
pub(super) struct Watch(JoinHandle<()>);

impl Watch {
    /// Reports the namespace when the process behind the pidfd has ended. (The instance in it can become another one.)
    ///
    /// # Errors
    /// If the descriptor can't be waited for: it is no pidfd.
    pub(super) fn new(
        pidfd: OwnedFd,
        namespace: NamespaceId,
        ended: mpsc::UnboundedSender<NamespaceId>,
    ) -> io::Result<Self> {
        let end = End::of(pidfd)?;
        Ok(Self(tokio::spawn(async move {
            if end.wait().await.is_ok() {
                let _ = ended.send(namespace);
            }
        })))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}
