//! A relay's stream to the coordinator, by which it learns who was removed. Without it everything else goes on.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::StatusCode;
use mesh_link::Proxies;
use mesh_process::Backoff;
use mesh_proto::{
    message::PROTOCOL,
    relay::wire::{RelayDown, RelayPublic, RelayUp, Revoked},
};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, Message, handshake::client::generate_key, protocol::WebSocketConfig},
};
use tracing::{debug, info, warn};

use super::{Shared, membership::Membership};
use crate::data::DataDirectory;

/// The longest message in bytes: everyone who was ever removed.
const MAX_MESSAGE: usize = 16 << 20;
/// How long the coordinator may take to accept.
const ACCEPT: Duration = Duration::from_secs(10);
/// Three intervals of its heartbeat.
const SILENCE: Duration = Duration::from_secs(6);
/// The pauses between attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Why a stream has ended.
enum Ended {
    /// The relay was removed: it is none any more.
    Removed,
    /// Anything else, which may pass.
    Broken(anyhow::Error),
}

/// A relay's connection to its coordinator.
pub(crate) struct Link {
    pub(crate) shared: Arc<Shared>,
    pub(crate) data: DataDirectory,
    pub(crate) membership: Membership,
    pub(crate) public: RelayPublic,
    pub(crate) proxies: Proxies,
}

impl Link {
    /// Follows the coordinator until the relay is removed.
    ///
    /// # Errors
    /// Then.
    pub(crate) async fn follow(mut self) -> Result<()> {
        let mut pauses = Backoff::new(PAUSES.0, PAUSES.1);
        let mut told = false;
        loop {
            let begun = tokio::time::Instant::now();
            let error = match self.once(&mut told).await {
                Ended::Removed => bail!(
                    "the coordinator knows the relay {} no more: it was removed. To enrol it anew, remove its data \
                     directory, and use another relay token",
                    self.membership.name
                ),
                Ended::Broken(error) => error,
            };
            if begun.elapsed() > PAUSES.1 {
                pauses.reset();
            }
            if std::mem::replace(&mut told, true) {
                debug!(error = format!("{error:#}"), "the coordinator is still away");
            } else {
                warn!(error = format!("{error:#}"), "the coordinator is away; the relay goes on without");
            }
            let mut random = [0; 8];
            let _ = crate::random::fill(&mut random);
            sleep(pauses.next_spread(u64::from_ne_bytes(random))).await;
        }
    }

    /// One stream, until it ends. `told`: whether the log says that the coordinator is away.
    async fn once(&mut self, told: &mut bool) -> Ended {
        match self.open().await {
            Ok(stream) => match self.converse(stream, told).await {
                Ok(never) => never,
                Err(error) => Ended::Broken(error),
            },
            Err(ended) => ended,
        }
    }

    async fn open(&self) -> Result<WebSocketStream<mesh_link::Stream>, Ended> {
        let (urls, fingerprint) = (&self.membership.coordinators, self.membership.fingerprint);
        let opened = mesh_link::connect_any(urls, fingerprint, &self.proxies).await;
        let (stream, url) = opened.map_err(|error| Ended::Broken(error.into()))?;
        let request = mesh_link::upgrade(&url, "/v1/relay/stream", &self.membership.credential, generate_key());
        let request = request.map_err(|error| Ended::Broken(error.into()))?;
        let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
        match timeout(ACCEPT, client_async_with_config(request, stream, Some(config))).await {
            Ok(Ok((stream, _))) => Ok(stream),
            Ok(Err(tungstenite::Error::Http(response))) if response.status() == StatusCode::UNAUTHORIZED => {
                Err(Ended::Removed)
            }
            Ok(Err(error)) => Err(Ended::Broken(error.into())),
            Err(_) => Err(Ended::Broken(anyhow::anyhow!("the coordinator doesn't answer"))),
        }
    }

    async fn converse(&mut self, mut stream: WebSocketStream<mesh_link::Stream>, told: &mut bool) -> Result<Ended> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let hello = RelayUp::Hello { protocol: PROTOCOL, version, public: self.public.clone() };
        stream.send(text(&hello)?).await?;
        loop {
            let message = timeout(SILENCE, stream.next()).await.context("the coordinator is silent")?;
            match message.context("the coordinator has ended the stream")?? {
                Message::Text(down) => match serde_json::from_str(&down)? {
                    RelayDown::Welcome { revoked } => {
                        info!(relay = %self.membership.relay, name = %self.membership.name, "known to the coordinator");
                        *told = false;
                        self.revoke(revoked)?;
                    }
                    RelayDown::Revoked { revoked } => self.revoke(revoked)?,
                    RelayDown::Ping => {
                        self.shared.inform();
                        stream.send(text(&RelayUp::Pong)?).await?;
                    }
                },
                Message::Close(why) => {
                    let why = why.map_or_else(String::new, |frame| format!(": {}", frame.reason));
                    bail!("the coordinator has ended the stream{why}")
                }
                _ => {}
            }
        }
    }

    /// Ends what removed runners have, and remembers them for the next start.
    fn revoke(&mut self, revoked: Vec<Revoked>) -> Result<()> {
        if !revoked.is_empty() {
            info!(runners = revoked.len(), "removed runners are cut off");
        }
        self.shared.revoke(revoked.iter().map(|revoked| (revoked.pseudonym, revoked.until)));
        // A coordinator forgets some of them when there are many. The relay forgets them when their credentials have ended.
        self.membership.revoked = self.shared.revoked();
        self.membership.save(&self.data)
    }
}

fn text(up: &RelayUp) -> Result<Message> {
    Ok(Message::text(serde_json::to_string(up)?))
}
