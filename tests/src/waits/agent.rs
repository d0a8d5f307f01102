//! One runner's agent: it applies views, writes them to disk, and confirms those that are both applied and written.

use std::{sync::Arc, time::Duration};

use mesh_proto::{Revision, View, message::Have};
use mesh_sessions::{News, StreamId};

use super::Bug;

/// What an agent is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// It applies a view after this time.
    After(Duration),
    /// It applies nothing.
    Never,
}

/// A view, and the life of the coordinator in which it was received.
#[derive(Clone)]
pub(crate) struct Received {
    pub(crate) view: Arc<View>,
    pub(crate) life: u8,
}

/// Why an agent doesn't take news in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Untaken {
    /// They don't follow on what is there: a snapshot must be asked for.
    Gap,
    /// The view would go back.
    Older,
}

pub(crate) struct Agent {
    /// Drawn at each start.
    pub(crate) process: u64,
    pub(crate) pace: Pace,
    /// Its disk takes nothing.
    pub(crate) disk_full: bool,
    /// The stream that it believes to be connected.
    pub(crate) stream: Option<StreamId>,
    /// The view that it has received.
    received: Option<Received>,
    /// The view that its data plane acts on.
    pub(crate) applied: Option<Received>,
    /// The view on its disk.
    written: Option<Received>,
    /// What it has confirmed on this stream.
    confirmed: Option<Have>,
}

impl Agent {
    pub(crate) const fn new(process: u64) -> Self {
        Self {
            process,
            pace: Pace::After(Duration::from_millis(10)),
            disk_full: false,
            stream: None,
            received: None,
            applied: None,
            written: None,
            confirmed: None,
        }
    }

    pub(crate) fn have(&self) -> Option<Have> {
        self.received.as_ref().map(|Received { view, .. }| Have { epoch: view.epoch, revision: view.revision })
    }

    /// A stream has begun.
    pub(crate) fn connected(&mut self, stream: StreamId) {
        (self.stream, self.confirmed) = (Some(stream), None);
    }

    /// Takes news in.
    pub(crate) fn receive(&mut self, news: News, life: u8) -> Result<(), Untaken> {
        let view = match (news, &self.received) {
            (News::Snapshot(view), _) => view.to_view(),
            (News::Delta(delta), Some(Received { view, .. })) => {
                let mut view = View::clone(view);
                view.apply(&delta).map_err(|_| Untaken::Gap)?;
                view
            }
            (News::Delta(_), None) => return Err(Untaken::Gap),
        };
        let old = self.received.as_ref().filter(|old| old.view.epoch == view.epoch);
        if old.is_some_and(|old| old.view.revision > view.revision) {
            return Err(Untaken::Older);
        }
        self.received = Some(Received { view: Arc::new(view), life });
        self.write();
        Ok(())
    }

    /// Writes what was received, if the disk takes it.
    pub(crate) fn write(&mut self) {
        if !self.disk_full {
            self.written.clone_from(&self.received);
        }
    }

    /// The data plane acts on what was received from now on.
    pub(crate) fn apply(&mut self) {
        if self.pace != Pace::Never {
            self.applied.clone_from(&self.received);
        }
    }

    /// What is to be confirmed now, if that is news.
    pub(crate) fn confirm(&mut self, bug: Option<Bug>) -> Option<Revision> {
        let (applied, written) = (&self.applied.as_ref()?.view, &self.written.as_ref()?.view);
        // Confirming needs a view of this epoch.
        let current = self.received.as_ref().is_some_and(|received| received.view.epoch == applied.epoch);
        let kept = written.epoch == applied.epoch && written.revision >= applied.revision;
        let before = self.confirmed.filter(|before| before.epoch == applied.epoch);
        let is_news = before.is_none_or(|before| before.revision < applied.revision);
        if !current || !(kept || bug == Some(Bug::ConfirmedUnwritten)) || !is_news {
            return None;
        }
        self.confirmed = Some(Have { epoch: applied.epoch, revision: applied.revision });
        Some(applied.revision)
    }

    /// The process ends and begins again, with what is on its disk.
    pub(crate) fn restart(&mut self, process: u64) {
        self.process = process;
        (self.stream, self.confirmed) = (None, None);
        self.received.clone_from(&self.written);
        self.applied.clone_from(&self.written);
    }
}
