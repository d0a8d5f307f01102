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
    sync::Arc,
    time::Duration,
};

use mesh_model::record::{self, Verdict};
use mesh_process::{Backoff, directory};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};
use tracing::{debug, warn};

use crate::{
    coordinator::{Coordinator, Core, Failure},
    peers::Peers,
};

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
/// How often a coordinator that doesn't send looks whether it has to.
const LOOK: Duration = Duration::from_secs(1);
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

    /// Sends what is new, until the coordinator ends. Of several coordinators one sends, and the others follow it.
    pub(crate) async fn run(self, coordinator: Coordinator) -> Result<Infallible, Failure> {
        let peers = Arc::clone(&coordinator.peers);
        // Those that there are may know more.
        while peers.is_shared() && peers.living().is_empty() {
            sleep(LOOK).await;
        }
        let (newest, mut changed) = coordinator.visit(|core| (core.state.newest_audit(), core.events.follow())).await?;
        // A number beyond is of a database that was put back.
        let arrived = self.arrived().await.map(|arrived| arrived.min(newest));
        let mut at = arrived.max(peers.webhook_elsewhere()).unwrap_or(newest);
        self.note(&peers, at).await;
        loop {
            changed.borrow_and_update();
            if !peers.sends_webhook() {
                if let Some(sent) = peers.webhook_elsewhere().filter(|sent| *sent > at) {
                    at = sent;
                    self.note(&peers, at).await;
                }
                sleep(LOOK).await;
                // The coordinator may have ended.
                coordinator.visit(|_| ()).await?;
                continue;
            }
            let look = move |core: &mut Core| core.state.audit_after(at, LOOKED_AT);
            let entries = coordinator.visit(look).await?;
            if entries.is_empty() {
                changed.changed().await.map_err(|_| Failure::Ending)?;
                continue;
            }
            at = self.send(entries, at, &coordinator).await;
        }
    }

    /// Sends those that are wanted. Returns up to which entry that is done.
    async fn send(&self, entries: Vec<Arc<record::Audit>>, mut at: u64, coordinator: &Coordinator) -> u64 {
        let last = entries.last().map_or(at, |entry| entry.number);
        let wanted: Vec<_> = entries.into_iter().filter(|entry| self.wants(entry)).collect();
        for batch in wanted.chunks(BATCH) {
            if !self.deliver(batch, coordinator).await {
                return at;
            }
            if let Some(arrived) = batch.last() {
                at = arrived.number;
                self.note(&coordinator.peers, at).await;
            }
        }
        // Entries that are not wanted may follow.
        if at != last {
            self.note(&coordinator.peers, last).await;
        }
        last
    }

    /// Sends a message until it arrives, or is given up. Returns `false` if another coordinator sends from now on.
    async fn deliver(&self, batch: &[Arc<record::Audit>], coordinator: &Coordinator) -> bool {
        let (began, mut pauses) = (Instant::now(), Backoff::new(FIRST_PAUSE, LONGEST_PAUSE));
        let (id, body) = message::of(batch);
        while coordinator.peers.sends_webhook() {
            // Its time is the one of the try, so that a receiver may refuse old ones.
            let headers = self.key.sign(&id, coordinator.now().0, &body);
            let Err(why) = self.target.post(headers, body.clone()).await else {
                debug!(id, "webhook sent");
                return true;
            };
            if began.elapsed() >= GIVEN_UP {
                warn!(id, why, "a webhook's message did not arrive within a day, and is given up");
                return true;
            }
            let pause = pauses.next_pause();
            warn!(id, why, pause = pause.as_secs(), "a webhook's message did not arrive");
            sleep(pause).await;
        }
        false
    }

    /// The number of the last entry that has arrived.
    async fn arrived(&self) -> Option<u64> {
        let place = self.place.clone();
        let text = spawn_blocking(move || fs::read_to_string(place)).await.ok()?.ok()?;
        text.trim().parse().ok()
    }

    async fn note(&self, peers: &Peers, number: u64) {
        peers.note_webhook(number);
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
