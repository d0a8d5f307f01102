//! Keeps what was set up in the instances' namespaces as it was set up, whatever else sets up networks there: VPNs, network
//! managers, people. What something in there changes all the time is put back less and less often, and said in `status`.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use mesh_lifecycle::Pace;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{
    manager::{Inner, Instances, blocking},
    recover::reopen,
};
use crate::{
    attach::{self, Events, NamespaceId, News, Nsid, Seen},
    sys::process::{self, Capability},
};

/// How often every namespace is looked at, in case that something was not heard.
const ROUND: Duration = Duration::from_secs(60);
/// How often, where nothing is heard at all.
const DEAF_ROUND: Duration = Duration::from_secs(5);
/// How long after more happened than could be heard all are looked at.
const LOST_ROUND: Duration = Duration::from_secs(5);
/// How many messages are taken at a time, and how long until the next ones.
const BATCH: (u32, Duration) = (256, Duration::from_millis(20));

/// A namespace that was attached.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) namespace: NamespaceId,
    /// What rules others had there then.
    pub(super) seen: Seen,
}

/// What is wrong with instances, in words, by namespace.
#[derive(Debug, Default)]
pub(super) struct Troubles(Mutex<BTreeMap<(NamespaceId, Kind), String>>);

/// What may be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Its addresses are not those of the view.
    Addresses,
    /// Something else changes its network.
    Network,
}

impl Troubles {
    pub(super) fn of(&self, namespace: NamespaceId) -> Option<String> {
        let all = self.all();
        let found = [Kind::Addresses, Kind::Network].iter().filter_map(|kind| all.get(&(namespace, *kind)).cloned());
        Some(found.collect::<Vec<_>>().join("; ")).filter(|text| !text.is_empty())
    }

    /// Returns whether that is new.
    pub(super) fn set(&self, namespace: NamespaceId, kind: Kind, text: String) -> bool {
        self.all().insert((namespace, kind), text.clone()) != Some(text)
    }

