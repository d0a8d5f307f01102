//! Simulated agents: each has a stream, keeps the revision of its view, and confirms at once what it is sent.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use futures_util::{SinkExt as _, StreamExt as _};
use mesh_link::{Url, upgrade};
use mesh_proto::{
    Abilities, Ability, Epoch, Revision, ServicePath,
    message::{Ask, Have, PROTOCOL, Up},
};
use serde::Deserialize;
use tokio::{
    net::TcpStream,
    sync::{Semaphore, mpsc, watch},
    task::spawn_local,
    time::{sleep, sleep_until, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, Utf8Bytes, handshake::client::generate_key, protocol::WebSocketConfig},
};

use crate::{mesh, mesh::Mesh, reporting::Reporting, tls};

/// Handshakes at once, so that 10,000 agents on one core don't run into their own time limits.
const AT_ONCE: usize = 200;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Agents draw lots within this time before they try again, as the real ones do.
const SPREAD: Duration = Duration::from_secs(1);
const PONG: Utf8Bytes = Utf8Bytes::from_static(r#"{"type":"pong"}"#);

type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// All agents, and what is known of them.
pub(crate) struct Herd {
    pub(crate) mesh: Mesh,
    connector: TlsConnector,
    handshakes: Semaphore,
    /// Where the coordinator is; `None` while there is none.
    to: watch::Sender<Option<SocketAddr>>,
    asks: RefCell<Vec<mpsc::UnboundedSender<Ask>>>,
    pub(crate) counts: Counts,
    /// How many of the first agents stay away.
    away: Cell<usize>,
    /// How many pairs of services each reports.
    edges: usize,
}

/// What has happened.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Reports that were sent.
    pub(crate) reports: Cell<usize>,
    /// Agents whose view is the coordinator's.
    pub(crate) synced: Cell<usize>,
    pub(crate) connected: Cell<usize>,
    pub(crate) broken: Cell<usize>,
    pub(crate) refused: Cell<usize>,
    pub(crate) snapshots: Cell<usize>,
    pub(crate) deltas: Cell<usize>,
    pub(crate) bytes: Cell<usize>,
    /// When news of a view came last.
    pub(crate) last_news: Cell<Option<Instant>>,
    /// When each news since the last reset came.
    pub(crate) news: RefCell<Vec<Instant>>,
    /// The answers to asks.
    pub(crate) answers: RefCell<Vec<String>>,
}

impl Counts {
    fn add(counter: &Cell<usize>, number: usize) {
        counter.set(counter.get() + number);
    }
}

#[derive(Deserialize)]
struct Snapshot {
    view: Head,
}

#[derive(Deserialize)]
struct Head {
    epoch: Epoch,
    revision: Revision,
}

#[derive(Deserialize)]
struct Delta {
    to: Revision,
}

#[derive(Deserialize)]
struct Wish {
    seconds: u32,
}

impl Herd {
    pub(crate) fn new(mesh: Mesh, edges: usize) -> Self {
        Self {
            mesh,
            connector: tls::connector(),
            handshakes: Semaphore::new(AT_ONCE),
            to: watch::Sender::new(None),
            asks: RefCell::default(),
            counts: Counts::default(),
            away: Cell::new(0),
            edges,
        }
    }

    /// Starts all agents.
    pub(crate) fn start(self: &Rc<Self>) {
        for number in 0..self.mesh.runners {
            let (ask, asked) = mpsc::unbounded_channel();
            self.asks.borrow_mut().push(ask);
            let agent = Agent {
                herd: Rc::clone(self),
                number,
                have: None,
                asked,
                requests: 0,
                synced: false,
                reporting: Reporting::default(),
            };
            spawn_local(agent.run());
        }
    }

    /// The coordinator is there from now on, or gone.
    pub(crate) fn coordinator_at(&self, address: Option<SocketAddr>) {
        self.to.send_replace(address);
    }

    /// A fifth of the agents doesn't come back.
    pub(crate) fn send_away(&self) {
        self.away.set(self.mesh.runners / 5);
    }

    /// How many agents should be connected.
    pub(crate) fn expected(&self) -> usize {
        self.mesh.runners - self.away.get()
    }

    /// An agent asks something.
    pub(crate) fn ask(&self, agent: usize, ask: Ask) {
        let _ = self.asks.borrow()[agent].send(ask);
    }

    /// An agent attaches an instance of a service that it hosts already.
    pub(crate) fn attach(&self, agent: usize, service: ServicePath) {
        self.ask(agent, Ask::Attach { service, client: true, release: None });
    }
}

struct Agent {
    herd: Rc<Herd>,
    number: usize,
    have: Option<Have>,
    asked: mpsc::UnboundedReceiver<Ask>,
    requests: u64,
    synced: bool,
    reporting: Reporting,
}

impl Agent {
    async fn run(mut self) {
        let mut to = self.herd.to.subscribe();
        loop {
            let Ok(address) = to.wait_for(Option::is_some).await.map(|address| *address) else { return };
            if let Some(address) = address
                && self.number >= self.herd.away.get()
            {
                sleep(lot(self.number)).await;
                match self.connect(address).await {
                    Ok(socket) => {
                        let counts = &self.herd.counts;
                        Counts::add(&counts.connected, 1);
                        self.serve(socket).await;
                        let counts = &self.herd.counts;
                        counts.connected.set(counts.connected.get() - 1);
                        if std::mem::take(&mut self.synced) {
                            counts.synced.set(counts.synced.get() - 1);
                        }
                        Counts::add(&counts.broken, 1);
                    }
                    Err(_) => Counts::add(&self.herd.counts.refused, 1),
                }
            } else {
                // Until the next run of the coordinator, if it is to come back then.
                let _ = to.changed().await;
            }
        }
    }

