//! The memory that an engine leaves to the next one.

use std::sync::{Arc, Mutex, PoisonError};

use mesh_engine::PinMemory;

/// The memory of a runner's engines: each one gets it in turn, like a mapped file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pins(Arc<Mutex<Vec<u8>>>);

/// Memory that returns when its engine is dropped.
struct Lent(Vec<u8>, Pins);

impl Pins {
    pub(crate) fn lend(&self, records: usize) -> Box<dyn PinMemory> {
        let mut bytes = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        bytes.resize(64 + 64 * records, 0);
        Box::new(Lent(bytes, self.clone()))
    }

    pub(crate) fn lose(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl PinMemory for Lent {
    fn bytes(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        *self.1.0.lock().unwrap_or_else(PoisonError::into_inner) = std::mem::take(&mut self.0);
    }
}
