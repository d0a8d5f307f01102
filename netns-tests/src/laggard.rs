//! A coordinator that lags, without a real one's care: it has the key that the runners know, and sends each the same old map
//! whatever the runner has.

use std::{
    collections::BTreeMap,
    fs,
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rcgen::{CertificateParams, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned, crypto::ring::default_provider, pki_types::PrivateKeyDer};
use serde_json::{Value, json};
use tungstenite::{
    Message, WebSocket, accept_hdr,
    handshake::server::{Request, Response},
};

use crate::{Coordinator, Identity};

/// Between two signs of life.
const BEAT: Duration = Duration::from_secs(1);

/// A coordinator that lags. Ends when dropped, and so do its streams, within a second.
pub struct Laggard {
    shared: Arc<Shared>,
    listener: TcpListener,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    stop: AtomicBool,
    tls: Arc<ServerConfig>,
    /// The old maps, by the credentials of their runners.
    maps: BTreeMap<String, Value>,
    sent: AtomicUsize,
    taken: AtomicUsize,
    open: Mutex<Vec<JoinHandle<()>>>,
}

impl Laggard {
    /// In place of a coordinator that doesn't run, with what these runners had then.
    ///
    /// # Panics
    /// If the coordinator runs, or has no key.
    #[must_use]
    pub fn start(coordinator: &Coordinator, old: &[Identity]) -> Self {
        let pem = fs::read_to_string(coordinator.data().join("tls-key.pem")).expect("the coordinator's key");
        let maps = old.iter().map(|identity| (identity.credential().to_owned(), identity.view().clone())).collect();
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            tls: Arc::new(certify(&pem)),
            maps,
            sent: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            open: Mutex::default(),
        });
        let listener = coordinator.namespace().enter(|| TcpListener::bind("[::]:7443")).expect("the place is free");
        let (of_thread, accepting) = (Arc::clone(&shared), listener.try_clone().expect("a descriptor"));
        let thread = thread::spawn(move || {
            while let Ok((tcp, _)) = accepting.accept() {
                if of_thread.stop.load(Ordering::Acquire) {
                    return;
                }
                let shared = Arc::clone(&of_thread);
                let serving = thread::spawn(move || {
                    // It ends when the agent, or the laggard, has had enough of it.
                    let _ = shared.serve(tcp);
                });
                of_thread.open.lock().unwrap_or_else(PoisonError::into_inner).push(serving);
            }
        });
        Self { shared, listener, thread: Some(thread) }
    }

    /// How many old maps it has sent.
    #[must_use]
    pub fn sent(&self) -> usize {
        self.shared.sent.load(Ordering::Acquire)
    }

    /// How many of them are in force at a runner.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.shared.taken.load(Ordering::Acquire)
    }
}

impl Drop for Laggard {
    fn drop(&mut self) {
        use std::os::fd::AsRawFd as _;
        self.shared.stop.store(true, Ordering::Release);
        // Wakes a thread in accept (tcp(7)); std offers it only for streams.
        let _ = nix::sys::socket::shutdown(self.listener.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let open = std::mem::take(&mut *self.shared.open.lock().unwrap_or_else(PoisonError::into_inner));
        open.into_iter().for_each(|stream| drop(stream.join()));
    }
}

type Stream = WebSocket<StreamOwned<ServerConnection, TcpStream>>;

impl Shared {
    /// One stream. `None`: it has ended.
    #[expect(clippy::result_large_err, reason = "what tungstenite's callback returns")]
    fn serve(&self, tcp: TcpStream) -> Option<()> {
        tcp.set_read_timeout(Some(BEAT)).ok()?;
        let from = tcp.peer_addr().ok()?.ip().to_canonical();
        let tls = StreamOwned::new(ServerConnection::new(Arc::clone(&self.tls)).ok()?, tcp);
        let mut credential = None;
        let mut stream = accept_hdr(tls, |request: &Request, response: Response| {
            let header = request.headers().get("authorization").and_then(|value| value.to_str().ok());
            credential = header.and_then(|text| text.strip_prefix("Bearer ")).map(str::to_owned);
            Ok(response)
        })
        .ok()?;
        let map = self.maps.get(&credential?)?;
        stream.read().ok()?;
        say(&mut stream, &json!({"type": "welcome", "seen_from": from}))?;
        say(&mut stream, &json!({"type": "snapshot", "view": map}))?;
        self.sent.fetch_add(1, Ordering::AcqRel);
        while !self.stop.load(Ordering::Acquire) {
            match stream.read() {
                Ok(Message::Text(text)) => {
                    let message: Value = serde_json::from_str(&text).ok()?;
                    if message["type"] == "applied" && message["revision"] == map["revision"] {
                        self.taken.fetch_add(1, Ordering::AcqRel);
                    }
                }
                Ok(Message::Close(_)) => return None,
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) if is_quiet(&error) => say(&mut stream, &json!({"type": "ping"}))?,
                Err(_) => return None,
            }
        }
        None
    }
}

/// Whether nothing has come in the time that a read may take.
fn is_quiet(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

fn say(stream: &mut Stream, message: &Value) -> Option<()> {
    stream.send(Message::text(message.to_string())).ok()
}

/// A certificate for the coordinator's key. Runners look at the key alone.
fn certify(pem: &str) -> ServerConfig {
    let key = KeyPair::from_pem(pem).expect("a key");
    let certificate = CertificateParams::new(["localhost".to_owned()]).and_then(|params| params.self_signed(&key));
    let certificate = certificate.expect("a certificate");
    let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], private))
        .expect("TLS")
}
