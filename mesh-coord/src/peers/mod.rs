//! Other coordinators on the same records: who they are, and questions to them. They prove to each other that they hold
//! the keys that all of them share.

mod gather;
mod standing;
mod wire;

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use mesh_link::{Method, Proxies, RequestError, Url};
use mesh_model::{RunningSeconds, record::MemberId};
use mesh_proto::{
    PrivateKey, Proof, Revision,
    token::{Fingerprint, MAX_URLS},
};
use mesh_several::members::{Member, Members, Sign};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::timeout;
use tracing::debug;
use zeroize::Zeroizing;

use crate::telemetry::Reports;

pub(crate) use gather::{Gathered, Lacking, Told};
pub(crate) use standing::{AskStanding, Elsewhere, Heard, Standing};
pub(crate) use wire::{Contact, InContact, Probe, Probed, RelaySecretOf, Runners, SecretText, Settled, To};

/// What coordinators prove to each other that they can do.
const PURPOSE: &[u8] = b"mesh coordinators 1";
/// The status of who is asked for another one (RFC 9110 §15.5.20).
pub(crate) const MISDIRECTED: u16 = 421;

/// What a coordinator tells of itself, in its place among the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Card {
    /// The name of its machine.
    pub(crate) host: String,
    /// Its URLs, as it tells runners.
    #[serde(default)]
    pub(crate) urls: Vec<String>,
    /// Its own addresses, as URLs.
    #[serde(default)]
    pub(crate) reach: Vec<String>,
    pub(crate) version: String,
    pub(crate) fingerprint: Fingerprint,
    /// The number of its signs of life.
    pub(crate) beat: u64,
    /// How long it has been running.
    pub(crate) running: RunningSeconds,
    /// The revision that it has reached.
    pub(crate) revision: Revision,
    /// What was taken from its runners up to here is confirmed, or in the records.
    #[serde(default)]
    pub(crate) settled: Revision,
    /// How many runners are connected to it.
    pub(crate) runners: usize,
    /// The number of the last entry of the audit of which it knows that the webhook has sent it; `None`: it has no
    /// webhook.
    #[serde(default)]
    pub(crate) webhook: Option<u64>,
}

impl Card {
    /// Of a coordinator that begins.
    pub(crate) fn new(host: String, urls: Vec<String>, reach: Vec<String>, fingerprint: Fingerprint) -> Self {
        Self {
            host,
            urls,
            reach,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            fingerprint,
            beat: 0,
            running: RunningSeconds(0),
            revision: Revision(0),
            settled: Revision(0),
            runners: 0,
            webhook: None,
        }
    }
}

impl Sign for Card {
    fn beat(&self) -> u64 {
        self.beat
    }
}

/// A coordinator, as this one knows it.
pub(crate) type Peer = Member<Card>;

/// All coordinators.
pub(crate) struct Peers {
    pub(crate) me: MemberId,
    /// `None`: this one serves alone.
    shared: Option<Shared>,
    known: Mutex<Members<Card>>,
    /// What this one's card says of the webhook.
    webhook: Mutex<Option<u64>>,
    /// The URLs of all, as they tell runners.
    urls: Mutex<Arc<[String]>>,
    /// How runners and relays stand with the others.
    pub(crate) standings: Gathered<Standing>,
    /// What runners report to the others.
    pub(crate) reports: Gathered<Reports>,
}

struct Shared {
    fingerprint: Fingerprint,
    bearer: Zeroizing<String>,
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("me", &self.me).finish_non_exhaustive()
    }
}

impl Default for Peers {
    fn default() -> Self {
        Self::of(MemberId(0), None)
    }
}

/// What proves to other coordinators that this one holds the shared key.
pub(crate) fn bearer(enrol_key: &PrivateKey) -> Zeroizing<String> {
    let proof = enrol_key.prove(enrol_key.public(), PURPOSE);
    Zeroizing::new(proof.map(String::from).unwrap_or_default())
}

