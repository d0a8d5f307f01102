//! What tells that a file is to be looked at.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Rings when a file was written or moved.
#[derive(Debug, Default)]
pub(super) struct Bell {
    pub(super) rung: Notify,
    /// Another file may have replaced it.
    moved: AtomicBool,
}

impl Bell {
    /// Another file may have replaced it.
    pub(super) fn ring_for_move(&self) {
        self.moved.store(true, Ordering::Relaxed);
        self.rung.notify_one();
    }

    /// Whether another file may have replaced it since the last call.
    pub(super) fn take_moved(&self) -> bool {
        self.moved.swap(false, Ordering::Relaxed)
    }
}
