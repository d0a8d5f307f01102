//! The channels between the writer and the tasks that serve the streams.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use mesh_proto::{RunnerId, message::Switches};
use mesh_sessions::StreamId;
use tokio::sync::watch;

/// The writer's ends.
#[derive(Debug, Default)]
pub(crate) struct Links {
    /// Of the newest stream of each runner.
    streams: HashMap<RunnerId, Link>,
    /// When each runner was last heard, in unix seconds. Outlasts its streams.
    heard: HashMap<RunnerId, Arc<AtomicU64>>,
}

#[derive(Debug)]
struct Link {
    number: u64,
    outdated: watch::Sender<()>,
    switches: watch::Sender<Switches>,
    probe: watch::Sender<u64>,
    answered: watch::Receiver<u64>,
}

/// A stream's ends.
#[derive(Debug)]
pub(crate) struct Line {
    /// Signals that the runner's view may have changed; closed when the stream is to end.
    pub(crate) outdated: watch::Receiver<()>,
    /// The offloads that are on at the runner.
    pub(crate) switches: watch::Receiver<Switches>,
    /// Asks for a sign of the agent, by the number of the question.
    pub(crate) probe: watch::Receiver<u64>,
    /// The number of the last question that something was heard after.
    pub(crate) answered: watch::Sender<u64>,
    /// When the runner was last heard, in unix seconds: the stream keeps this current.
    pub(crate) heard: Arc<AtomicU64>,
}

impl Links {
    /// Links the writer to a stream that begins.
    pub(crate) fn open(&mut self, stream: StreamId, switches: Switches) -> Line {
        let (outdated, hears_outdated) = watch::channel(());
        let (switches, hears_switches) = watch::channel(switches);
        let (probe, probed) = watch::channel(0);
        let (answers, answered) = watch::channel(0);
        self.streams.insert(stream.runner, Link { number: stream.number, outdated, switches, probe, answered });
        let heard = Arc::clone(self.heard.entry(stream.runner).or_default());
        Line { outdated: hears_outdated, switches: hears_switches, probe: probed, answered: answers, heard }
    }

    /// Asks whether the agent of this stream is there: it is once the second part reaches the first. Closed when the
    /// stream ends. `None` if it has ended.
    pub(crate) fn probe(&self, stream: StreamId) -> Option<(u64, watch::Receiver<u64>)> {
        let link = self.get(stream)?;
        link.probe.send_modify(|asked| *asked += 1);
        Some((*link.probe.borrow(), link.answered.clone()))
    }

    /// When the runner was last heard in this life of the coordinator, in unix seconds.
    pub(crate) fn last_heard(&self, runner: RunnerId) -> Option<u64> {
        self.heard.get(&runner).map(|heard| heard.load(Ordering::Relaxed)).filter(|heard| *heard > 0)
    }

    /// Signals that the view of the stream's runner may have changed.
    pub(super) fn outdated(&self, stream: StreamId) {
        if let Some(link) = self.get(stream) {
            link.outdated.send_replace(());
        }
    }

    /// Sends the offloads that are on at the stream's runner.
    pub(super) fn switch(&self, stream: StreamId, switches: Switches) {
        if let Some(link) = self.get(stream) {
            link.switches.send_replace(switches);
        }
    }

    /// Ends a stream. One that began later stays.
    pub(super) fn end(&mut self, stream: StreamId) {
        if self.get(stream).is_some() {
            self.streams.remove(&stream.runner);
        }
    }

    /// Forgets a runner that was removed.
    pub(super) fn forget(&mut self, runner: RunnerId) {
        self.streams.remove(&runner);
        self.heard.remove(&runner);
    }

    fn get(&self, stream: StreamId) -> Option<&Link> {
        self.streams.get(&stream.runner).filter(|link| link.number == stream.number)
    }
}
