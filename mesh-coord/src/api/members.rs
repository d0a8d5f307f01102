//! Which coordinators serve.

use mesh_model::record::MemberId;
use mesh_proto::Revision;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::VERSION;
use crate::{
    coordinator::Coordinator,
    peers::{self, Peer},
};

/// The coordinators on the same records.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Members {
    pub(crate) version: u32,
    pub(crate) members: Vec<Member>,
}

/// A coordinator.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Member {
    #[schema(value_type = String)]
    pub(crate) id: MemberId,
    pub(crate) host: String,
    pub(crate) urls: Vec<String>,
    #[serde(rename = "version")]
    pub(crate) program: String,
    pub(crate) state: MemberState,
    /// How many runners are connected to it.
    pub(crate) runners: usize,
    /// The revision that it has reached.
    pub(crate) revision: Revision,
    /// How long ago its last sign of life came.
    pub(crate) age_seconds: u64,
}

/// Whether a coordinator serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MemberState {
    /// It gives signs of life, and knows what was confirmed.
    Fresh,
    /// It has given none for a while.
    Stale,
    /// It has ended, or is cut off.
    Gone,
}

impl Members {
    /// The coordinators as this one knows them; of itself it knows how far it is.
    pub(crate) fn of(coordinator: &Coordinator, revision: Revision, runners: usize) -> Self {
        let peers = &coordinator.peers;
        let state = if coordinator.is_stale() { MemberState::Stale } else { MemberState::Fresh };
        let known = peers.all();
        let card = known.iter().find(|peer| peer.id == peers.me).map(|peer| peer.card.clone());
        let (host, urls) = card.map(|card| (card.host, card.urls)).unwrap_or_default();
        let program = env!("CARGO_PKG_VERSION").to_owned();
        let this = Member { id: peers.me, host, urls, program, state, runners, revision, age_seconds: 0 };
        let mut members = vec![this];
        members.extend(known.into_iter().filter(|peer| peer.id != peers.me).map(Member::from));
        members.sort_by(|a, b| (&a.host, a.id).cmp(&(&b.host, b.id)));
        Self { version: VERSION, members }
    }
}

impl From<Peer> for Member {
    fn from(peer: Peer) -> Self {
        let now = peers::now();
        let state = match (peer.is_gone, peer.is_fresh(now)) {
            (true, _) => MemberState::Gone,
            (false, true) => MemberState::Fresh,
            (false, false) => MemberState::Stale,
        };
        let age_seconds = now.saturating_duration_since(peer.heard).as_secs();
        let (id, card) = (peer.id, peer.card);
        Self {
            id,
            host: card.host,
            urls: card.urls,
            program: card.version,
            state,
            runners: card.runners,
            revision: card.revision,
            age_seconds,
        }
    }
}
