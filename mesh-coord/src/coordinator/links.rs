//! Channels between the writer and the tasks of the streams.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use mesh_proto::{
    RunnerId, ServicePath,
    message::{Refusal, Switches, Tried},
};
use mesh_sessions::StreamId;
use tokio::sync::{mpsc, oneshot, watch};

/// The most trials that wait for a stream.
const TRIALS: usize = 8;

/// The writer's ends.
#[derive(Debug, Default)]
pub(crate) struct Links {
    /// One for each runner's newest stream.
    streams: HashMap<RunnerId, Link>,
    /// When each runner was last heard, in Unix seconds. It outlives the runner's streams.
    heard: HashMap<RunnerId, Arc<AtomicU64>>,
}

#[derive(Debug)]
struct Link {
    number: u64,
    outdated: watch::Sender<()>,
    switches: watch::Sender<Switches>,
    probe: watch::Sender<u64>,
    answered: watch::Receiver<u64>,
    /// A channel has room for 32 of its messages from the beginning, so these are small.
    trials: mpsc::Sender<Box<Trial>>,
}

/// A connection that an agent is to try, and where its answer goes.
#[derive(Debug)]
pub(crate) struct Trial {
    pub(crate) caller: ServicePath,
    pub(crate) callee: ServicePath,
    pub(crate) port: u16,
    pub(crate) answer: oneshot::Sender<Result<Tried, Refusal>>,
}

/// A stream's ends.
#[derive(Debug)]
pub(crate) struct Line {
    /// Signals that the runner's view may have changed. It is closed to end the stream.
    pub(crate) outdated: watch::Receiver<()>,
    /// The runner's offloads.
    pub(crate) switches: watch::Receiver<Switches>,
    /// Signals that a relay has come, gone or changed.
    pub(crate) relays: watch::Receiver<()>,
    /// The number of the latest probe, which asks for any message from the agent.
    pub(crate) probe: watch::Receiver<u64>,
    /// The number of the latest probe that the agent has answered.
    pub(crate) answered: watch::Sender<u64>,
    /// Connections to try. Agents that can't get none.
    pub(crate) trials: mpsc::Receiver<Box<Trial>>,
    /// When the runner was last heard, in Unix seconds. The stream updates it.
    pub(crate) heard: Arc<AtomicU64>,
}

impl Links {
    /// Links the writer to a new stream.
    pub(crate) fn open(&mut self, stream: StreamId, switches: Switches, relays: watch::Receiver<()>) -> Line {
        let (outdated, hears_outdated) = watch::channel(());
        let (switches, hears_switches) = watch::channel(switches);
        let (probe, probed) = watch::channel(0);
        let (answers, answered) = watch::channel(0);
        let (trials, tried) = mpsc::channel(TRIALS);
        let link = Link { number: stream.number, outdated, switches, probe, answered, trials };
        self.streams.insert(stream.runner, link);
        let heard = Arc::clone(self.heard.entry(stream.runner).or_default());
        Line {
            outdated: hears_outdated,
            switches: hears_switches,
            relays,
            probe: probed,
            answered: answers,
            trials: tried,
            heard,
        }
    }

    /// Probes the agent of this stream. It has answered once the received number reaches the returned one; the
    /// channel is closed when the stream ends. `None` if the stream has ended.
    pub(crate) fn probe(&self, stream: StreamId) -> Option<(u64, watch::Receiver<u64>)> {
        let link = self.get(stream)?;
        link.probe.send_modify(|asked| *asked += 1);
        Some((*link.probe.borrow(), link.answered.clone()))
    }

    /// Has the agent of a connected runner try a connection. It is given back where that can't be.
    pub(crate) fn try_out(&self, runner: RunnerId, trial: Box<Trial>) -> Result<(), Box<Trial>> {
        let Some(link) = self.streams.get(&runner) else { return Err(trial) };
        link.trials.try_send(trial).map_err(|error| match error {
            mpsc::error::TrySendError::Full(trial) | mpsc::error::TrySendError::Closed(trial) => trial,
        })
    }

    /// When the runner was last heard since the coordinator's start, in Unix seconds.
    pub(crate) fn last_heard(&self, runner: RunnerId) -> Option<u64> {
        self.heard.get(&runner).map(|heard| heard.load(Ordering::Relaxed)).filter(|heard| *heard > 0)
    }

    /// The same of all runners that were heard.
    pub(crate) fn all_heard(&self) -> impl Iterator<Item = (RunnerId, u64)> {
        let seen = |(runner, heard): (&RunnerId, &Arc<AtomicU64>)| (*runner, heard.load(Ordering::Relaxed));
        self.heard.iter().map(seen).filter(|(_, seen)| *seen > 0)
    }

    /// Signals that the view of the stream's runner may have changed.
    pub(super) fn outdated(&self, stream: StreamId) {
        if let Some(link) = self.get(stream) {
            link.outdated.send_replace(());
        }
    }

    /// Sends the runner's offloads to its stream.
    pub(super) fn switch(&self, stream: StreamId, switches: Switches) {
        if let Some(link) = self.get(stream) {
            link.switches.send_replace(switches);
        }
    }

    /// Ends a stream. A newer stream of the runner stays.
    pub(super) fn end(&mut self, stream: StreamId) {
        if self.get(stream).is_some() {
            self.streams.remove(&stream.runner);
        }
    }

    /// Forgets a removed runner.
    pub(super) fn forget(&mut self, runner: RunnerId) {
        self.streams.remove(&runner);
        self.heard.remove(&runner);
    }

    fn get(&self, stream: StreamId) -> Option<&Link> {
        self.streams.get(&stream.runner).filter(|link| link.number == stream.number)
    }
}
