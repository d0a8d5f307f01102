//! A coordinator: what it holds. What it decides is the shipped code's; the rest of the directory carries its messages.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use mesh_model::{
    Command, Now, Outcome, RunningSeconds, State, UnixSeconds,
    record::{MemberId, StreamKey},
};
use mesh_proto::{Revision, RunnerId};
use mesh_sessions::{Sent, Sessions, StreamId, WaitId};
use mesh_several::{
    attempt::Attempt,
    clock::Running,
    contact::{Contact, Doubt},
    etcd::position::Position,
    feed::Recent,
    members::{Members, Sign},
    right::Right,
    store::{Draft, Nonce, StoreError},
};

use super::{agents::Opening, event::Question, settle::Wait};

/// A machine with a coordinator.
pub(super) struct Member {
    /// Which process it is, counted.
    pub(super) life: u32,
    pub(super) paused_until: Duration,
    /// It will stand still for so long between the next decision that frees an address and its commit.
    pub(super) stumbles: Option<Duration>,
    /// Whether it is cut off from etcd,
    pub(super) cut_store: bool,
    /// and from agents, clients and other coordinators.
    pub(super) cut_clients: bool,
    /// When the last message of etcd's watch comes: a connection keeps the order.
    pub(super) told_until: Duration,
    /// How much faster its uptime passes than the time, in millionths.
    drift: f64,
    /// By how many seconds its system's clock is wrong.
    pub(super) skew: i64,
    /// `None`: no process runs.
    pub(super) program: Option<Program>,
}

/// The process.
pub(super) struct Program {
    pub(super) me: MemberId,
    pub(super) state: State,
    pub(super) sessions: Sessions,
    pub(super) position: Position,
    pub(super) recent: Recent,
    pub(super) running: Running,
    pub(super) contact: Contact,
    pub(super) was_stale: bool,
    pub(super) doubt: Doubt,
    pub(super) members: Members<Card>,
    pub(super) beat: u64,
    pub(super) lease: i64,
    /// How far etcd's watch has come, and which connection it is.
    pub(super) from: i64,
    pub(super) watch: Option<u64>,
    /// The streams, by the connection.
    pub(super) streams: BTreeMap<u64, Stream>,
    pub(super) queue: VecDeque<Job>,
    pub(super) writer: Writer,
    /// What waits for an answer.
    pub(super) pending: BTreeMap<u64, Pending>,
    /// Reads of the head that were answered, until the state has come so far.
    pub(super) refreshing: Vec<(Revision, Refresh)>,
    /// Streams that the records have and this one doesn't, and since when.
    pub(super) lost: BTreeMap<StreamKey, Duration>,
    /// `trust --wait` under way.
    pub(super) waits: BTreeMap<u64, Wait>,
    /// Waits for those that are connected here.
    pub(super) here: BTreeMap<WaitId, Here>,
}

/// What a coordinator tells of itself.
#[derive(Debug, Clone)]
pub(super) struct Card {
    pub(super) beat: u64,
    pub(super) running: RunningSeconds,
    pub(super) revision: Revision,
    pub(super) settled: Revision,
}

impl Card {
    pub(super) fn text(&self) -> Vec<u8> {
        format!("{} {} {} {}", self.beat, self.running.0, self.revision.0, self.settled.0).into_bytes()
    }

    pub(super) fn read(text: &[u8]) -> Self {
        let text = std::str::from_utf8(text).unwrap_or_default();
        let mut numbers = text.split(' ').map(|number| number.parse().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        Self { beat: next(), running: RunningSeconds(next()), revision: Revision(next()), settled: Revision(next()) }
    }
}

impl Sign for Card {
    fn beat(&self) -> u64 {
        self.beat
    }
}

/// The coordinator's end of a stream.
pub(super) struct Stream {
    pub(super) id: StreamId,
    pub(super) key: StreamKey,
    pub(super) sent: Sent,
    /// The news that its task has yet to look for.
    pub(super) outdated: bool,
    pub(super) ended: bool,
}

/// A command that waits or is carried out.
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) command: Command,
    /// The runner's stream by which it came.
    pub(super) by: Option<(RunnerId, StreamKey)>,
    pub(super) then: Then,
}

/// What follows from the end of a command.
pub(super) enum Then {
    Nothing,
    /// The order of a client ends.
    Order(u64),
    /// A stream has become its runner's newest one.
    Begun(Opening, StreamKey),
    /// What the agent holds is known.
    Greeted(Opening, StreamKey),
    /// An agent's question, by its connection.
    Asked(RunnerId, u64),
    /// A token was made for a machine.
    Token(Box<mesh_model::Enrolment>),
    Enrolled,
}

/// How a command ends.
pub(super) enum Ended {
    Done(Outcome, Revision),
    Refused,
    Failed(StoreError),
}

/// What the writer is at.
pub(super) enum Writer {
    Idle,
    Busy(Box<Busy>),
    Reloading,
}

pub(super) struct Busy {
    pub(super) job: Job,
    pub(super) attempt: Attempt,
    pub(super) outcome: Option<Outcome>,
    pub(super) draft: Draft,
    pub(super) stage: Stage,
}

pub(super) enum Stage {
    /// For a pause, or an answer.
    Waiting,
    CatchingUp(Revision, Vec<Nonce>),
    Reloading(Revision),
}

/// What an answer is for.
pub(super) enum Pending {
    /// The commit, planned with this head.
    Swap {
        top: mesh_several::etcd::layout::Top,
        began: Duration,
    },
    /// The head that a commit begins after.
    Base,
    Load,
    Beat,
    Look(Option<mesh_several::etcd::position::Known>, Refresh),
    /// The head after a gap in the watch.
    Gap,
    /// Another coordinator's answer for a wait, about these runners.
    Peer(u64, BTreeSet<RunnerId>),
}

/// What waits until all is known that was confirmed.
pub(super) struct Refresh {
    pub(super) began: Duration,
    pub(super) what: Refreshed,
}

pub(super) enum Refreshed {
    Contact,
    Stream(Opening),
    Order(u64),
    Question(Question),
}

/// For whom those that are connected here are waited for.
pub(super) enum Here {
    Own(u64),
    Question(Question),
}

impl Member {
    pub(super) const fn new(drift: f64) -> Self {
        Self {
            life: 0,
            paused_until: Duration::ZERO,
            stumbles: None,
            cut_store: false,
            cut_clients: false,
            told_until: Duration::ZERO,
            drift,
            skew: 0,
            program: None,
        }
    }

    /// How long the machine has been up.
    pub(super) fn uptime(&self, now: Duration) -> Duration {
        Duration::from_secs(5) + now.mul_f64(1.0 + self.drift / 1e6)
    }

    /// The time of its decisions.
    pub(super) fn decides_at(&self, now: Duration) -> Option<Now> {
        let running = self.program.as_ref()?.running.at(self.uptime(now));
        let day = (1_700_000_000 + now.as_secs()).saturating_add_signed(self.skew);
        Some(Now { day: UnixSeconds(day), running })
    }

    /// Whether agents and others reach it.
    pub(super) const fn answers(&self) -> bool {
        self.program.is_some() && !self.cut_clients
    }
}

impl Program {
    pub(super) fn stream_of(&self, id: StreamId) -> Option<u64> {
        self.streams.iter().find(|(_, stream)| stream.id == id).map(|(link, _)| *link)
    }

    /// By what right it commits what is decided now.
    pub(super) const fn right(&self) -> Right {
        Right::Place { member: self.me, lease: self.lease }
    }

    pub(super) fn is_stale(&self, now: Instant) -> bool {
        self.contact.lost_for(now).is_some()
    }
}
