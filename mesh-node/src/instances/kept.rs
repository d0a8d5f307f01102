//! The hosts files in which instances' names are kept, as the lifecycle names them: by the operation that opened or kept each.

use std::collections::HashMap;

use mesh_lifecycle::{FileId, HostsAnswer, Input, OpId};
use mesh_proto::ServicePath;
use tokio::sync::{mpsc, watch};

use crate::hosts::{Files, HostsFile, Kept, Taken};

/// The hosts files that are open.
#[derive(Debug)]
pub(super) struct Hosts {
    files: Files,
    /// Those in which names are kept.
    pub(super) kept: HashMap<OpId, Kept>,
    /// Those of an earlier agent, or that were replaced, which are not kept yet.
    pub(super) opened: HashMap<OpId, HostsFile>,
}

/// What happens to hosts files.
#[derive(Debug)]
pub(super) struct Moves {
    moved: mpsc::UnboundedReceiver<FileId>,
    released: watch::Receiver<()>,
}

impl Moves {
    /// The next that happens.
    pub(super) async fn next(&mut self) -> Input {
        tokio::select! {
            Some(file) = self.moved.recv() => Input::HostsMoved(file),
            Ok(()) = self.released.changed() => Input::HostsReleased,
            else => std::future::pending().await,
        }
    }
}

impl Hosts {
    pub(super) fn new(files: Files, moved: mpsc::UnboundedReceiver<FileId>) -> (Self, Moves) {
        let released = files.released();
        (Self { files, kept: HashMap::new(), opened: HashMap::new() }, Moves { moved, released })
    }

    /// Closes a file in which names were kept, and leaves it as it is.
    pub(super) fn close(&mut self, handle: OpId) {
        self.kept.remove(&handle);
    }

    /// Closes a file that was opened, and is not kept.
    pub(super) fn close_opened(&mut self, opened: OpId) {
        if let Some(file) = self.opened.remove(&opened) {
            file.let_go();
        }
    }

    /// Keeps a file from now on. One that another service keeps is returned.
    pub(super) fn keep(
        &mut self,
        op: OpId,
        file: HostsFile,
        service: &ServicePath,
    ) -> (HostsAnswer, Option<HostsFile>) {
        match self.files.keep(file, service) {
            Ok(kept) => {
                let id = kept.id();
                self.kept.insert(op, kept);
                (HostsAnswer::Kept(id), None)
            }
            Err(taken) => {
                let Taken { file, by, there } = *taken;
                let hosts = file.name().display().to_string();
                (HostsAnswer::Taken { hosts, by, there: there.map(|there| there.id()) }, Some(file))
            }
        }
    }
}