/// Whether a text is that proof. Takes constant time.
pub(crate) fn is_bearer(enrol_key: &PrivateKey, text: &str) -> bool {
    Proof::try_from(text.to_owned()).is_ok_and(|proof| enrol_key.verify(enrol_key.public(), PURPOSE, &proof))
}

impl Peers {
    fn of(me: MemberId, shared: Option<Shared>) -> Self {
        Self {
            me,
            shared,
            known: Mutex::new(Members::new(me)),
            webhook: Mutex::default(),
            urls: Mutex::default(),
            standings: Gathered::default(),
            reports: Gathered::default(),
        }
    }

    /// This one among others, with the keys that they share.
    pub(crate) fn new(me: MemberId, fingerprint: Fingerprint, enrol_key: &PrivateKey) -> Self {
        let shared = Some(Shared { fingerprint, bearer: bearer(enrol_key) });
        Self::of(me, shared)
    }

    /// This one alone.
    pub(crate) fn alone(me: MemberId, card: Card) -> Self {
        let this = Self::of(me, None);
        this.take_in(vec![(me, 0, card)]);
        this
    }

    /// Whether there may be others.
    pub(crate) const fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// Takes in who has a place now.
    pub(crate) fn take_in(&self, seated: Vec<(MemberId, i64, Card)>) {
        let mut known = self.lock();
        known.take_in(seated, now());
        // Those of one that has gone count for a while, since it may be about to start again.
        let urls = known.all().iter().flat_map(|peer| &peer.card.urls).cloned().collect::<BTreeSet<_>>();
        let urls: Vec<String> = urls.into_iter().take(MAX_URLS).collect();
        let mut told = self.urls.lock().unwrap_or_else(PoisonError::into_inner);
        if **told != *urls {
            *told = urls.into();
        }
    }

