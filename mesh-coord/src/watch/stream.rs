//! A runner's stream: views and answers go to the agent, confirmations and questions come from it.

mod conversation;
mod relays;
mod snapshot;
mod wire;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use futures_util::stream::FuturesUnordered;
use mesh_model::{
    Command, RunnerCommand,
    record::{Outside, Session, StreamKey},
};
use mesh_proto::{
    Abilities, RunnerId,
    message::{Cause, Down, Have, PROTOCOL, Up},
};
use mesh_sessions::{Opened, Peer, Report, Sent};
use tokio::time::{Instant, interval_at, timeout};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes, protocol::CloseFrame};
use tracing::{debug, info};

pub(crate) use self::wire::Wire;

use self::conversation::{Conversation, Trials};
use super::{
    ahead,
    end::{End, HEARTBEAT, SILENCE},
    newcomer, report,
};
use crate::{
    coordinator::{Coordinator, Line},
    metrics::Closed,
    places::Place,
    random,
    rate::RunnerLimits,
    telemetry::Wish,
};

/// [`Down::Ping`], which is most of what is sent.
const PING: Utf8Bytes = Utf8Bytes::from_static(r#"{"type":"ping"}"#);

/// Serves the stream of an authenticated runner until it ends or loses its place.
pub(crate) async fn serve(coordinator: Coordinator, runner: RunnerId, from: SocketAddr, place: Place, wire: Wire) {
    let mut stream = Stream { coordinator, runner, from: from.ip(), place, wire };
    let Err(end) = stream.run().await;
    info!(%runner, %from, why = %end.why, "stream ended");
    let (code, reason) = end.said();
    let close = Message::Close(Some(CloseFrame { code: code.into(), reason: reason.into() }));
    let _ = timeout(HEARTBEAT, stream.wire.send_other(close)).await;
}

struct Stream {
    coordinator: Coordinator,
    runner: RunnerId,
    from: IpAddr,
    place: Place,
    wire: Wire,
}

/// The beginning of a stream.
struct Hello {
    have: Option<Have>,
    peer: Peer,
    /// Whether the agent reports that it was refused as a copy.
    refused: bool,
    can: Abilities,
    report: Report,
}

/// A stream that is open.
struct Begun {
    opened: Opened,
    line: Line,
    /// Its name in the records, where several coordinators serve.
    key: Option<StreamKey>,
    peer: Peer,
    can: Abilities,
    report: Report,
    limits: RunnerLimits,
}

enum Never {}

impl Stream {
    async fn run(&mut self) -> Result<Never, End> {
        // There are thousands of streams: what only the beginning needs takes no memory afterwards.
        let Begun { opened, line, key, peer, can, report, limits } = Box::pin(self.begin()).await?;
        let (runner, coordinator) = (self.runner, self.coordinator.clone());
        let (id, epoch, mut sent) = (opened.stream, opened.view.epoch, Sent::default());
        let mut conversation = Conversation {
            io: self,
            id,
            epoch,
            line,
            report,
            limits,
            can,
            relays: relays::Told::default(),
            coordinators: Arc::new([]),
            asked: Wish::NONE,
            sent: &mut sent,
            asks: FuturesUnordered::new(),
            trials: Trials::default(),
            heard: Instant::now(),
        };
        coordinator.metrics.stream_opened();
        let Err(end) = conversation.run(opened, peer).await;
        coordinator.metrics.stream_closed(end.counted);
        let closed = coordinator.visit(move |core| {
            core.close(id, sent.into_view());
            key.map(|key| core.sessions.owing(&core.state, runner, key, true))
        });
        if let Ok(Some(closed)) = closed.await {
            // What can't be stored now is stored later: see `members`.
            let _ = coordinator.submit(Command::Owing(vec![closed])).await;
        }
        Err(end)
    }

    /// Hears the hello, and opens the stream.
    async fn begin(&mut self) -> Result<Begun, End> {
        let Hello { have, peer, refused, can, mut report } = self.hello().await?;
        let (runner, coordinator) = (self.runner, self.coordinator.clone());
        coordinator.refresh().await?;
        let (limits, ahead) = coordinator
            .visit(move |core| {
                let ahead = core.sessions.ahead(runner, have);
                core.state.is_active(runner).then(|| (core.limits.runner(runner), ahead))
            })
            .await?
            .ok_or_else(|| End::refused("the runner was removed"))?;
        self.beat(ahead::admit(&coordinator, runner, ahead)).await??;
        self.beat(limits.commands.turn(report.weight())).await??;
        if let Err(refusal) = self.beat(newcomer::admit(&coordinator, runner, peer, refused)).await?? {
            let why = refusal.to_string();
            self.send(&Down::Refused { cause: Cause::Copy, refusal }).await?;
            return Err(End::refused(why));
        }
        let key = self.beat(claim(&coordinator, runner, peer)).await??;
        let coordinator = coordinator.of_stream(key);
        self.coordinator = coordinator.clone();
        self.beat(report::store(&mut report, &coordinator)).await??;
        let (opened, line) = coordinator
            .visit(move |core| core.open(key, runner, peer, have))
            .await?
            .ok_or_else(|| End::refused("the runner was removed, or has a newer stream"))?;
        self.place.begin();
        info!(%runner, from = %self.from, took_over = opened.replaced.is_some(), "stream began");
        Ok(Begun { opened, line, key, peer, can, report, limits })
    }

    /// Waits, and sends heartbeats meanwhile.
    async fn beat<T>(&mut self, wait: impl Future<Output = T>) -> Result<T, End> {
        let (mut wait, place) = (std::pin::pin!(wait), self.place.clone());
        let mut heartbeat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        loop {
            tokio::select! {
                done = &mut wait => return Ok(done),
                _ = heartbeat.tick() => self.ping().await?,
                () = place.lost() => return Err(End::no_place()),
            }
        }
    }

    /// Reads the hello.
    async fn hello(&mut self) -> Result<Hello, End> {
        let place = self.place.clone();
        let first = tokio::select! {
            first = timeout(SILENCE, self.receive()) => first.map_err(|_| End::refused("no hello came"))??,
            () = place.lost() => return Err(End::no_place()),
        };
        let Some(Up::Hello {
            protocol,
            version,
            have,
            endpoints,
            port,
            endpoints_only,
            instances,
            process,
            refused,
            can,
            reflexive,
            relayed,
            nat,
        }) = first
        else {
            return Err(End::refused("the first message is not a hello"));
        };
        if protocol != PROTOCOL {
            let older = if protocol < PROTOCOL { "mesh-node" } else { "mesh-coord" };
            return Err(End::refused(format!(
                "protocol {protocol} is not {PROTOCOL}, the coordinator's: upgrade {older}"
            )));
        }
        // An address that only this machine or its link can reach helps peers only if the runner has no other.
        let local = match self.from {
            IpAddr::V4(address) => address.is_loopback() || address.is_link_local(),
            IpAddr::V6(address) => address.is_loopback() || address.is_unicast_link_local(),
        };
        let of_use = !endpoints_only && port != 0 && (!local || endpoints.is_empty());
        let seen = of_use.then(|| SocketAddr::new(self.from, port));
        let outside = Outside { reflexive, relayed, nat };
        // Other runners have no use for it.
        let shown = can.shown();
        let hello = RunnerCommand::Hello { version, can: shown, endpoints, seen, outside, instances };
        let report = Report::new(self.runner, hello, Instant::now().into_std());
        Ok(Hello { have, peer: Peer { process, from: self.from }, refused, can, report })
    }

    async fn send(&mut self, message: &Down) -> Result<(), End> {
        self.send_text(serde_json::to_string(message)).await
    }

    async fn send_text(&mut self, text: serde_json::Result<String>) -> Result<(), End> {
        let text = text.map_err(|error| End::lost(error.to_string()))?;
        self.write(text.into()).await
    }

    async fn ping(&mut self) -> Result<(), End> {
        self.write(PING).await
    }

    async fn write(&mut self, text: Utf8Bytes) -> Result<(), End> {
        match timeout(SILENCE, self.wire.send(text)).await {
            Ok(sent) => sent.map_err(|error| End::lost(error.to_string())),
            Err(_) => Err(End::lost("the agent does not read").counted(Closed::Silence)),
        }
    }

    /// The next message; `None` for a control frame. Cancel safe.
    async fn receive(&mut self) -> Result<Option<Up>, End> {
        match self.wire.next().await {
            Some(Ok(Message::Text(text))) => read(&text).map(Some),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(None),
            Some(Ok(Message::Binary(_) | Message::Frame(_))) => Err(End::refused("a message that is not text")),
            Some(Ok(Message::Close(_))) => Err(End::lost("the agent closed it")),
            Some(Err(error)) => Err(End::lost(error.to_string())),
            None => Err(End::lost("the connection broke")),
        }
    }
}

/// Makes the stream the runner's newest one, where several coordinators serve. Earlier ones end, wherever they are.
async fn claim(coordinator: &Coordinator, runner: RunnerId, peer: Peer) -> Result<Option<StreamKey>, End> {
    if !coordinator.peers.is_shared() {
        return Ok(None);
    }
    let number = random::number().map_err(|error| End::lost(error.to_string()))?;
    let stream = StreamKey { member: coordinator.peers.me, number };
    let session = Session { runner, stream, process: peer.process, from: peer.from };
    let living = coordinator.visit(move |core| core.sessions.may_have(runner)).await?;
    coordinator.submit(Command::Begin { session, living }).await?;
    Ok(Some(stream))
}

fn read(text: &Utf8Bytes) -> Result<Up, End> {
    serde_json::from_str(text).map_err(|error| {
        debug!(%error, "a message could not be read");
        End::refused(format!("a message that cannot be read: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a call takes until it is done.
    fn size<A, B, C, D, E, F: Future>(_: impl FnOnce(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    /// With 10,000 streams, each KiB of one is 10 MiB.
    #[test]
    fn a_stream_takes_little_memory() {
        let size = size(serve);
        assert!(size < 4 << 10, "{size} bytes");
    }

    #[test]
    fn a_ping_is_what_agents_read_as_one() {
        assert_eq!(serde_json::to_string(&Down::Ping).unwrap(), PING.as_str());
    }
}
