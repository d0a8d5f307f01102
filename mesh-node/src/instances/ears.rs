//! Hears of changes in the instances' namespaces.

use std::{collections::BTreeSet, time::Duration};

use futures_util::FutureExt as _;
use mesh_lifecycle::Input;
use tokio::time::{Instant, sleep_until};

use crate::{
    attach::{Events, News, Staging},
    sys::process::{self, Capability},
};

/// How many messages are taken at most at a time, and how long until the next ones. A change of a namespace's network
/// sends dozens.
const BATCH: (usize, Duration) = (256, Duration::from_millis(20));
/// How long after a failure it is listened again.
const RETRY: Duration = Duration::from_secs(5);

/// The agent's ears; without events it is deaf.
#[derive(Debug)]
pub(super) struct Ears {
    events: Option<Events>,
    listen_at: Instant,
}

impl Ears {
    pub(super) fn open(staging: &Staging) -> Self {
        let events = Events::new(staging)
            .inspect_err(|error| tracing::warn!(%error, "what changes in namespaces is only found every few seconds"))
            .ok()
            // The kernel tells of other namespaces only to who has this.
            .filter(|_| process::has(Capability::NetBroadcast));
        Self { events, listen_at: Instant::now() }
    }

    /// Whether changes can be heard.
    pub(super) const fn hear(&self) -> bool {
        self.events.is_some()
    }

    /// The next changes; never, where none can be heard.
    pub(super) async fn next(&mut self) -> Vec<Input> {
        let Some(events) = &self.events else { return std::future::pending().await };
        sleep_until(self.listen_at).await;
        let (mut next, mut heard) = (Some(events.next().await), 0);
        let (mut changed, mut lost, mut pause) = (BTreeSet::new(), false, BATCH.1);
        while let Some(news) = next {
            match news {
                Ok(News::Of(nsid)) => drop(changed.insert(nsid)),
                Ok(News::Lost) => lost = true,
                Err(error) => {
                    tracing::debug!(%error, "what changes in namespaces can't be heard");
                    (lost, pause) = (true, RETRY);
                    break;
                }
            }
            heard += 1;
            next = if heard < BATCH.0 { events.next().now_or_never() } else { None };
        }
        self.listen_at = Instant::now() + pause;
        changed.into_iter().map(Input::Changed).chain(lost.then_some(Input::ChangesLost)).collect()
    }
}
