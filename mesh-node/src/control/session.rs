//! One stream: says who we are, keeps the view current, carries questions and their answers.

use std::{
    collections::HashMap,
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::{SinkExt as _, StreamExt as _};
use mesh_proto::{
    RunnerId, View,
    message::{Answer, Cause, Down, Have, PROTOCOL, Refusal, Up},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout, timeout_at},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use super::{Intent, Keeper, Ourselves, Question, process};

/// How long the coordinator may be silent: three of its heartbeats.
pub(super) const SILENCE: Duration = Duration::from_secs(6);

/// How long the coordinator may take to answer a good-bye.
const FAREWELL: Duration = Duration::from_millis(500);

/// How a stream ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Why, in words.
    pub(super) why: String,
    /// Whether it had begun.
    pub(super) welcomed: bool,
    /// The coordinator gives this agent none, and says what to do.
    pub(super) refused: Option<Refusal>,
}

/// Serves a stream until it ends.
pub(super) async fn serve<S>(
    stream: WebSocketStream<S>,
    runner: RunnerId,
    keeper: &Keeper,
    ourselves: &mut Ourselves,
) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut session =
        Session { stream, runner, keeper, waiting: HashMap::new(), asked: 0, resyncing: false, refused: None };
    let why = match session.run(ourselves).await {
        Ok(never) => match never {},
        Err(why) => why,
    };
    let refused = session.refused.take();
    Ended { why, welcomed: keeper.link.borrow().connected, refused }
}

enum Never {}

