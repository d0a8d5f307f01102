//! The stream to the coordinator, spoken without the agent's manners.

use std::{
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use rustls::{ClientConnection, StreamOwned};
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket, client::IntoClientRequest as _};

use super::Identity;
use crate::{Namespace, tls::tls};

/// A stream to the coordinator.
pub struct Control {
    socket: WebSocket<StreamOwned<ClientConnection, TcpStream>>,
    asked: u64,
}

impl Control {
    /// Opens one from a machine, with a runner's credential, and says hello as if it had nothing.
    ///
    /// # Errors
    /// What the coordinator says instead of letting it in: its status, and its words.
    ///
    /// # Panics
    /// If there is no coordinator at all.
    pub fn open(from: &Namespace, to: SocketAddr, identity: &Identity) -> Result<Self, (u16, String)> {
        let hello = json!({"type": "hello", "protocol": 1, "version": "outlaw", "have": null, "endpoints": [],
            "port": super::PORT, "instances": []});
        Self::open_saying(from, to, identity, &hello)
    }

    /// Opens one with a first message of one's own.
    ///
    /// # Errors
    /// What the coordinator says instead of letting it in: its status, and its words.
    ///
    /// # Panics
    /// If there is no coordinator at all.
    pub fn open_saying(
        from: &Namespace,
        to: SocketAddr,
        identity: &Identity,
        hello: &Value,
    ) -> Result<Self, (u16, String)> {
        let tcp = from.enter(|| TcpStream::connect(to)).expect("the coordinator");
        tcp.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let mut request = format!("wss://{to}/v1/stream").into_client_request().expect("a request");
        let value = format!("Bearer {}", identity.credential()).parse().expect("a header");
        request.headers_mut().insert("authorization", value);
        let socket = match tungstenite::client(request, tls(tcp, to.ip(), None)) {
            Ok((socket, _)) => socket,
            Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(response))) => {
                let body = response.body().as_deref().unwrap_or_default();
                return Err((response.status().as_u16(), String::from_utf8_lossy(body).into_owned()));
            }
            Err(e) => panic!("no stream: {e}"),
        };
        let mut control = Self { socket, asked: 0 };
        control.say(hello);
        Ok(control)
    }

    /// Says something.
    ///
    /// # Panics
    /// If the stream has ended.
    pub fn say(&mut self, message: &Value) {
        self.socket.send(Message::text(message.to_string())).expect("the stream stands");
    }

    /// The next message, but pings, which are answered; `None` once the stream has ended.
    pub fn hear(&mut self) -> Option<Value> {
        loop {
            match self.socket.read().ok()? {
                Message::Text(text) => {
                    let message: Value = serde_json::from_str(&text).ok()?;
                    if message["type"] != "ping" {
                        return Some(message);
                    }
                    let _ = self.socket.send(Message::text(json!({"type": "pong"}).to_string()));
                }
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }

    /// Asks something; what comes as its result: `{"Ok": …}` or `{"Err": {"error", "hint"}}`.
    ///
    /// # Panics
    /// If the stream ends instead.
    pub fn ask(&mut self, ask: &Value) -> Value {
        self.asked += 1;
        let request = self.asked;
        self.say(&json!({"type": "ask", "request": request, "ask": ask}));
        loop {
            let message = self.hear().expect("an answer");
            if message["type"] == "answer" && message["request"] == request {
                return message["result"].clone();
            }
        }
    }
}
