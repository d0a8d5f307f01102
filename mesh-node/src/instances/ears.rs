//! Hears of changes in the instances' namespaces.

use std::time::Duration;

use mesh_lifecycle::Input;
use tokio::time::{Instant, sleep_until};

use crate::{
    attach::{Events, News, Staging},
    sys::process::{self, Capability},
};

/// How many messages are taken at a time, and how long until the next ones.
const BATCH: (u32, Duration) = (256, Duration::from_millis(20));
/// How long after a failure it is listened again.
const RETRY: Duration = Duration::from_secs(5);

/// The agent's ears; without events it is deaf.
#[derive(Debug)]
pub(super) struct Ears {
    events: Option<Events>,
    heard: u32,
    listen_at: Instant,
}

impl Ears {
    pub(super) fn open(staging: &Staging) -> Self {
        let events = Events::new(staging)
            .inspect_err(|error| tracing::warn!(%error, "what changes in namespaces is only found every few seconds"))
            .ok()
            // The kernel tells of other namespaces only to who has this.
            .filter(|_| process::has(Capability::NetBroadcast));
        Self { events, heard: 0, listen_at: Instant::now() }
    }

    /// Whether changes can be heard.
    pub(super) const fn hear(&self) -> bool {
        self.events.is_some()
    }

    /// The next change; never, where none can be heard.
    pub(super) async fn next(&mut self) -> Input {
        let Some(events) = &self.events else { return std::future::pending().await };
        sleep_until(self.listen_at).await;
        let news = events.next().await;
        self.heard += 1;
        if self.heard >= BATCH.0 {
            (self.heard, self.listen_at) = (0, Instant::now() + BATCH.1);
        }
        match news {
            Ok(News::Of(nsid)) => Input::Changed(nsid),
            Ok(News::Lost) => Input::ChangesLost,
            Err(error) => {
                tracing::debug!(%error, "what changes in namespaces can't be heard");
                self.listen_at = Instant::now() + RETRY;
                Input::ChangesLost
            }
        }
    }
}