struct Session<'a, S> {
    stream: WebSocketStream<S>,
    runner: RunnerId,
    keeper: &'a Keeper,
    waiting: HashMap<u64, oneshot::Sender<Result<Answer, Refusal>>>,
    asked: u64,
    /// A snapshot is on its way: deltas before it lead nowhere.
    resyncing: bool,
    refused: Option<Refusal>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<'_, S> {
    async fn run(&mut self, ourselves: &mut Ourselves) -> Result<Never, String> {
        // Open first, then tell what is held: whoever attaches from here on asks.
        let mut questions: mpsc::UnboundedReceiver<Question> = self.keeper.desk.open();
        let hello = self.hello(ourselves);
        self.send(&hello).await?;
        let mut deadline = Instant::now() + SILENCE;
        let mut intent = self.keeper.desk.intent.subscribe();
        loop {
            tokio::select! {
                () = is_over(&mut intent) => return Err(self.close().await),
                message = timeout_at(deadline, self.stream.next()) => {
                    let message = message.map_err(|_| format!("nothing was heard for {} s", SILENCE.as_secs()))?;
                    deadline = Instant::now() + SILENCE;
                    self.receive(message.transpose().map_err(|e| broken(&e))?, ourselves).await?;
                }
                Some((ask, answer)) = questions.recv() => {
                    self.asked += 1;
                    // Whoever gave up waiting leaves nothing behind.
                    self.waiting.retain(|_, waiting| !waiting.is_closed());
                    self.waiting.insert(self.asked, answer);
                    self.send(&Up::Ask { request: self.asked, ask }).await?;
                }
                Ok(()) = ourselves.applied.changed() => self.tell_applied(ourselves).await?,
                Ok(()) = ourselves.endpoints.changed() => {
                    let endpoints = ourselves.endpoints.borrow_and_update().clone();
                    self.send(&Up::Endpoints { endpoints }).await?;
                }
            }
        }
    }

    /// Says good-bye as WebSocket and TLS have it, so that the coordinator doesn't take it for a fault.
    async fn close(&mut self) -> String {
        let frame = CloseFrame { code: CloseCode::Away, reason: "the agent ends".into() };
        let farewell = async {
            self.stream.close(Some(frame)).await?;
            // What is on its way is of no use any more; the answer to the close is.
            while let Some(Ok(_)) = self.stream.next().await {}
            self.stream.get_mut().shutdown().await?;
            Ok::<_, Error>(())
        };
        let _ = timeout(FAREWELL, farewell).await;
        "the agent ends".to_owned()
    }

    fn hello(&self, ourselves: &mut Ourselves) -> Up {
        Up::Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            have: self.keeper.views.borrow().as_ref().map(|view| Have { epoch: view.epoch, revision: view.revision }),
            endpoints: ourselves.endpoints.borrow_and_update().clone(),
            port: ourselves.port,
            endpoints_only: ourselves.endpoints_only,
            instances: (ourselves.held)(),
            process: Some(process()),
            refused: self.keeper.link.borrow().copy,
        }
    }

    async fn receive(&mut self, message: Option<Message>, ourselves: &mut Ourselves) -> Result<(), String> {
        let text = match message {
            Some(Message::Text(text)) => text,
            Some(Message::Ping(_) | Message::Pong(_)) => return Ok(()),
            Some(Message::Close(Some(frame))) if !frame.reason.is_empty() => return Err(frame.reason.to_string()),
            Some(Message::Close(_)) | None => return Err("the coordinator has closed it".into()),
            Some(Message::Binary(_) | Message::Frame(_)) => return Err("it carried something other than text".into()),
        };
        let message = serde_json::from_str(&text)
            .map_err(|e| format!("it carried something that this version doesn't understand: {e}"))?;
        self.keeper.link.send_modify(|link| link.heard = Some(SystemTime::now()));
        // News of the view come first. When something else does there are none: the view that we have is the latest.
        if matches!(message, Down::Ping | Down::Switches(_) | Down::Answer { .. })
            && self.keeper.link.borrow().connected
            && !self.resyncing
        {
            self.sync(ourselves).await?;
        }
        match message {
            Down::Welcome { seen_from } => {
                tracing::info!(%seen_from, "connected to the coordinator");
                self.keeper.link.send_modify(|link| {
                    (link.connected, link.unknown, link.copy) = (true, false, false);
                    link.trouble = None;
                });
            }
            Down::Snapshot { view } => {
                if view.runner != self.runner {
                    return Err(format!("it carried the view of {}, and this is {}", view.runner, self.runner));
                }
                self.resyncing = false;
                self.take(sifted(view), ourselves).await?;
            }
            Down::Delta(delta) if !self.resyncing => {
                let view = self.keeper.views.borrow().clone();
                let applied = view.map(|view| {
                    let mut view = View::clone(&view);
                    view.apply(&delta).map(|()| sifted(view))
                });
                match applied {
                    Some(Ok(view)) => self.take(view, ourselves).await?,
                    Some(Err(gap)) => self.resync(&gap.to_string()).await?,
                    None => self.resync("a delta came before any view").await?,
                }
            }
            Down::Delta(_) => {}
            Down::Switches(switches) => {
                let _ = self.keeper.switches.send(switches);
            }
            Down::Refused { cause, refusal } => {
                self.keeper.link.send_modify(|link| (link.unknown, link.copy) = (true, cause == Cause::Copy));
                let why = refusal.to_string();
                self.refused = Some(refusal);
                return Err(why);
            }
            Down::Ping => self.send(&Up::Pong).await?,
            Down::Answer { request, result } => {
                if let Some(waiting) = self.waiting.remove(&request) {
                    // Whoever asked may have given up.
                    let _ = waiting.send(result);
                }
            }
        }
        Ok(())
    }

    async fn take(&mut self, view: View, ourselves: &mut Ourselves) -> Result<(), String> {
        tracing::debug!(revision = %view.revision, epoch = %view.epoch, "a view has come");
        let unchanged = self
            .keeper
            .views
            .borrow()
            .as_ref()
            .is_some_and(|old| (old.epoch, old.revision) == (view.epoch, view.revision) && **old == view);
        if !unchanged {
            self.keeper.views.send_replace(Some(Arc::new(view)));
        }
        self.sync(ourselves).await
    }

    /// The view is the coordinator's. What an earlier stream was told of it, this one was not.
    async fn sync(&mut self, ourselves: &mut Ourselves) -> Result<(), String> {
        let first = self.keeper.link.send_if_modified(|link| !std::mem::replace(&mut link.synced, true));
        if first { self.tell_applied(ourselves).await } else { Ok(()) }
    }

    async fn resync(&mut self, why: &str) -> Result<(), String> {
        tracing::info!(why, "the view can't be continued: asking for a new one");
        self.resyncing = true;
        self.send(&Up::Resync).await
    }

    /// Tells which revision is in force, if that can mean anything to this coordinator: not before it has shown its epoch.
    async fn tell_applied(&mut self, ourselves: &mut Ourselves) -> Result<(), String> {
        let applied = *ourselves.applied.borrow_and_update();
        let epoch = self.keeper.views.borrow().as_ref().map(|view| view.epoch);
        match applied.filter(|applied| Some(applied.epoch) == epoch && self.keeper.link.borrow().synced) {
            Some(Have { revision, .. }) => self.send(&Up::Applied { revision }).await,
            None => Ok(()),
        }
    }

    async fn send(&mut self, message: &Up) -> Result<(), String> {
        let text = serde_json::to_string(message).map_err(|e| e.to_string())?;
        match timeout(SILENCE, self.stream.send(Message::text(text))).await {
            Ok(sent) => sent.map_err(|e| broken(&e)),
            Err(_) => Err("the coordinator takes nothing any more".into()),
        }
    }
}

/// Waits until the agent ends.
async fn is_over(intent: &mut watch::Receiver<Intent>) {
    if intent.wait_for(|intent| *intent == Intent::End).await.is_err() {
        std::future::pending().await
    }
}

/// Why the stream broke. (A coordinator that is killed says no good-bye, which rustls explains at length.)
fn broken(error: &Error) -> String {
    match error {
        Error::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof => "the connection broke".to_owned(),
        other => other.to_string(),
    }
}

/// The view without what it can't hold.
fn sifted(mut view: View) -> View {
    let left_out = view.sift();
    if let Some(first) = left_out.first() {
        tracing::warn!(
            count = left_out.len(),
            ?first,
            "the coordinator names addresses that are none of the mesh's: left out"
        );
    }
    view
}

#[cfg(test)]
mod tests;
