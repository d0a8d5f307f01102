//! Two machines with one identity, because one is a copy of the other. The first machine keeps the identity as long
//! as its agent answers. A restarted agent is no copy, because its old process doesn't answer.

use std::time::{Duration, Instant};

use mesh_model::record::StreamKey;
use mesh_proto::RunnerId;

use crate::{
    session::{Link, Peer, StreamId},
    sessions::Sessions,
};

/// How long an agent that was refused as a copy has to wait for the first machine, after that machine's last stream,
/// before it may take its place.
const PREFERENCE: Duration = Duration::from_secs(60);

/// The runner's other process, as a newcomer finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Predecessor {
    /// There is none, or it doesn't matter.
    None,
    /// It was connected a moment ago, and the newcomer was refused as its copy before. The newcomer is refused again.
    JustLeft(Option<Peer>),
    /// It is connected. The newcomer is refused if it answers.
    Connected(StreamId, Peer),
    /// The same at another coordinator.
    Elsewhere(StreamKey, Peer),
}

impl Sessions {
    /// The other process that `newcomer` finds. `refused`: the newcomer reports that it was refused as a copy before.
    #[must_use]
    pub fn predecessor(&self, runner: RunnerId, newcomer: Peer, refused: bool, now: Instant) -> Predecessor {
        if newcomer.process.is_none() {
            return Predecessor::None;
        }
        let is_other = |peer: Peer| peer.process.is_some() && peer.process != newcomer.process;
        if let Some(there) = self.elsewhere(runner) {
            let peer = Peer { process: there.process, from: there.from };
            return if is_other(peer) { Predecessor::Elsewhere(there.stream, peer) } else { Predecessor::None };
        }
        let Some(presence) = self.presence(runner) else { return Predecessor::None };
        match &presence.link {
            Link::Connected(session) if !is_other(session.peer) => Predecessor::None,
            Link::Connected(session) => {
                Predecessor::Connected(StreamId { runner, number: session.number }, session.peer)
            }
            Link::Away { since, last, .. } => {
                let since = since.unwrap_or(self.started()).max(self.started());
                let other = last.is_none_or(|last| last.process != newcomer.process);
                if refused && other && now.saturating_duration_since(since) < PREFERENCE {
                    Predecessor::JustLeft(*last)
                } else {
                    Predecessor::None
                }
            }
        }
    }
}
