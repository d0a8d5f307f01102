//! For tests: the coordinator's end of streams.

use std::net::{IpAddr, Ipv4Addr};

use futures_util::{SinkExt as _, StreamExt as _};
use mesh_proto::{
    RunnerId,
    message::{Down, Up},
};
use tokio::{
    io::{DuplexStream, duplex},
    sync::mpsc,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

use super::{LocalState, SessionState, link};

/// The coordinator's end of one stream.
pub(crate) struct Peer(WebSocketStream<DuplexStream>);

/// Both ends of a stream.
pub(super) async fn pair() -> (WebSocketStream<DuplexStream>, Peer) {
    let (ours, theirs) = duplex(1 << 20);
    let ours = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
    (ours, Peer(WebSocketStream::from_raw_socket(theirs, Role::Server, None).await))
}

impl Peer {
    pub(crate) async fn say(&mut self, message: &Down) {
        self.send(Message::text(serde_json::to_string(message).unwrap())).await;
    }

    pub(crate) async fn send(&mut self, message: Message) {
        self.0.send(message).await.unwrap();
    }

    /// What the agent says next; `None` if it has ended the stream.
    pub(crate) async fn hear(&mut self) -> Option<Up> {
        match self.0.next().await?.ok()? {
            Message::Text(text) => Some(serde_json::from_str(&text).unwrap()),
            Message::Close(_) => None,
            other => panic!("{other:?}"),
        }
    }

    /// Hears the hello, and answers it.
    pub(crate) async fn welcome(&mut self) -> Up {
        let hello = self.hear().await.unwrap();
        assert!(matches!(hello, Up::Hello { .. }), "{hello:?}");
        self.say(&Down::Welcome { seen_from: IpAddr::V4(Ipv4Addr::LOCALHOST) }).await;
        hello
    }

    pub(crate) async fn close(&mut self) {
        self.0.close(None).await.unwrap();
    }
}

/// An agent's streams, one after the other.
pub(crate) struct Streams(mpsc::UnboundedSender<WebSocketStream<DuplexStream>>);

impl Streams {
    pub(crate) fn new(state: SessionState, runner: RunnerId, mut local: LocalState) -> Self {
        let (sender, mut streams) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(stream) = streams.recv().await {
                link::attend(stream, runner, &state, &mut local).await;
            }
        });
        Self(sender)
    }

    /// Opens one, as soon as the one before has ended.
    pub(crate) async fn open(&self) -> Peer {
        let (ours, theirs) = pair().await;
        self.0.send(ours).unwrap();
        theirs
    }
}
