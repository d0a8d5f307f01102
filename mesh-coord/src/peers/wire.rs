//! What coordinators ask each other.

use std::{collections::BTreeSet, net::IpAddr};

use mesh_model::record::{MemberId, SecretHandle};
use mesh_proto::{Epoch, Revision, RunnerId};
use serde::{Deserialize, Serialize};

/// A question, with who is meant: an address can lead to another coordinator.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct To<T> {
    pub(crate) member: MemberId,
    #[serde(flatten)]
    pub(crate) what: T,
}

/// Which of these runners have confirmed what changed up to the revision? The answer comes once all of them that are
/// connected there have, or after so many milliseconds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Settled {
    pub(crate) epoch: Epoch,
    pub(crate) revision: Revision,
    pub(crate) runners: BTreeSet<RunnerId>,
    pub(crate) milliseconds: u64,
}

/// Those that have.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Runners {
    pub(crate) runners: BTreeSet<RunnerId>,
}

/// Can it reach the database now?
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Contact {}

/// Whether it can.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct InContact {
    pub(crate) in_contact: bool,
}

/// Does the agent at the other end of this stream answer?
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Probe {
    pub(crate) runner: RunnerId,
    pub(crate) number: u64,
}

/// The address from which it is connected, if it answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Probed {
    pub(crate) from: Option<IpAddr>,
}

/// The secret of a relay.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RelaySecretOf {
    pub(crate) handle: SecretHandle,
}

/// The secret, if it is there.
#[derive(Serialize, Deserialize)]
pub(crate) struct SecretText {
    pub(crate) secret: Option<String>,
}
