//! What other coordinators know, as far as they tell: asked of all of them at once, within a bounded time, and kept for
//! some seconds. Nothing that they tell grants or takes anything: it is for people and programs that look.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use mesh_model::record::MemberId;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{sync::Mutex, time::Instant};

use super::{Peer, Peers};

/// How long an answer counts as fresh.
const FRESH: Duration = Duration::from_secs(3);
/// How long an answer is used if there is no other one.
const USED: Duration = Duration::from_secs(60);
/// How long another coordinator may take.
const PATIENCE: Duration = Duration::from_millis(1500);

/// The last answers of the others to one question.
#[derive(Debug)]
pub(crate) struct Gathered<T>(Mutex<BTreeMap<MemberId, Kept<T>>>);

#[derive(Debug)]
struct Kept<T> {
    asked: Instant,
    /// When it came, and what it was.
    answer: Option<(Instant, Arc<T>)>,
}

/// What the others tell.
#[derive(Debug)]
pub(crate) struct Told<T> {
    /// The answers, each with the time at which it came.
    pub(crate) answers: Vec<(MemberId, Instant, Arc<T>)>,
    /// Those that don't answer now.
    pub(crate) lacking: Vec<Lacking>,
}

/// A coordinator of which the latest is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lacking {
    pub(crate) id: MemberId,
    /// The name of its machine.
    pub(crate) host: String,
    /// When it has told what is shown; `None`: nothing is known.
    pub(crate) since: Option<Instant>,
}

impl<T> Default for Gathered<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Default for Told<T> {
    fn default() -> Self {
        Self { answers: Vec::new(), lacking: Vec::new() }
    }
}

impl<T: DeserializeOwned> Gathered<T> {
    /// Asks all others, as far as their last answers are too old. Who asks meanwhile waits for the same answers.
    pub(crate) async fn ask(&self, peers: &Peers, path: &str, what: impl Serialize + Copy + Sync) -> Told<T> {
        if !peers.is_shared() {
            return Told::default();
        }
        let others: Vec<Peer> = peers.all().into_iter().filter(|peer| !peer.is_gone && peer.id != peers.me).collect();
        let mut kept = self.0.lock().await;
        kept.retain(|id, _| others.iter().any(|peer| peer.id == *id));
        let due = others.iter().filter(|peer| kept.get(&peer.id).is_none_or(|kept| kept.asked.elapsed() > FRESH));
        let asked = due.map(async |peer| (peer.id, peers.ask::<T>(peer.id, path, what, PATIENCE).await));
        for (id, answer) in join_all(asked).await {
            let now = Instant::now();
            let before = kept.remove(&id).and_then(|kept| kept.answer).filter(|(at, _)| at.elapsed() <= USED);
            let answer = answer.map(|answer| (now, Arc::new(answer)));
            kept.insert(id, Kept { asked: now, answer: answer.or(before) });
        }
        let mut told = Told::default();
        for peer in others {
            let Some(Kept { asked, answer }) = kept.get(&peer.id) else { continue };
            if let Some((at, what)) = answer {
                told.answers.push((peer.id, *at, Arc::clone(what)));
            }
            let since = answer.as_ref().map(|(at, _)| *at);
            if since.is_none_or(|at| at < *asked) {
                told.lacking.push(Lacking { id: peer.id, host: peer.card.host, since });
            }
        }
        told
    }
}
