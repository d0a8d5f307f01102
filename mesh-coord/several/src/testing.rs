//! What the tests of this crate commit.

use std::sync::Arc;

use mesh_model::{
    Change, Record, RunningSeconds, UnixSeconds,
    record::{Audit, By, Verdict},
};
use mesh_proto::Epoch;

use crate::store::{Draft, Nonce};

/// Any record.
pub(crate) fn put(number: u64) -> Change {
    Change::Put(Record::Audit(Arc::new(Audit {
        number,
        at: UnixSeconds(number),
        by: By::Socket { uid: 0 },
        action: "apply".to_owned(),
        detail: "日本 \"quoted\"".to_owned(),
        result: Verdict::Done,
        by_name: None,
        by_team: None,
        team: None,
        object: None,
        runner: None,
    })))
}

/// A commit of these changes.
pub(crate) fn draft(changes: Vec<Change>) -> Draft {
    Draft { changes, epoch: Epoch([7; 16]), running: RunningSeconds(9), nonce: Nonce(u64::MAX - 1), right: None }
}
