//! Keeps a coordinator's place among others, and follows who they are.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use mesh_model::{Command, Owing, RunningSeconds, record::StreamKey};
use mesh_proto::{RunnerId, relay::RelaySecret};
use mesh_sessions::Told;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tracing::{debug, info, warn};

use crate::{
    coordinator::{Coordinator, Core, Failure},
    peers::{Card, RelaySecretOf, SecretText},
    store::{BEAT, Seat, Seated},
};

/// How long the writer may take to tell how far it is.
const LOOK: Duration = Duration::from_secs(1);
/// After how long a stream counts as lost that the records have and this coordinator doesn't.
const LOST: Duration = Duration::from_secs(10);
/// How long another coordinator may take to tell a relay's secret.
const PATIENCE: Duration = Duration::from_secs(2);

/// What those who are there tell of themselves.
pub(crate) fn read(seated: Vec<Seated>) -> Vec<(mesh_model::record::MemberId, i64, Card)> {
    let card = |seated: Seated| match serde_json::from_slice(&seated.text) {
        Ok(card) => Some((seated.id, seated.since, card)),
        Err(error) => {
            debug!(member = %seated.id, %error, "what another coordinator tells of itself cannot be read");
            None
        }
    };
    seated.into_iter().filter_map(card).collect()
}

/// Does so until the coordinator ends.
pub(crate) async fn follow(coordinator: Coordinator, seat: Seat, card: Card) {
    // What waits for others must not delay signs of life.
    tokio::join!(keep(&coordinator, seat, card), tidy(&coordinator));
}

async fn keep(coordinator: &Coordinator, seat: Seat, mut card: Card) {
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = beat.tick() => {}
            () = seat.ended() => {}
        }
        match timeout(LOOK, coordinator.visit(|core| (core.standing(), core.told()))).await {
            Ok(Ok(((revision, runners), told))) => {
                (card.revision, card.runners, card.settled) = (revision, runners, told.settled);
            }
            Ok(Err(_)) => return,
            Err(_) => {}
        }
        card.beat += 1;
        card.running = coordinator.clock.now().running;
        card.webhook = coordinator.peers.webhook();
        let Ok(text) = serde_json::to_vec(&card) else { return };
        match seat.beat(text, card.running).await {
            Ok(seated) => take_in(coordinator, &seat, seated).await,
            Err(error) => debug!(%error, "no sign of life was given"),
        }
    }
}

async fn tidy(coordinator: &Coordinator) {
    let mut lost = BTreeMap::new();
    loop {
        for done in [close_lost(coordinator, &mut lost).await, record_owed(coordinator).await] {
            if let Err(Failure::Ending) = done {
                return;
            }
        }
        fetch_secrets(coordinator).await;
        if forget_moved(coordinator).await.is_err() {
            return;
        }
        sleep(BEAT).await;
    }
}

/// Takes in who is there.
pub(crate) async fn take_in(coordinator: &Coordinator, seat: &Seat, seated: Vec<Seated>) {
    let before = coordinator.peers.living();
    let seated = read(seated);
    let told = seated.iter().map(|(.., card)| card.running);
    coordinator.clock.advance(told.fold(seat.running(), RunningSeconds::max));
    let told = |card: &Card| Told { at: card.revision, settled: card.settled };
    let told = seated.iter().map(|(id, _, card)| (*id, told(card))).collect();
    coordinator.peers.take_in(seated);
    let living = coordinator.peers.living();
    if before != living {
        for peer in coordinator.peers.all().iter().filter(|peer| before.contains(&peer.id) != living.contains(&peer.id))
        {
            let what = if peer.is_gone { "gone" } else { "there" };
            info!(member = %peer.id, host = %peer.card.host, "a coordinator is {what}");
        }
    }
    let now = Instant::now().into_std();
    let take_in = move |core: &mut Core| {
        core.sessions.members(living, now);
        core.sessions.told(&told);
    };
    let _ = coordinator.visit(take_in).await;
}

/// Commits the end of streams whose end could not be committed when they ended.
async fn close_lost(coordinator: &Coordinator, lost: &mut BTreeMap<StreamKey, Instant>) -> Result<(), Failure> {
    let now = Instant::now();
    let all = coordinator.visit(|core| core.sessions.lost(&core.state)).await?;
    lost.retain(|stream, _| all.iter().any(|closed| closed.stream == *stream));
    let is_due = |closed: &Owing| now.duration_since(*lost.entry(closed.stream).or_insert(now)) > LOST;
    let due: Vec<Owing> = all.into_iter().filter(is_due).collect();
    if !due.is_empty() {
        coordinator.submit(Command::Owing(due)).await?;
    }
    Ok(())
}

/// Commits what runners owe and only this coordinator remembers, and ends the streams of coordinators that are gone.
async fn record_owed(coordinator: &Coordinator) -> Result<(), Failure> {
    let (now, has_duty) = (Instant::now().into_std(), coordinator.peers.has_duty());
    let due = move |core: &mut Core| {
        let mut due = core.sessions.to_record(&core.state, now);
        if has_duty {
            due.extend(core.sessions.abandoned(&core.state, now));
        }
        due
    };
    let due = coordinator.visit(due).await?;
    if !due.is_empty() {
        coordinator.submit(Command::Owing(due)).await?;
    }
    Ok(())
}

/// Forgets what runners have reported here that report to another coordinator now, so that nothing is counted twice.
async fn forget_moved(coordinator: &Coordinator) -> Result<(), Failure> {
    let heard: Vec<RunnerId> = coordinator.telemetry.book().iter().flat_map(|book| book.heard().into_keys()).collect();
    let moved = move |core: &mut Core| {
        let moved = heard.into_iter().filter(|runner| core.sessions.elsewhere(*runner).is_some());
        moved.collect::<Vec<_>>()
    };
    let moved = coordinator.visit(moved).await?;
    if let Some(mut book) = coordinator.telemetry.book().filter(|_| !moved.is_empty()) {
        book.forget(&moved);
    }
    Ok(())
}

/// Fetches the secrets of relays that were added at another coordinator.
async fn fetch_secrets(coordinator: &Coordinator) {
    let Ok(relays) = coordinator.relays_without_secret().await else { return };
    for relay in relays {
        for member in coordinator.peers.living().into_iter().filter(|member| *member != coordinator.peers.me) {
            let what = RelaySecretOf { handle: relay.secret };
            let answer = coordinator.peers.ask::<SecretText>(member, "relay-secret", what, PATIENCE).await;
            let text = answer.and_then(|answer| answer.secret).map(zeroize::Zeroizing::new);
            let Some(secret) = text.and_then(|text| text.parse::<RelaySecret>().ok()) else { continue };
            let (secrets, handle) = (Arc::clone(&coordinator.relay_secrets), relay.secret);
            match tokio::task::spawn_blocking(move || secrets.keep_as(handle, secret)).await {
                Ok(Ok(())) => info!(relay = %relay.name, %member, "the secret of a relay was fetched"),
                failed => warn!(relay = %relay.name, ?failed, "the secret of a relay could not be kept"),
            }
            let _ = coordinator.visit(|core| core.relays.told_anew()).await;
            break;
        }
    }
}
