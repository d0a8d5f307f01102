//! An own relay's stream: it learns which runners were removed. It needs the coordinator for nothing else.

use std::{collections::BTreeSet, net::SocketAddr, pin::pin};

use axum::extract::ws::{Message, WebSocket};
use mesh_model::{Command, UnixSeconds};
use mesh_proto::{
    RelayId, RunnerId,
    message::PROTOCOL,
    relay::{
        RelaySecret,
        wire::{RelayDown, RelayUp, Revoked},
    },
};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tracing::info;

use super::end::{End, HEARTBEAT, SILENCE};
use crate::{
    coordinator::{Coordinator, Failure, RelayLine},
    places::Place,
};

/// Serves the stream of an authenticated relay until it ends or loses its place.
pub(crate) async fn serve(coordinator: Coordinator, relay: RelayId, from: SocketAddr, place: Place, socket: WebSocket) {
    let mut stream = Stream { coordinator, relay, place, socket, told: BTreeSet::new() };
    let Err(end) = stream.run(from).await;
    info!(%relay, %from, why = %end.why, "relay's stream ended");
    let _ = timeout(HEARTBEAT, stream.socket.send(end.close())).await;
}

enum Never {}

struct Stream {
    coordinator: Coordinator,
    relay: RelayId,
    place: Place,
    socket: WebSocket,
    /// The removed runners that it was told of.
    told: BTreeSet<RunnerId>,
}

impl Stream {
    async fn run(&mut self, from: SocketAddr) -> Result<Never, End> {
        let first = timeout(SILENCE, self.receive()).await.map_err(|_| End::refused("no hello came"))??;
        let Some(RelayUp::Hello { protocol, version, public }) = first else {
            return Err(End::refused("the first message is not a hello"));
        };
        if protocol != PROTOCOL {
            return Err(End::refused(format!(
                "protocol {protocol} is not {PROTOCOL}, the coordinator's: upgrade the older"
            )));
        }
        let hello = Command::RelayHello { by: self.relay, version, public };
        match self.coordinator.submit(hello).await {
            // What can't be stored now is told again with the next stream; removals are worth more.
            Ok(_) | Err(Failure::Store(_)) => {}
            Err(failure) => return Err(failure.into()),
        }
        let relay = self.relay;
        let open = self.coordinator.visit(move |core| {
            let known = core.state.relay(relay).map(|relay| relay.secret);
            known.map(|secret| (secret, core.relays.open(relay)))
        });
        let (secret, line) = open.await?.ok_or_else(|| End::refused("the relay was removed"))?;
        let secret = self.coordinator.relay_secrets.get(secret);
        let secret = secret.ok_or_else(|| {
            End::refused("the coordinator has lost this relay's secret: remove it there, and enrol it again")
        })?;
        self.place.begin();
        info!(relay = %self.relay, %from, "relay's stream began");
        let number = line.number;
        let Err(end) = self.serve(line, &secret).await;
        let _ = self.coordinator.visit(move |core| core.relays.close(relay, number)).await;
        Err(end)
    }

    async fn serve(&mut self, mut line: RelayLine, secret: &RelaySecret) -> Result<Never, End> {
        let revoked = self.news(secret).await?;
        self.send(&RelayDown::Welcome { revoked }).await?;
        let place = self.place.clone();
        let mut heard = Instant::now();
        let mut heartbeat = interval_at(heard + HEARTBEAT, HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut cut_off = pin!(End::once_cut_off(self.coordinator.is_cut_off()));
        loop {
            tokio::select! {
                Err(_) = line.alive.changed() => return Err(self.cut_off().await?),
                Ok(()) = line.removed.changed() => {
                    let revoked = self.news(secret).await?;
                    if !revoked.is_empty() {
                        self.send(&RelayDown::Revoked { revoked }).await?;
                    }
                }
                message = self.receive() => {
                    heard = Instant::now();
                    match message? {
                        Some(RelayUp::Hello { .. }) => return Err(End::refused("a second hello")),
                        Some(RelayUp::Pong) | None => {}
                    }
                }
                _ = heartbeat.tick() => {
                    if heard.elapsed() > SILENCE {
                        return Err(End::lost("the relay is silent"));
                    }
                    self.send(&RelayDown::Ping).await?;
                }
                end = &mut cut_off => return Err(end),
                () = place.lost() => return Err(End::no_place()),
            }
        }
    }

    /// The removed runners that the relay wasn't told of.
    async fn news(&mut self, secret: &RelaySecret) -> Result<Vec<Revoked>, End> {
        let now = self.coordinator.now();
        let all: BTreeSet<(RunnerId, UnixSeconds)> =
            self.coordinator.visit(move |core| core.state.revoked(now)).await?;
        let new = all.into_iter().filter(|(runner, _)| self.told.insert(*runner));
        let revoked = |(runner, until): (RunnerId, UnixSeconds)| Revoked {
            pseudonym: secret.pseudonym(runner, self.relay),
            until: until.0,
        };
        Ok(new.collect::<Vec<_>>().into_iter().map(revoked).collect())
    }

    async fn cut_off(&mut self) -> Result<End, Failure> {
        let relay = self.relay;
        let known = self.coordinator.visit(move |core| core.state.relay(relay).is_some()).await?;
        Ok(End::refused(if known { "a newer stream of this relay took over" } else { "the relay was removed" }))
    }

    async fn send(&mut self, message: &RelayDown) -> Result<(), End> {
        let text = serde_json::to_string(message).map_err(|error| End::lost(error.to_string()))?;
        match timeout(SILENCE, self.socket.send(Message::Text(text.into()))).await {
            Ok(sent) => sent.map_err(|error| End::lost(error.to_string())),
            Err(_) => Err(End::lost("the relay does not read")),
        }
    }

    /// The next message; `None` for a control frame. Cancel safe.
    async fn receive(&mut self) -> Result<Option<RelayUp>, End> {
        match self.socket.recv().await {
            Some(Ok(Message::Text(text))) => serde_json::from_str(&text)
                .map(Some)
                .map_err(|error| End::refused(format!("a message that cannot be read: {error}"))),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(None),
            Some(Ok(Message::Binary(_))) => Err(End::refused("a message that is not text")),
            Some(Ok(Message::Close(_))) => Err(End::lost("the relay closed it")),
            Some(Err(error)) => Err(End::lost(error.to_string())),
            None => Err(End::lost("the connection broke")),
        }
    }
}