    async fn connect(&self, to: SocketAddr) -> Result<Socket, String> {
        let _permit = self.herd.handshakes.acquire().await.map_err(|error| error.to_string())?;
        let open = async {
            let stream =
                tls::connect(&self.herd.connector, to, self.number).await.map_err(|error| error.to_string())?;
            let url: Url = format!("https://{to}").parse().map_err(|_| "no URL".to_owned())?;
            let credential = Mesh::credential(self.number).to_text();
            let request =
                upgrade(&url, "/v1/stream", &credential, generate_key()).map_err(|error| error.to_string())?;
            let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
            let config = config.max_message_size(None).max_frame_size(None);
            let opened = client_async_with_config(request, stream, Some(config)).await;
            let (mut socket, _) = opened.map_err(|error| error.to_string())?;
            socket.send(Message::text(self.hello()?)).await.map_err(|error| error.to_string())?;
            Ok(socket)
        };
        timeout(CONNECT_TIMEOUT, open).await.map_err(|_| "too slow".to_owned())?
    }

    fn hello(&self) -> Result<String, String> {
        let hello = Up::Hello {
            protocol: PROTOCOL,
            version: mesh::VERSION.to_owned(),
            have: self.have,
            endpoints: vec![mesh::endpoint(self.number)],
            port: 51820,
            endpoints_only: true,
            instances: self.herd.mesh.held(self.number),
            process: Some(mesh::id(self.number)),
            refused: false,
            can: if self.herd.edges > 0 { Abilities::NONE.with(Ability::Telemetry) } else { Abilities::NONE },
            reflexive: vec![],
            relayed: vec![],
            nat: None,
        };
        serde_json::to_string(&hello).map_err(|error| error.to_string())
    }

    async fn serve(&mut self, mut socket: Socket) {
        self.reporting.begin();
        loop {
            tokio::select! {
                () = due(self.reporting.due) => {
                    let report = self.reporting.next(&self.herd.mesh, self.number, self.herd.edges);
                    Counts::add(&self.herd.counts.reports, 1);
                    if say(&mut socket, &Up::Telemetry(report)).await.is_none() {
                        return;
                    }
                }
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) => {
                        if self.hear(&text, &mut socket).await.is_none() {
                            return;
                        }
                    }
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                    Some(Ok(_)) => {}
                },
                Some(ask) = self.asked.recv() => {
                    self.requests += 1;
                    if say(&mut socket, &Up::Ask { request: self.requests, ask }).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    async fn hear(&mut self, text: &Utf8Bytes, socket: &mut Socket) -> Option<()> {
        let counts = &self.herd.counts;
        Counts::add(&counts.bytes, text.len());
        if text.starts_with(r#"{"type":"ping""#) {
            socket.send(Message::Text(PONG)).await.ok()
        } else if text.starts_with(r#"{"type":"snapshot""#) {
            let Snapshot { view } = serde_json::from_str(text).ok()?;
            self.have = Some(Have { epoch: view.epoch, revision: view.revision });
            Counts::add(&counts.snapshots, 1);
            self.applied(view.revision, socket).await
        } else if text.starts_with(r#"{"type":"delta""#) {
            let Delta { to } = serde_json::from_str(text).ok()?;
            self.have = self.have.map(|have| Have { revision: to, ..have });
            Counts::add(&counts.deltas, 1);
            self.applied(to, socket).await
        } else if text.starts_with(r#"{"type":"switches""#) {
            // What comes first after the welcome says that there was no news.
            if let Some(have) = self.have.filter(|_| !self.synced) {
                self.applied(have.revision, socket).await?;
            }
            Some(())
        } else if text.starts_with(r#"{"type":"telemetry""#) {
            let Wish { seconds } = serde_json::from_str(text).ok()?;
            self.reporting.wish(seconds, lot(self.number).div_duration_f64(SPREAD));
            Some(())
        } else {
            if text.starts_with(r#"{"type":"answer""#) {
                counts.answers.borrow_mut().push(text.to_string());
            }
            Some(())
        }
    }

    async fn applied(&mut self, revision: Revision, socket: &mut Socket) -> Option<()> {
        let (counts, now) = (&self.herd.counts, Instant::now());
        counts.last_news.set(Some(now));
        counts.news.borrow_mut().push(now);
        if !std::mem::replace(&mut self.synced, true) {
            Counts::add(&counts.synced, 1);
        }
        say(socket, &Up::Applied { revision }).await
    }
}

async fn say(socket: &mut Socket, message: &Up) -> Option<()> {
    socket.send(Message::text(serde_json::to_string(message).ok()?)).await.ok()
}

/// Waits until then; without end if it is never.
async fn due(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// A runner's lot.
fn lot(number: usize) -> Duration {
    let hash = (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 44;
    SPREAD.mul_f64(hash as f64 / f64::from(1 << 20))
}
