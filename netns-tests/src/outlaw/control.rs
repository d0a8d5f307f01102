//! The stream to the coordinator, spoken without the agent's manners.

use std::{
    net::{IpAddr, SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring::default_provider},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket, client::IntoClientRequest as _};

use super::Identity;
use crate::Namespace;

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

/// TLS towards whomever: it is the outlaw that isn't to be trusted here.
fn trusting() -> ClientConfig {
    let provider = Arc::new(default_provider());
    let verifier = Arc::new(AnyServer(Arc::clone(&provider)));
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth()
}

/// TLS with any server.
pub(crate) fn tls(tcp: TcpStream, to: IpAddr, alpn: Option<&[u8]>) -> StreamOwned<ClientConnection, TcpStream> {
    let mut config = trusting();
    config.alpn_protocols.extend(alpn.map(<[u8]>::to_vec));
    let tls = ClientConnection::new(Arc::new(config), ServerName::from(to)).expect("TLS");
    StreamOwned::new(tls, tcp)
}

#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
