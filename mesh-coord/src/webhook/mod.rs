//! The webhook: entries of the audit, sent to a URL as they are made. What waits is the audit itself, so nothing is
//! lost while the receiver is away, and nothing grows.

mod message;
mod target;

use std::{
    collections::BTreeSet,
    convert::Infallible,
    fs,
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};

use mesh_model::record::{self, Verdict};
use mesh_process::{Backoff, directory};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};
use tracing::{debug, warn};

use crate::coordinator::{Coordinator, Core, Failure};

pub(crate) use message::{Key, read_key};
pub(crate) use target::{Address, Target};

/// The most entries in one message.
const BATCH: usize = 100;
/// How many entries are looked at at once.
const LOOKED_AT: usize = 1000;
/// The first pause after a message that didn't arrive.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// After how long a message is given up, so that later ones get their turn.
const GIVEN_UP: Duration = Duration::from_secs(24 * 3600);
/// The word for all that was refused, among the names of actions.
pub(crate) const REFUSED: &str = "refused";

/// Where what is sent.
#[derive(Debug)]
pub(crate) struct Webhook {
    pub(crate) target: Target,
    pub(crate) key: Key,
    /// The actions that are sent; `None`: all, also those that were refused.
    pub(crate) wanted: Option<BTreeSet<String>>,
    /// The file with the number of the last entry that has arrived.
    pub(crate) place: PathBuf,
}

impl Webhook {
    fn wants(&self, entry: &record::Audit) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| match entry.result {
            Verdict::Done => wanted.contains(&entry.action),
            Verdict::Refused => wanted.contains(REFUSED),
        })
    }

    /// Sends what is new, until the coordinator ends.
    pub(crate) async fn run(self, coordinator: Coordinator) -> Result<Infallible, Failure> {
        let (newest, mut changed) = coordinator.visit(|core| (core.state.newest_audit(), core.events.follow())).await?;
        // A number beyond is of a database that was put back.
        let mut at = self.arrived().await.map_or(newest, |arrived| arrived.min(newest));
        self.note(at).await;
        loop {
            changed.borrow_and_update();
            let look = move |core: &mut Core| core.state.audit_after(at, LOOKED_AT);
            let entries = coordinator.visit(look).await?;
            let Some(last) = entries.last().map(|entry| entry.number) else {
                changed.changed().await.map_err(|_| Failure::Ending)?;
                continue;
            };
            let wanted: Vec<_> = entries.into_iter().filter(|entry| self.wants(entry)).collect();
            for batch in wanted.chunks(BATCH) {
                self.deliver(batch, coordinator.now().0).await;
                if let Some(arrived) = batch.last() {
                    at = arrived.number;
                    self.note(at).await;
                }
            }
            // Entries that are not wanted may follow.
            if at != last {
                at = last;
                self.note(at).await;
            }
        }
    }

    /// Sends a message until it arrives, or is given up.
    async fn deliver(&self, batch: &[std::sync::Arc<record::Audit>], at: u64) {
        let (began, mut pauses) = (Instant::now(), Backoff::new(FIRST_PAUSE, LONGEST_PAUSE));
        let (id, body) = message::of(batch);
        loop {
            let elapsed = began.elapsed();
            // Its time is the one of the try, so that a receiver may refuse old ones.
            let headers = self.key.sign(&id, at + elapsed.as_secs(), &body);
            let Err(why) = self.target.post(headers, body.clone()).await else { return debug!(id, "webhook sent") };
            if elapsed >= GIVEN_UP {
                return warn!(id, why, "a webhook's message did not arrive within a day, and is given up");
            }
            let pause = pauses.next_pause();
            warn!(id, why, pause = pause.as_secs(), "a webhook's message did not arrive");
            sleep(pause).await;
        }
    }

    /// The number of the last entry that has arrived.
    async fn arrived(&self) -> Option<u64> {
        let place = self.place.clone();
        let text = spawn_blocking(move || fs::read_to_string(place)).await.ok()?.ok()?;
        text.trim().parse().ok()
    }

    async fn note(&self, number: u64) {
        let (place, new) = (self.place.clone(), self.place.with_extension("new"));
        let write = move || {
            directory::write_new(&new, |file| writeln!(file, "{number}"))?;
            directory::put_in_place(&new, &place)
        };
        let written = spawn_blocking(write).await.map_err(io::Error::from).flatten();
        if let Err(error) = written {
            warn!(%error, "what the webhook has sent could not be noted: it will be sent again after a restart");
        }
    }
}

#[cfg(test)]
mod tests;
