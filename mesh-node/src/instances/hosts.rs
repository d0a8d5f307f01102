//! The hosts files in which instances' names are kept.

use std::sync::Arc;

use mesh_proto::{InstanceId, View, message::Refusal, names::names};
use serde::{Deserialize, Deserializer};
use tokio::task::spawn_blocking;

use super::manager::Instances;
use crate::hosts::{Guard, HostsFile, Place};

/// A hosts file in which an instance's names are kept.
#[derive(Debug)]
pub(super) struct Hosts {
    pub(super) place: Place,
    pub(super) file: Arc<HostsFile>,
    /// Puts them back, until dropped.
    pub(super) _guard: Option<Guard>,
}

impl Instances {
    /// A hosts file that keeps its names whatever a runtime writes.
    pub(super) fn guarded(&self, place: Place, file: Arc<HostsFile>) -> Hosts {
        let guard = self.inner.parts.guards.as_ref().map(|guards| guards.guard(&file)).transpose();
        let _guard = guard.unwrap_or_else(|error| {
            tracing::warn!(?place, %error, "if its runtime rewrites this hosts file, the names are gone until they change");
            None
        });
        Hosts { place, file, _guard }
    }
}

/// Writes what the view says into an instance's hosts file.
pub(super) async fn put_names(view: Option<&View>, instance: InstanceId, file: Arc<HostsFile>) -> Result<(), Refusal> {
    let names = view.and_then(|view| names(view, view.instance(instance)?.service));
    let Some(names) = names else { return Ok(()) };
    let written = spawn_blocking(move || file.put(&names.hosts)).await.unwrap_or_else(|e| Err(e.into()));
    written.map_err(|e| {
        let hint = "give another one with --hosts FILE, or attach by --netns PATH, without a hosts file";
        Refusal::new(format!("the names can't be written into the hosts file: {e}"), hint)
    })
}

/// Of several hosts files, or of the one at most that earlier versions knew.
pub(super) fn places<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Place>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Places {
        Several(Vec<Place>),
        AtMostOne(Option<Place>),
    }
    Ok(match Places::deserialize(from)? {
        Places::Several(places) => places,
        Places::AtMostOne(place) => place.into_iter().collect(),
    })
}
