//! A coordinator within a test's process, on loopback, and its clients.

mod several;

use std::{
    net::Ipv4Addr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use mesh_link::{Method, RequestError, Url};
use mesh_model::{
    Admin, AdminCommand, Command, Enrolment, NewPurpose, NewToken, Outcome, TrustChange,
    declare::{Declaration, Declared, Deployment, File},
};
use mesh_proto::{
    Abilities, Epoch, InstanceId, Label, Ports, PrivateKey, Revision, RunnerId, Secret, View,
    message::{Answer, Ask, Down, Enrol, Enrolled, Have, Held, Info, PROTOCOL, Refusal, Switches, Up, enrol_purpose},
    token::{Fingerprint, Token, TokenKind},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, UnixStream},
    task::JoinSet,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _},
};

use crate::{
    api,
    clock::{Clocks, SystemClocks},
    coordinator::{Choice, Coordinator},
    data::{self, DataDirectory, scratch::Scratch},
    http::{
        Api,
        server::{listen, listen_unix, serve, serve_unix},
    },
    random,
    store::{MemoryStore, Store},
    tls::Identity,
};

pub(crate) use several::{two, until};

/// This machine's clocks, with the time of day set ahead.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ahead(Arc<AtomicU64>);

impl Ahead {
    pub(crate) fn pass(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Clocks for Ahead {
    fn day(&self) -> u64 {
        SystemClocks.day() + self.0.load(Ordering::Relaxed)
    }

    fn uptime(&self) -> Duration {
        SystemClocks.uptime()
    }
}

/// A coordinator that listens until this is dropped.
pub(crate) struct World {
    pub(crate) coordinator: Coordinator,
    pub(crate) clocks: Ahead,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) url: Url,
    pub(crate) socket: PathBuf,
    tasks: JoinSet<()>,
    data: DataDirectory,
    _scratch: Scratch,
}

/// What a coordinator stands on.
struct Ground {
    scratch: Scratch,
    data: DataDirectory,
    identity: Identity,
    listener: TcpListener,
    url: Url,
}

impl Ground {
    /// With the keys of another one, if it has any.
    fn new(other: Option<&DataDirectory>) -> Self {
        let scratch = Scratch::new();
        let data = DataDirectory::open(scratch.path()).unwrap();
        if let Some(other) = other {
            std::fs::copy(other.file(data::TLS_KEY), data.file(data::TLS_KEY)).unwrap();
        }
        let identity = Identity::open(&data, vec![]).unwrap();
        let listener = listen((Ipv4Addr::LOCALHOST, 0).into(), "--listen").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap()).parse().unwrap();
        Self { scratch, data, identity, listener, url }
    }

    fn serve(self, coordinator: Coordinator, clocks: Ahead) -> World {
        let Self { scratch, data, identity, listener, url } = self;
        let socket = listen_unix(&data.socket()).unwrap();
        let enrol_key = PrivateKey::from_bytes([42; 32]);
        let router = Api::new(coordinator.clone(), identity.fingerprint, enrol_key).router();
        let mut tasks = JoinSet::new();
        let for_unix = router.clone();
        let certificate = identity.certificate.subscribe();
        tasks.spawn(async move { match serve(listener, certificate, router, 1024).await {} });
        tasks.spawn(async move { match serve_unix(socket, for_unix).await {} });
        World {
            coordinator,
            clocks,
            fingerprint: identity.fingerprint,
            url,
            socket: data.socket(),
            tasks,
            data,
            _scratch: scratch,
        }
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::on(MemoryStore::new()).await
    }

    pub(crate) async fn on(store: impl Store) -> Self {
        let ground = Ground::new(None);
        let clocks = Ahead::default();
        let (coordinator, _) = Coordinator::start_by(clocks.clone(), store, Choice::default()).await.unwrap();
        ground.serve(coordinator, clocks)
    }

