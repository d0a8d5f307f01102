//! What is told of each read of a hosts file, so that a test can make a file system that doesn't answer.

use std::{fmt, sync::Arc};

/// Called before each read, in the thread that reads. Nothing, unless one was injected.
#[derive(Clone, Default)]
pub(crate) struct Probe(Option<Arc<dyn Fn() + Send + Sync>>);

impl Probe {
    pub(super) fn reads(&self) {
        self.0.iter().for_each(|probe| probe());
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Probe").field(&self.0.is_some()).finish()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use tokio::sync::{Mutex, OwnedMutexGuard};

    use super::{super::HostsFile, Arc, Probe};

    /// A file system that can be made not to answer.
    #[derive(Debug, Default)]
    pub(crate) struct Stall(Arc<Mutex<()>>);

    impl Stall {
        /// A file on it.
        pub(crate) fn holds(&self, mut file: HostsFile) -> HostsFile {
            let stall = Arc::clone(&self.0);
            file.probe = Probe(Some(Arc::new(move || drop(stall.blocking_lock()))));
            file
        }

        /// It doesn't answer until this is dropped.
        pub(crate) async fn begin(&self) -> OwnedMutexGuard<()> {
            Arc::clone(&self.0).lock_owned().await
        }
    }
}