    /// The URLs of all coordinators, as they tell runners. As long as they are the same, so is this list.
    pub(crate) fn urls(&self) -> Arc<[String]> {
        Arc::clone(&self.urls.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All that are known, also those that have gone a while ago.
    pub(crate) fn all(&self) -> Vec<Peer> {
        self.lock().all().to_vec()
    }

    /// Those that have a place.
    pub(crate) fn living(&self) -> BTreeSet<MemberId> {
        self.lock().living()
    }

    /// Whether this one has the duties of which one is enough: it has had its place for the longest time. Two can have
    /// them for a moment, which does no harm.
    pub(crate) fn has_duty(&self) -> bool {
        self.is_first(|_| true)
    }

    /// Whether this one sends the webhook: the one with the duties, of those that have a webhook.
    pub(crate) fn sends_webhook(&self) -> bool {
        self.is_first(|card| card.webhook.is_some())
    }

    fn is_first(&self, of: impl Fn(&Card) -> bool) -> bool {
        !self.is_shared() || self.lock().is_first(of, now())
    }

    /// The webhook has sent the audit up to this entry.
    pub(crate) fn note_webhook(&self, sent: u64) {
        *self.webhook.lock().unwrap_or_else(PoisonError::into_inner) = Some(sent);
    }

    /// Up to which entry the webhook has sent the audit, as this one knows; `None`: it has no webhook.
    pub(crate) fn webhook(&self) -> Option<u64> {
        *self.webhook.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same as the others know.
    pub(crate) fn webhook_elsewhere(&self) -> Option<u64> {
        self.lock().all().iter().filter(|peer| peer.id != self.me).filter_map(|peer| peer.card.webhook).max()
    }

    /// Asks another coordinator. `None`: it doesn't answer in time.
    pub(crate) async fn ask<A: DeserializeOwned>(
        &self,
        member: MemberId,
        path: &str,
        what: impl Serialize + Sync,
        patience: Duration,
    ) -> Option<A> {
        let shared = self.shared.as_ref()?;
        let card = self.lock().all().iter().find(|peer| peer.id == member).map(|peer| peer.card.clone())?;
        let path = format!("/v1/peer/{path}");
        let asked = async {
            // Its own addresses first, since its URLs can lead to others.
            for texts in [&card.reach, &card.urls] {
                let mut urls: Vec<Url> = texts.iter().filter_map(|text| text.parse().ok()).collect();
                while !urls.is_empty() {
                    let connected = mesh_link::connect_any(&urls, shared.fingerprint, &Proxies::none()).await;
                    let Ok((stream, url)) = connected else { break };
                    let body = To { member, what: &what };
                    let (to, bearer) = (url.authority(), Some(&**shared.bearer));
                    match mesh_link::request(stream, &to, Method::POST, &path, bearer, Some(&body)).await {
                        Ok(answer) => return Some(answer),
                        Err(RequestError::Refused { status: MISDIRECTED, .. }) => urls.retain(|other| *other != url),
                        Err(error) => {
                            debug!(%member, %url, %error, "another coordinator does not answer");
                            return None;
                        }
                    }
                }
            }
            debug!(%member, "another coordinator is not reached");
            None
        };
        timeout(patience, asked).await.ok().flatten()
    }

    fn lock(&self) -> MutexGuard<'_, Members<Card>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time by the clock of the runtime's timers.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longer than a sign of life counts, and than one that has gone is remembered.
    const STALE: Duration = Duration::from_secs(8);
    const FORGOTTEN: Duration = Duration::from_secs(600);

    fn card(beat: u64) -> Card {
        Card { beat, ..Card::new("alpha".to_owned(), vec![], vec![], Fingerprint([1; 32])) }
    }

    #[test]
    fn only_who_holds_the_shared_key_proves_it() {
        let (key, other) = (PrivateKey::from_bytes([1; 32]), PrivateKey::from_bytes([2; 32]));
        assert!(is_bearer(&key, &bearer(&key)));
        for text in ["", "secret", &bearer(&other), &key.public().to_string()] {
            assert!(!is_bearer(&key, text), "{text}");
        }
        // What a machine proves when it enrols is no such proof.
        let machine = String::from(other.prove(key.public(), PURPOSE).unwrap());
        assert!(!is_bearer(&key, &machine));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_has_the_duties_as_long_as_it_lives() {
        let (first, second) = (MemberId(9), MemberId(1));
        let peers = |me| Peers::new(me, Fingerprint([1; 32]), &PrivateKey::from_bytes([1; 32]));
        let (one, two) = (peers(first), peers(second));
        assert!(Peers::default().has_duty() && !one.has_duty(), "alone, and before its place is known");
        for peers in [&one, &two] {
            peers.take_in(vec![(first, 5, card(1)), (second, 8, card(1))]);
        }
        assert!(one.has_duty() && !two.has_duty());
        two.take_in(vec![(second, 8, card(2))]);
        assert!(two.has_duty());
        assert_eq!(two.living(), [second].into());
        // One that can't give signs of life any more leaves its duties.
        tokio::time::advance(STALE).await;
        assert!(!one.has_duty());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_gives_no_sign_of_life_is_stale_then_gone_then_forgotten() {
        let (me, other) = (MemberId(1), MemberId(2));
        let peers = Peers::new(me, Fingerprint([1; 32]), &PrivateKey::from_bytes([1; 32]));
        let find = || peers.all().into_iter().find(|peer| peer.id == other);
        peers.take_in(vec![(me, 1, card(1)), (other, 2, card(1))]);
        assert!(find().unwrap().is_fresh(now()));
        tokio::time::advance(STALE).await;
        peers.take_in(vec![(me, 1, card(2)), (other, 2, card(1))]);
        assert!(!find().unwrap().is_fresh(now()) && !find().unwrap().is_gone);
        peers.take_in(vec![(me, 1, card(3))]);
        assert!(find().unwrap().is_gone);
        tokio::time::advance(FORGOTTEN).await;
        peers.take_in(vec![(me, 1, card(4))]);
        assert!(find().is_none());
    }
}
