//! The instances and containers on disk.

use std::io;

use mesh_lifecycle::{OldContainers, Remembered, SaveId};

use crate::state::StateDir;

/// Where they are remembered.
pub(crate) const FILE: &str = "instances.json";
/// Where versions before 0.2 remembered containers.
pub(crate) const FILE_OF_CONTAINERS: &str = "containers.json";

/// What is to be written.
#[derive(Debug, Default)]
pub(super) struct Saving {
    newest: Option<SaveId>,
    under_way: bool,
}

impl Saving {
    /// What the lifecycle remembers is to be written.
    pub(super) const fn wants(&mut self, save: SaveId) {
        self.newest = Some(save);
    }

    /// Whether it is to be written now: not while something is being written. For which requests that is.
    pub(super) fn begin(&mut self) -> Option<SaveId> {
        let next = self.newest.take_if(|_| !self.under_way)?;
        self.under_way = true;
        Some(next)
    }

    /// It is written, or can't be for now.
    pub(super) const fn end(&mut self) {
        self.under_way = false;
    }
}

/// What an earlier agent left. A damaged file is put aside: its instances are lost to this runner, and the coordinator ends them.
pub(crate) fn load(state: &StateDir) -> Remembered {
    let instances = state.read(FILE).unwrap_or_else(|error| {
        state.put_aside(FILE);
        tracing::warn!(%error, "the instances of an earlier run are lost: attach them anew");
        None
    });
    let containers = state.read::<OldContainers>(FILE_OF_CONTAINERS).unwrap_or_else(|error| {
        state.put_aside(FILE_OF_CONTAINERS);
        tracing::warn!(%error, "which containers hold instances is lost: the end of their namespaces will be theirs");
        None
    });
    Remembered::taken_over(mesh_process::boot_id().unwrap_or_default(), instances, containers)
}

/// Remembers.
pub(super) fn save(state: &StateDir, remembered: &Remembered) -> io::Result<()> {
    state.remember(FILE, remembered)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use mesh_lifecycle::{Attachment, NamespaceId};
    use mesh_proto::InstanceId;

    use super::*;
    use crate::state::tests::Scratch;

    /// What 0.1 remembered.
    const INSTANCES: &str = include_str!("../../lifecycle/tests/files/instances-0.1.json");
    const CONTAINERS: &str = include_str!("../../lifecycle/tests/files/containers-0.1.json");

    fn attachment(id: u64) -> Attachment {
        let mut old: Remembered = serde_json::from_str(INSTANCES).unwrap();
        let (instance, namespace) = (InstanceId(id), NamespaceId { dev: 4, ino: id });
        Attachment { instance, namespace, ..old.attachments.remove(0) }
    }

    fn ids(remembered: &Remembered) -> (Vec<u64>, Vec<u64>) {
        let attached = remembered.attachments.iter().map(|attachment| attachment.instance.0);
        (attached.collect(), remembered.ended.iter().map(|held| held.instance.0).collect())
    }

    #[test]
    fn what_is_remembered_is_there_after_a_restart_of_the_agent_and_ends_with_the_machine() {
        let scratch = Scratch::new("instances");
        let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
        let mut remembered = load(&state);
        assert_eq!(ids(&remembered), (vec![], vec![]));
        (remembered.attachments, remembered.ended) = (vec![attachment(3)], vec![attachment(2).held()]);
        save(&state, &remembered).unwrap();
        assert_eq!(load(&state), remembered);
        save(&state, &Remembered { boot: "another".into(), ..remembered }).unwrap();
        assert_eq!(ids(&load(&state)), (vec![], vec![2, 3]));
    }

    #[test]
    fn what_0_1_remembered_is_taken_over() {
        let scratch = Scratch::new("instances-0.1");
        let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
        for (file, text) in [(FILE, INSTANCES), (FILE_OF_CONTAINERS, CONTAINERS)] {
            let boot = mesh_process::boot_id().unwrap();
            fs::write(scratch.0.join(file), text.replace("02af2954-21b3-43e2-be88-65714e890e9c", &boot)).unwrap();
        }
        let remembered = load(&state);
        assert_eq!((ids(&remembered), remembered.containers.len()), ((vec![2, 3], vec![1]), 1));
    }

    #[test]
    fn a_damaged_file_is_put_aside() {
        let scratch = Scratch::new("damaged-instances");
        let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
        for file in [FILE, FILE_OF_CONTAINERS] {
            fs::write(scratch.0.join(file), "{").unwrap();
            let remembered = load(&state);
            assert!(remembered.attachments.is_empty() && remembered.containers.is_empty());
            assert!(scratch.0.join(format!("{file}.damaged")).exists());
            save(&state, &remembered).unwrap();
        }
    }
}