    /// One request over TLS.
    pub(crate) async fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        bearer: Option<&str>,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<T, RequestError> {
        let stream = mesh_link::connect(&self.url, self.fingerprint, &mesh_link::Proxies::none()).await.unwrap();
        mesh_link::request(stream, &self.url.authority(), method, path, bearer, body).await
    }

    /// One request at the admin socket.
    pub(crate) async fn admin<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<T, RequestError> {
        let stream = UnixStream::connect(&self.socket).await.unwrap();
        mesh_link::request(stream, "localhost", method, &format!("/v1/admin/{path}"), None, body).await
    }

    /// Carries out an operator's command, which must succeed.
    pub(crate) async fn order(&self, what: AdminCommand) -> Outcome {
        self.coordinator.submit(Command::Admin { by: Admin::socket(0), what }).await.unwrap().outcome
    }

    /// Declares a deployment with these services.
    pub(crate) async fn deploy(&self, name: &str, team: &str, services: &[&str]) {
        self.order(AdminCommand::Apply {
            files: vec![file(name, team, services)],
            dry_run: false,
            force: false,
            prune: None,
        })
        .await;
    }

    pub(crate) async fn trust(&self, caller: &str, callee: &str) {
        let change = TrustChange::Add { callers: [label(caller)].into(), services: None, ports: Ports::All };
        self.order(AdminCommand::Trust { deployment: label(callee), change }).await;
    }

    pub(crate) async fn token(&self, purpose: NewPurpose) -> String {
        self.token_that_is(purpose, false).await
    }

    pub(crate) async fn token_that_is(&self, purpose: NewPurpose, ephemeral: bool) -> String {
        let wish = NewToken { purpose, ttl: 3600, ephemeral, name: None };
        let made: api::NewToken = self.admin(Method::POST, "tokens", Some(&wish)).await.unwrap();
        made.token
    }

    /// A complete request to enrol.
    pub(crate) async fn wish(&self, token: &str, name: &str, key: &PrivateKey) -> Enrol {
        let info: Info = self.request(Method::GET, "/v1/info", None, None::<&()>).await.unwrap();
        let id = Token::parse(TokenKind::Join, token).unwrap().id;
        Enrol {
            token: token.to_owned(),
            name: label(name),
            provider: label("basement"),
            public_key: key.public(),
            proof: key.prove(info.enrol_key, &enrol_purpose(id)).unwrap(),
            replace: false,
        }
    }

    pub(crate) async fn enrol(&self, wish: &Enrol) -> Result<Enrolled, RequestError> {
        self.request(Method::POST, "/v1/enrol", None, Some(wish)).await
    }

    /// Enrols a runner that may host any deployment. Returns its credential.
    pub(crate) async fn runner(&self, name: &str) -> String {
        let token = self.token(NewPurpose::JoinAny { uses: 1 }).await;
        let mut key = [0; 32];
        random::fill(&mut key).unwrap();
        let wish = self.wish(&token, name, &PrivateKey::from_bytes(key)).await;
        self.enrol(&wish).await.unwrap().credential
    }

    /// An open stream before its hello.
    pub(crate) async fn connect(&self, credential: &str) -> Result<Agent, Error> {
        let stream = mesh_link::connect(&self.url, self.fingerprint, &mesh_link::Proxies::none()).await.unwrap();
        let mut request = format!("wss://{}/v1/stream", self.url.authority()).into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {credential}").parse().unwrap());
        let (socket, _) = client_async(request, stream).await?;
        Ok(Agent {
            socket,
            view: None,
            switches: vec![],
            asked: 0,
            process: None,
            refused: false,
            can: Abilities::NONE,
        })
    }

    /// A runner's agent with its first view.
    pub(crate) async fn agent(&self, name: &str) -> Agent {
        self.agent_of(&self.runner(name).await, None).await
    }

    /// The same of a runner that is there, with the view that it has.
    pub(crate) async fn agent_of(&self, credential: &str, have: Option<Have>) -> Agent {
        let mut agent = self.connect(credential).await.unwrap();
        agent.hello(have, Vec::new()).await;
        agent.news().await;
        agent
    }

