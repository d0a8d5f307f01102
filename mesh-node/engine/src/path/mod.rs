//! The paths to another runner: which there are, which one is used, and how far that reaches.
//!
//! [`Link`] is the state for one runner. Only the silence of data takes a path out of use ([`ask`]), and only the answer to
//! a ping brings another kind into use ([`choose`]): by a relay, or without one. Direct paths through NATs are opened by
//! both sides at the same time ([`meet`], [`knock`]).

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use crate::{
    hop::{Hop, Way},
    limit::Bucket,
    probe::Meet,
};

mod ask;
mod choose;
mod hops;
mod knock;
mod link;
mod meet;
mod reach;
#[cfg(test)]
mod tests;

pub(crate) use self::{
    ask::Cause,
    hops::{Around, Site},
    link::Link,
    reach::{LEAST, Reach, Volley},
};
use self::{ask::Suspicion, knock::Knocks, meet::Meetings};

/// The most paths of a runner, with the one that is used.
const PATHS: usize = 16;

/// One path.
#[derive(Debug)]
struct Path {
    hop: Hop,
    /// The address of this machine that the runner sends to from there.
    local: Option<IpAddr>,
    reach: Reach,
    /// Until when it isn't used because data on it went unanswered, and how often that was in a row.
    shut: Option<Instant>,
    falls: u8,
    /// Whether a meeting pings it more than once.
    often: bool,
    /// The pings since this one are of the present doubt.
    asked: u16,
}

impl Path {
    fn new(way: Way, number: u16) -> Self {
        let Way { to: hop, from: local } = way;
        Self { hop, local, reach: Reach::new(number), shut: None, falls: 0, often: false, asked: 0 }
    }

    const fn way(&self) -> Way {
        Way { to: self.hop, from: self.local }
    }

    fn is_shut(&self, now: Instant) -> bool {
        self.shut.is_some_and(|until| until > now)
    }
}

/// What is known of the paths while a runner is in contact.
#[derive(Debug, Default)]
struct Contact {
    state: State,
    /// The path for data.
    used: Option<Path>,
    /// Since when it is used.
    since: Option<Instant>,
    others: Vec<Path>,
    /// The number of the latest path.
    number: u16,
    /// The source of an initiation that no data has followed yet. An attacker may have replayed it, so that it is only one
    /// more address to try.
    claimed: Option<Way>,
    suspicion: Option<Suspicion>,
    /// For changes from a relay to a direct path, and from one path to another of the same kind.
    rises: Bucket,
    roams: Bucket,
    knocks: Knocks,
    meetings: Meetings,
}

/// Whether the used path works.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No path is known to work: handshakes go out to find one.
    #[default]
    Opening,
    /// As far as is known.
    Up,
    /// Data isn't answered, so that every path is asked. `silent`: nothing has arrived either.
    Doubtful { since: Instant, asked: u8, silent: bool },
    /// No path has answered. Data still goes by the used one.
    Lost,
}

/// Something to do on a path.
#[derive(Debug)]
pub(crate) enum Errand {
    /// Sends pings.
    Ping(Way, Volley),
    /// Sends a message of a meeting.
    Meet(Way, Meet),
    /// The runner has a new direct address.
    Endpoint(SocketAddr),
    /// Another path is used: what was unanswered before says nothing of it.
    Moved,
}

/// What is known of the used path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) hop: Hop,
    pub(crate) rtt: Option<Duration>,
    pub(crate) cut: Option<u16>,
    pub(crate) since: Option<Instant>,
}
