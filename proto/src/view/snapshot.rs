//! A view on the wire and on disk.

use serde::{Deserialize, Serialize};

use super::{Network, Record, View};
use crate::{Epoch, Revision, RunnerId};

/// A view on the wire and on disk.
#[derive(Serialize, Deserialize)]
pub(super) struct Snapshot {
    epoch: Epoch,
    revision: Revision,
    runner: RunnerId,
    network: Network,
    records: Vec<Record>,
}

impl From<View> for Snapshot {
    fn from(view: View) -> Self {
        Self {
            epoch: view.epoch,
            revision: view.revision,
            runner: view.runner,
            network: view.network,
            records: view.records.into_values().collect(),
        }
    }
}

impl From<Snapshot> for View {
    fn from(snapshot: Snapshot) -> Self {
        Self {
            epoch: snapshot.epoch,
            revision: snapshot.revision,
            runner: snapshot.runner,
            network: snapshot.network,
            records: snapshot.records.into_iter().map(|record| (record.key(), record)).collect(),
        }
    }
}