    /// The view that the agent should have, by the model.
    pub(crate) async fn truth(&self, agent: &Agent) -> View {
        let runner = agent.view.as_ref().unwrap().runner;
        self.coordinator.visit(move |core| core.state.view(runner, core.sessions.epoch()).unwrap()).await.unwrap()
    }
}

/// One request and its answer, as a program of another maker sends it: at the socket, or over TLS with a token.
pub(crate) async fn talk(
    world: &World,
    method: &str,
    path: &str,
    bearer: Option<&str>,
    headers: &[(&str, &str)],
    body: Option<&serde_json::Value>,
) -> (u16, serde_json::Value) {
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: mesh\r\nconnection: close\r\n");
    if let Some(bearer) = bearer {
        request += &format!("authorization: Bearer {bearer}\r\n");
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    let body = body.map(ToString::to_string);
    if let Some(body) = &body {
        request += &format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
    }
    request += "\r\n";
    request += body.as_deref().unwrap_or_default();
    let answer = match bearer {
        Some(_) => {
            let stream = mesh_link::connect(&world.url, world.fingerprint, &mesh_link::Proxies::none()).await.unwrap();
            exchange(stream, &request).await
        }
        None => exchange(UnixStream::connect(&world.socket).await.unwrap(), &request).await,
    };
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{request}: {answer}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{path}: {error}: {answer}")))
}

/// The whole answer to a GET at the socket with another header.
pub(crate) async fn exchange_text(world: &World, path: &str, header: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: mesh\r\nconnection: close\r\n{header}\r\n");
    exchange(UnixStream::connect(&world.socket).await.unwrap(), &request).await
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // The other end may close without TLS's goodbye.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

/// A runner that may host any deployment, of a coordinator that doesn't listen.
pub(crate) async fn enrolled(coordinator: &Coordinator) -> RunnerId {
    let secret = || Secret::from_bytes([1; 32]);
    let token = NewToken { purpose: NewPurpose::JoinAny { uses: 1 }, ttl: 3600, ephemeral: false, name: None };
    let command = Command::CreateToken { by: Admin::socket(0), token, secret: secret().hash() };
    let Outcome::TokenCreated { token, .. } = coordinator.submit(command).await.unwrap().outcome else { panic!() };
    let wish = Enrolment {
        token,
        secret: secret(),
        name: label("one"),
        provider: label("basement"),
        public_key: PrivateKey::from_bytes([7; 32]).public(),
        proved: true,
        replace: false,
        credential: secret().hash(),
    };
    let Outcome::Enrolled { runner, .. } = coordinator.submit(Command::Enrol(wish)).await.unwrap().outcome else {
        panic!()
    };
    runner
}

pub(crate) fn label(text: &str) -> Label {
    text.parse().unwrap()
}

pub(crate) fn file(name: &str, team: &str, services: &[&str]) -> File {
    let services = services.iter().map(|s| (s.parse().unwrap(), Declared::default())).collect();
    let declaration = Declaration::Whole(Deployment {
        name: label(name),
        team: Some(label(team)),
        expose: None,
        trust: None,
        services,
    });
    File { name: format!("{name}.toml"), declaration }
}

/// The records of a view, without its revision.
pub(crate) fn contents(view: &View) -> Vec<mesh_proto::Record> {
    view.records().cloned().collect()
}

/// An agent's end of a stream, without data plane.
pub(crate) struct Agent {
    pub(crate) socket: WebSocketStream<mesh_link::Stream>,
    pub(crate) view: Option<View>,
    /// All switches that it received, in order.
    pub(crate) switches: Vec<Switches>,
    asked: u64,
    /// The process that it reports.
    pub(crate) process: Option<u64>,
    /// Whether it reports that it was refused as a copy.
    pub(crate) refused: bool,
    /// What it says that it can do.
    pub(crate) can: Abilities,
}

impl Agent {
    pub(crate) async fn say(&mut self, message: &Up) {
        self.socket.send(Message::text(serde_json::to_string(message).unwrap())).await.unwrap();
    }

    /// Sends a hello without waiting for the answer.
    pub(crate) async fn begin(&mut self, have: Option<Have>, instances: Vec<Held>) {
        let endpoints = vec!["192.0.2.1:51820".parse().unwrap()];
        let version = "0.1.0".to_owned();
        let (port, endpoints_only) = (51820, false);
        let (process, refused) = (self.process, self.refused);
        let hello = Up::Hello {
            protocol: PROTOCOL,
            version,
            have,
            endpoints,
            port,
            endpoints_only,
            instances,
            process,
            refused,
            can: self.can,
            reflexive: vec![],
            relayed: vec![],
            nat: None,
        };
        self.say(&hello).await;
    }

    pub(crate) async fn hello(&mut self, have: Option<Have>, instances: Vec<Held>) {
        self.begin(have, instances).await;
        let welcome = self.hear().await.unwrap();
        assert!(matches!(welcome, Down::Welcome { seen_from } if seen_from.is_loopback()), "{welcome:?}");
    }

    /// The next message that is neither a heartbeat nor about offloads; or why the stream ended.
    pub(crate) async fn hear(&mut self) -> Result<Down, String> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => match serde_json::from_str(&text).unwrap() {
                    Down::Ping => self.say(&Up::Pong).await,
                    Down::Switches(switches) => self.switches.push(switches),
                    other => return Ok(other),
                },
                Some(Ok(Message::Close(Some(frame)))) => return Err(frame.reason.to_string()),
                Some(Ok(Message::Close(None)) | Err(_)) | None => return Err("it broke".to_owned()),
                Some(Ok(_)) => {}
            }
        }
    }

    /// Waits for an update of the view and applies it. Returns whether it was a delta.
    pub(crate) async fn news(&mut self) -> bool {
        let message = self.hear().await.unwrap();
        self.take(message)
    }

    fn take(&mut self, message: Down) -> bool {
        match message {
            Down::Snapshot { view } => {
                self.view = Some(view);
                false
            }
            Down::Delta(delta) => {
                assert!(!delta.is_empty(), "a delta that says nothing");
                self.view.as_mut().unwrap().apply(&delta).unwrap();
                true
            }
            other => panic!("no news of the view: {other:?}"),
        }
    }

    /// Waits until its view has the contents of `truth`.
    pub(crate) async fn reach(&mut self, truth: &View) {
        while self.view.as_ref().is_none_or(|view| contents(view) != contents(truth)) {
            self.news().await;
        }
    }

    pub(crate) async fn applied(&mut self) {
        let revision = self.view.as_ref().unwrap().revision;
        self.say(&Up::Applied { revision }).await;
    }

    pub(crate) fn have(&self) -> Have {
        let view = self.view.as_ref().unwrap();
        Have { epoch: view.epoch, revision: view.revision }
    }

    /// Asks a question, and applies updates that come before the answer.
    pub(crate) async fn ask(&mut self, ask: Ask) -> Result<Answer, Refusal> {
        self.asked += 1;
        let asked = self.asked;
        self.say(&Up::Ask { request: asked, ask }).await;
        loop {
            match self.hear().await.unwrap() {
                Down::Answer { request, result } => {
                    assert_eq!(request, asked);
                    return result;
                }
                news => drop(self.take(news)),
            }
        }
    }

    pub(crate) async fn attach(&mut self, service: &str) -> (InstanceId, Revision) {
        match self.ask(Ask::Attach { service: service.parse().unwrap(), client: false, release: None }).await.unwrap() {
            Answer::Attached { instance, revision, .. } => (instance, revision),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn settle(&mut self, revision: Revision) -> Vec<Label> {
        match self.ask(Ask::Settle { revision }).await.unwrap() {
            Answer::Settled { pending } => pending,
            other => panic!("{other:?}"),
        }
    }
}

/// An epoch that the coordinator never draws.
pub(crate) const FOREIGN: Epoch = Epoch([7; 16]);
