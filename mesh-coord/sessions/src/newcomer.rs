//! Two machines with one identity: a copy of a machine that is a runner. The first machine stays, as long as its agent
//! answers. An agent that has started again has no process behind it that answers.

use std::time::{Duration, Instant};

use mesh_proto::RunnerId;

use crate::{
    session::{Link, Peer, StreamId},
    sessions::Sessions,
};

/// How long after its last stream the first machine is waited for, before an agent that was refused as a copy may take
/// its place.
const PREFERENCE: Duration = Duration::from_secs(60);

/// Which other process of the runner was there before a newcomer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Predecessor {
    /// None that is in the newcomer's way.
    None,
    /// One that was connected a moment ago, and the newcomer was refused as its copy before: it is refused again.
    JustLeft(Option<Peer>),
    /// One that is connected: the newcomer is refused if it answers.
    Connected(StreamId, Peer),
}

impl Sessions {
    /// Which process was there before `newcomer`. `refused`: the newcomer reports that it was refused as a copy before.
    #[must_use]
    pub fn predecessor(&self, runner: RunnerId, newcomer: Peer, refused: bool, now: Instant) -> Predecessor {
        let Some(presence) = self.presence(runner).filter(|_| newcomer.process.is_some()) else {
            return Predecessor::None;
        };
        match &presence.link {
            Link::Connected(session) if session.peer.process.is_none() || session.peer.process == newcomer.process => {
                Predecessor::None
            }
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