    pub(super) fn clear(&self, namespace: NamespaceId, kind: Kind) {
        self.all().remove(&(namespace, kind));
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<(NamespaceId, Kind), String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A namespace that is kept up.
#[derive(Debug, Default)]
struct Space {
    pace: Pace,
    /// What rules others have there; out while it is looked at.
    seen: Option<Seen>,
    nsid: Option<Nsid>,
}

impl Space {
    /// Whether a change in the namespace with this number may be a change in this one. The first look asks for the number, and changes are
    /// heard from then on, before the number is known here: so a namespace without a number may be any.
    fn may_be(&self, nsid: Nsid) -> bool {
        self.nsid.is_none_or(|known| known == nsid)
    }
}

/// What came of looking at a namespace.
#[derive(Debug)]
struct Looked {
    namespace: NamespaceId,
    /// `None`: it isn't attached any more.
    result: Option<Look>,
}

#[derive(Debug)]
struct Look {
    seen: Seen,
    nsid: Option<Nsid>,
    mended: Result<Vec<&'static str>, String>,
}

/// Keeps namespaces up for as long as the agent runs.
pub(super) async fn keep(inner: Weak<Inner>, mut attached: mpsc::UnboundedReceiver<Attached>) {
    let Some(events) = inner.upgrade().map(|inner| Events::new(&inner.parts.staging)) else { return };
    let events = events
        .inspect_err(|error| tracing::warn!(%error, "what changes in namespaces is only found every few seconds"))
        .ok()
        // The kernel tells of other namespaces only to who has this.
        .filter(|_| process::has(Capability::NetBroadcast));
    let mut round = interval(if events.is_some() { ROUND } else { DEAF_ROUND });
    round.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut spaces, mut lost) = (HashMap::<NamespaceId, Space>::new(), None::<Instant>);
    let (mut batch, mut listen_at) = (0, Instant::now());
    let (done, mut looked) = mpsc::unbounded_channel();
    loop {
        let due = spaces
            .values()
            .filter(|space| space.seen.is_some())
            .filter_map(|space| space.pace.due())
            .map(Instant::from_std);
        let wake = due.chain(lost).min();
        let everything = tokio::select! {
            attachment = attached.recv() => {
                let Some(Attached { namespace, seen }) = attachment else { return };
                let space = spaces.entry(namespace).or_default();
                space.seen = Some(seen);
                space.pace.heard(Instant::now().into_std());
                false
            }
            news = hear(events.as_ref(), listen_at) => {
                batch += 1;
                if batch >= BATCH.0 {
                    (batch, listen_at) = (0, Instant::now() + BATCH.1);
                }
                match news {
                    News::Of(nsid) => {
                        let concerned = spaces.values_mut().filter(|space| space.may_be(nsid));
                        concerned.for_each(|space| space.pace.heard(Instant::now().into_std()));
                    }
                    News::Lost => drop(lost.get_or_insert_with(|| Instant::now() + LOST_ROUND)),
                }
                false
            }
            Some(Looked { namespace, result }) = looked.recv() => {
                let Some(inner) = inner.upgrade() else { return };
                match (result, spaces.get_mut(&namespace)) {
                    (Some(look), Some(space)) => {
                        let nsid = look.nsid;
                        conclude(&inner, namespace, space, look);
                        // Numbers are given again.
                        let others = spaces.iter_mut().filter(|(other, _)| **other != namespace);
                        others.filter(|(_, space)| space.nsid == nsid).for_each(|(_, space)| space.nsid = None);
                    }
                    _ => {
                        spaces.remove(&namespace);
                        inner.troubles.clear(namespace, Kind::Network);
                        inner.troubles.clear(namespace, Kind::Addresses);
                    }
                }
                false
            }
            _ = round.tick() => true,
            () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => lost.is_some_and(|at| at <= Instant::now()),
        };
        let now = Instant::now();
        if everything {
            lost = None;
            spaces.values_mut().for_each(|space| space.pace.heard(now.into_std()));
        }
        let Some(inner) = inner.upgrade() else { return };
        for (namespace, space) in &mut spaces {
            if space.pace.due().is_some_and(|due| due <= now.into_std())
                && let Some(seen) = space.seen.take()
            {
                space.pace.begins();
                let (instances, namespace, nsid) = (Instances { inner: Arc::clone(&inner) }, *namespace, space.nsid);
                let done = done.clone();
                tokio::spawn(async move {
                    let result = instances.look(namespace, seen, nsid).await;
                    // Nobody waits for it only when the agent ends.
                    let _ = done.send(Looked { namespace, result });
                });
            }
        }
    }
}

/// The next that is heard, not before `at`. Never, where nothing can be.
async fn hear(events: Option<&Events>, at: Instant) -> News {
    let Some(events) = events else { return std::future::pending().await };
    sleep_until(at).await;
    match events.next().await {
        Ok(news) => news,
        Err(error) => {
            tracing::debug!(%error, "what changes in namespaces can't be heard");
            tokio::time::sleep(DEAF_ROUND).await;
            News::Lost
        }
    }
}

/// Notes what came of looking at a namespace, and says what is worth it.
fn conclude(inner: &Inner, namespace: NamespaceId, space: &mut Space, look: Look) {
    let Look { seen, nsid, mended } = look;
    let instance = Instances::name_of(inner, namespace);
    // One that was attached again meanwhile has brought its own.
    space.seen.get_or_insert(seen);
    space.nsid = nsid.or(space.nsid);
    let was_fighting = space.pace.fights();
    match mended {
        Ok(mended) => {
            space.pace.looked(Instant::now().into_std(), !mended.is_empty());
            let what = mended.join(", ");
            if space.pace.fights() {
                let (count, pause) = (space.pace.strikes(), space.pace.pause());
                if !mended.is_empty() {
                    let trouble = format!(
                        "something in its namespace keeps changing what the mesh set up there ({what}): put back {count} times, \
                         and again only after {} s; `ip monitor` in there shows what it is",
                        pause.as_secs().max(1)
                    );
                    inner.troubles.set(namespace, Kind::Network, trouble);
                }
                if !was_fighting {
                    tracing::warn!(
                        instance,
                        what,
                        "something in its namespace keeps changing what the mesh set up there: \
                        put back less and less often; `ip monitor` in there shows what it is"
                    );
                }
            } else {
                inner.troubles.clear(namespace, Kind::Network);
                if !mended.is_empty() {
                    tracing::info!(
                        instance,
                        what,
                        "something in its namespace had changed what the mesh set up there: put back"
                    );
                }
            }
        }
        Err(error) => {
            space.pace.looked(Instant::now().into_std(), true);
            let trouble = format!("its network is not as the mesh set it up: {error}");
            if inner.troubles.set(namespace, Kind::Network, trouble) {
                tracing::warn!(instance, error, "its network is not as the mesh set it up");
            }
        }
    }
}

impl Instances {
    /// Looks at a namespace, and puts back what is to be. `None`: it isn't attached any more.
    async fn look(&self, namespace: NamespaceId, mut seen: Seen, nsid: Option<Nsid>) -> Option<Look> {
        let _turn = self.turn(namespace).await;
        let attachment = {
            let table = self.table();
            let entry = table.by_namespace(namespace).and_then(|instance| table.get(instance))?;
            if entry.ending {
                return None;
            }
            entry.attachment.clone()
        };
        let inner = Arc::clone(&self.inner);
        let looked = blocking(move || {
            let Some(ns) = reopen(&attachment) else { return Ok::<_, String>(None) };
            // From here on changes are heard of, so that none is missed between this and the look.
            let nsid = nsid.or_else(|| {
                let number = attach::number(&inner.parts.staging, &ns);
                number.inspect_err(|error| tracing::debug!(%error, "changes in a namespace can't be heard of")).ok()
            });
            let mended = attach::mend(&ns, &attachment.addressing(), &mut seen).map_err(|error| error.to_string());
            Ok(Some(Look { seen, nsid, mended }))
        });
        looked.await.ok().flatten()
    }

    fn name_of(inner: &Inner, namespace: NamespaceId) -> String {
        let instances = inner.table.lock().unwrap_or_else(PoisonError::into_inner);
        instances.by_namespace(namespace).map_or_else(|| "-".to_owned(), |instance| instance.to_string())
    }
}
