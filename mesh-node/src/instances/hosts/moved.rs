//! Hosts files that are replaced, and not rewritten: another file has the name. The names follow there, and stay in the first one
//! as well, which may be mounted in a container.

use std::sync::{Arc, Weak};

use tokio::{sync::mpsc, task::spawn_blocking, time::sleep};

use super::{Inner, Instances, LATE, Left, SOON};
use crate::hosts::FileId;

/// For as long as the agent runs.
pub(in super::super) async fn follow(inner: Weak<Inner>, mut moves: mpsc::UnboundedReceiver<FileId>) {
    while let Some(file) = moves.recv().await {
        let Some(inner) = inner.upgrade() else { return };
        let this = Instances { inner };
        for left in this.places_of(file) {
            // One at a time at each place: what happens meanwhile is seen by that one.
            if this.following().insert((left.namespace, left.place.clone())) {
                tokio::spawn(follow_one(Arc::downgrade(&this.inner), left));
            }
        }
    }
}

impl Instances {
    fn places_of(&self, file: FileId) -> Vec<Left> {
        let table = self.table();
        let of = |entry: &super::super::table::Entry| {
            let (namespace, service) = (entry.attachment.namespace, entry.attachment.service.clone());
            entry
                .places_of(file)
                .cloned()
                .map(move |place| Left { namespace, service: service.clone(), place })
                .collect::<Vec<_>>()
        };
        table.iter().flat_map(of).collect()
    }

    /// Whether another file stands at the place by now, and may; `None`: none does.
    async fn has_moved(&self, left: &Left) -> Option<bool> {
        let (latest, unkept) = self.wants(left).and_then(|instance| {
            let table = self.table();
            let entry = table.get(instance)?;
            Some((entry.latest(&left.place)?, entry.attachment.unkept.is_some()))
        })?;
        let place = left.place.clone();
        let look = move || {
            // One that could not be kept may be gone again: then nothing is wrong any more.
            let moved = place.leads_elsewhere(latest.id()).map(|moved| moved || unkept);
            moved.filter(|moved| !moved || place.is_heir_of(latest.owner()))
        };
        spawn_blocking(look).await.ok()?
    }
}

/// Looks, less and less often, until the file that stands there is the one that is kept, and has been for a while.
async fn follow_one(inner: Weak<Inner>, left: Left) {
    let (mut pause, mut quiet) = (SOON, 0);
    loop {
        let Some(this) = inner.upgrade().map(|inner| Instances { inner }) else { return };
        if this.wants(&left).is_none() {
            this.following().remove(&(left.namespace, left.place));
            return;
        }
        match this.has_moved(&left).await {
            Some(false) => quiet += 1,
            Some(true) => {
                quiet = 0;
                // What stands in the way may go.
                let _ = this.reopen(&left).await;
            }
            // Not there yet, as while it is made; or none to be written to.
            None => quiet = 0,
        }
        if quiet == 2 {
            this.following().remove(&(left.namespace, left.place.clone()));
            // It may have moved just before.
            if this.has_moved(&left).await != Some(true)
                || !this.following().insert((left.namespace, left.place.clone()))
            {
                return;
            }
            quiet = 0;
        }
        drop(this);
        sleep(pause).await;
        pause = (pause * 2).min(LATE);
    }
}
