//! The file that keeps connections while the agent restarts.

use std::{fs, num::NonZeroUsize};

use mesh_engine::{PIN_MEMORY, PinMemory};

use crate::{state::StateDir, sys::mmap::Mapping};

/// The connections, and the boot of the machine: no connection outlives that.
pub(crate) const FILE: &str = "pins";
pub(crate) const BOOT: &str = "boot.json";

struct Pins(Mapping);

impl PinMemory for Pins {
    fn bytes(&mut self) -> &mut [u8] {
        self.0.bytes()
    }
}

/// The memory for the engine. Without a file it is lost with this process.
pub(crate) fn open(state: &StateDir) -> Box<dyn PinMemory> {
    let path = state.path().join(FILE);
    let boot = mesh_process::boot_id().ok();
    // Version 0.1 wrote the identifier with its line break.
    let known = state.read::<Option<String>>(BOOT).ok().flatten();
    if known.map(|known| known.map(|known| known.trim().to_owned())) != Some(boot.clone()) {
        let _ = fs::remove_file(&path);
        if let Err(error) = state.write(BOOT, &boot) {
            tracing::debug!(%error, "cannot note the machine's boot");
        }
    }
    let length = const { NonZeroUsize::new(PIN_MEMORY).expect("not zero") };
    match Mapping::open(&path, length) {
        Ok(mapping) => Box::new(Pins(mapping)),
        Err(error) => {
            let path = path.display();
            tracing::warn!(%path, %error, "connections to services with several instances will not survive the next restart of the agent");
            Box::new(vec![0; PIN_MEMORY])
        }
    }
}
