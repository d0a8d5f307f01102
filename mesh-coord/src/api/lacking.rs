//! Which parts of an answer are not of now, where several coordinators serve.

use mesh_model::record::MemberId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::peers;

/// A coordinator that doesn't answer. What runners and relays tell it is missing, or old; all else is of now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Lacking {
    #[schema(value_type = String)]
    pub(crate) id: MemberId,
    /// The name of its machine.
    pub(crate) host: String,
    /// The age of what is shown; null if nothing is known of it.
    pub(crate) age_seconds: Option<u64>,
}

impl From<&peers::Lacking> for Lacking {
    fn from(peers::Lacking { id, host, since }: &peers::Lacking) -> Self {
        Self { id: *id, host: host.clone(), age_seconds: since.map(|since| since.elapsed().as_secs()) }
    }
}

impl Lacking {
    /// All of these.
    pub(crate) fn all(lacking: &[peers::Lacking]) -> Vec<Self> {
        lacking.iter().map(Self::from).collect()
    }

    /// In words.
    pub(crate) fn words(&self) -> String {
        let host = &self.host;
        match self.age_seconds {
            Some(seconds) => format!("the coordinator on {host} doesn't answer: what only it knows is {seconds} s old"),
            None => format!("the coordinator on {host} doesn't answer: what only it knows is missing"),
        }
    }
}
