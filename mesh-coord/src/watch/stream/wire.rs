//! The WebSocket of a runner's stream. There are thousands of them, so each has small buffers: tungstenite takes 128 KiB
//! to read with, and keeps as much to write with as the largest frame has needed.

use axum::http::HeaderValue;
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Bytes, Error, Message, Utf8Bytes,
        handshake::derive_accept_key,
        protocol::{
            Role, WebSocketConfig,
            frame::{
                Frame,
                coding::{Data, OpCode},
            },
        },
    },
};

/// What is read at once, in bytes. All but the hello is shorter, and TLS has a buffer of its own.
const READ_BUFFER: usize = 1 << 10;
/// The longest frame that is written, in bytes. Longer messages are fragmented (RFC 6455 §5.4).
const FRAME: usize = 4 << 10;

/// An open WebSocket.
pub(crate) struct Wire(WebSocketStream<TokioIo<Upgraded>>);

impl Wire {
    /// The answer to a request's `Sec-WebSocket-Key`.
    pub(crate) fn accept(key: &HeaderValue) -> String {
        derive_accept_key(key.as_bytes())
    }

    /// The connection once it has been upgraded, with messages of at most `longest` bytes from the agent.
    ///
    /// # Errors
    /// If the connection breaks before.
    pub(crate) async fn open(upgrade: OnUpgrade, longest: usize) -> hyper::Result<Self> {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(longest))
            .max_frame_size(Some(longest));
        let io = TokioIo::new(upgrade.await?);
        Ok(Self(WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await))
    }

    /// Sends a text. If this is cancelled, the WebSocket is of no more use.
    pub(super) async fn send(&mut self, text: Utf8Bytes) -> Result<(), Error> {
        if text.len() <= FRAME {
            return self.0.send(Message::Text(text)).await;
        }
        for frame in frames(text) {
            self.0.feed(Message::Frame(frame)).await?;
        }
        self.0.flush().await
    }

    /// Sends another message.
    pub(super) async fn send_other(&mut self, message: Message) -> Result<(), Error> {
        self.0.send(message).await
    }

    /// The next message; `None` at the end. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Result<Message, Error>> {
        self.0.next().await
    }
}

/// The frames of a long text.
fn frames(text: Utf8Bytes) -> impl Iterator<Item = Frame> {
    let (mut rest, mut kind) = (Bytes::from(text), Data::Text);
    std::iter::from_fn(move || {
        let part = rest.split_to(FRAME.min(rest.len()));
        let kind = std::mem::replace(&mut kind, Data::Continue);
        (!part.is_empty()).then(|| Frame::message(part, OpCode::Data(kind), rest.is_empty()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frames_of_a_text_are_small_and_make_it_up() {
        let text: String = "ü8€".chars().cycle().take(3 * FRAME).collect();
        let all: Vec<Frame> = frames(text.clone().into()).collect();
        assert!(all.len() > 3 && all.iter().all(|frame| frame.payload().len() <= FRAME));
        let first_of = |frame: &Frame| frame.header().opcode == OpCode::Data(Data::Text);
        assert_eq!(all.iter().map(first_of).collect::<Vec<_>>().iter().rposition(|first| *first), Some(0));
        assert_eq!(all.iter().position(|frame| frame.header().is_final), Some(all.len() - 1));
        assert_eq!(all.iter().flat_map(|frame| frame.payload().to_vec()).collect::<Vec<_>>(), text.as_bytes());
    }
}
