//! The instances on disk.

use std::io;

use mesh_proto::message::Held;
use serde::{Deserialize, Serialize};

use super::table::Attachment;
use crate::state::StateDir;

pub(crate) const FILE: &str = "instances.json";

/// What a restarted agent needs to find its instances again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remembered {
    version: u32,
    /// Which start of the machine: namespaces don't outlive it, and their numbers are given again.
    boot: String,
    pub(super) attachments: Vec<Attachment>,
    /// What ended while the coordinator was away.
    pub(super) ended: Vec<Held>,
}

/// What an earlier agent left. Instances of an earlier start of the machine have ended with it. A damaged file is put
/// aside: its instances are lost to us, and the coordinator ends them.
pub(crate) fn load(state: &StateDir) -> Remembered {
    let fresh = Remembered { version: 1, boot: boot(), attachments: vec![], ended: vec![] };
    match state.read::<Remembered>(FILE) {
        Ok(None) => fresh,
        Ok(Some(old)) if old.boot == fresh.boot => old,
        Ok(Some(old)) => {
            let ended = old.ended.into_iter().chain(old.attachments.iter().map(Attachment::held)).collect();
            Remembered { ended, ..fresh }
        }
        Err(error) => {
            state.put_aside(FILE);
            tracing::warn!(%error, "the instances of an earlier run are lost: attach them anew");
            fresh
        }
    }
}

/// Remembers.
pub(super) fn save(state: &StateDir, attachments: Vec<Attachment>, ended: Vec<Held>) -> io::Result<()> {
    state.remember(FILE, &Remembered { version: 1, boot: boot(), attachments, ended })
}

/// The kernel's number for this start of the machine (random(4)).
pub(crate) fn boot() -> String {
    mesh_process::boot_id().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{instances::table::tests::attachment, state::tests::Scratch};

    #[test]
    fn what_is_remembered_is_there_after_a_restart() {
        let scratch = Scratch::new("instances");
        let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
        assert!(load(&state).attachments.is_empty());
        let there = attachment(3, "shop/db", 1);
        save(&state, vec![there.clone()], vec![attachment(2, "shop/app", 2).held()]).unwrap();
        let loaded = load(&state);
        assert_eq!(loaded.attachments, [there]);
        assert_eq!(loaded.ended, [attachment(2, "shop/app", 2).held()]);
    }

    #[test]
    fn a_restart_of_the_machine_ends_every_instance() {
        let scratch = Scratch::new("reboot");
        let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
        let before = Remembered {
            version: 1,
            boot: "another".into(),
            attachments: vec![attachment(3, "shop/db", 1)],
            ended: vec![attachment(2, "shop/app", 2).held()],
        };
        state.write(FILE, &before).unwrap();
        let loaded = load(&state);
        assert!(loaded.attachments.is_empty());
        assert_eq!(loaded.ended.iter().map(|held| held.instance.0).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn a_damaged_file_is_put_aside() {
        let scratch = Scratch::new("damaged-instances");
        let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
        fs::write(scratch.0.join(FILE), "{").unwrap();
        assert!(load(&state).attachments.is_empty());
        assert!(scratch.0.join("instances.json.damaged").exists());
        save(&state, vec![], vec![]).unwrap();
    }
}
