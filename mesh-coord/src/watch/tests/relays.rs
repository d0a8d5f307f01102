//! What agents and own relays are told of relays.

use futures_util::{SinkExt as _, StreamExt as _};
use mesh_link::Method;
use mesh_model::{Admin, AdminCommand, Command, NewPurpose, NewRelay};
use mesh_proto::{
    Abilities, RelayId, RunnerId,
    message::{Down, PROTOCOL},
    relay::{
        Relay, RelayCredential, RelaySecret,
        wire::{RelayDown, RelayEnrol, RelayEnrolled, RelayPublic, RelayUp, Revoked},
    },
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _},
};

use crate::{
    api::{RelayState, Relays},
    testing::{Agent, World, label},
};

/// Adds a relay as an administrator would, without the trial.
async fn add(world: &World, name: &str, secret: &RelaySecret) {
    let handle = world.coordinator.relay_secrets.keep(secret.clone()).unwrap();
    let udp = vec!["203.0.113.9:3478".parse().unwrap()];
    let relay = NewRelay { name: label(name), public: RelayPublic { udp, ..public() } };
    let command = Command::AddRelay { by: Admin::socket(0), relay, secret: handle };
    world.coordinator.submit(command).await.unwrap();
}

async fn able(world: &World, credential: &str) -> Agent {
    let mut agent = world.connect(credential).await.unwrap();
    agent.can = Abilities::ALL;
    agent.hello(None, vec![]).await;
    agent.news().await;
    agent
}

async fn told(agent: &mut Agent) -> (Vec<Relay>, Vec<RelayCredential>) {
    match agent.hear().await.unwrap() {
        Down::Relays { relays, credentials } => (relays, credentials),
        other => panic!("{other:?}"),
    }
}

fn names(relays: &[Relay]) -> Vec<&str> {
    relays.iter().map(|relay| &*relay.name).collect()
}

#[tokio::test]
async fn agents_that_use_relays_are_told_which_there_are_and_what_they_log_in_with() {
    let world = World::new().await;
    let secret: RelaySecret = "north".parse().unwrap();
    add(&world, "fra-1", &secret).await;
    let credential = world.runner("one").await;
    let mut agent = able(&world, &credential).await;
    let runner = agent.view.as_ref().unwrap().runner;
    let (relays, credentials) = told(&mut agent).await;
    assert_eq!((names(&relays), relays[0].id), (vec!["fra-1"], RelayId(1)));
    let until = credentials[0].until;
    let left = until - world.coordinator.now().0;
    assert!((302_400..=604_800).contains(&left), "{left} s");
    assert_eq!(credentials, [secret.credential(runner, RelayId(1), until)]);

    add(&world, "ams-2", &secret).await;
    assert_eq!(names(&told(&mut agent).await.0), ["fra-1", "ams-2"]);
    world.order(AdminCommand::RemoveRelay { name: label("fra-1") }).await;
    let (relays, credentials) = told(&mut agent).await;
    assert_eq!((names(&relays), credentials.len(), credentials[0].relay), (vec!["ams-2"], 1, RelayId(2)));

    // Another stream changes nothing about the credentials; half of their time does.
    drop(agent);
    let mut agent = able(&world, &credential).await;
    let (_, again) = told(&mut agent).await;
    assert_eq!(again, credentials);
    world.clocks.pass(302_400);
    let (_, renewed) = told(&mut agent).await;
    assert_eq!(renewed[0].until, until + 302_400);
}

#[tokio::test]
async fn older_agents_hear_of_no_relay_and_no_agent_of_one_whose_secret_is_lost() {
    let world = World::new().await;
    let secret: RelaySecret = "north".parse().unwrap();
    let mut old = world.agent("old").await;
    add(&world, "fra-1", &secret).await;
    let lost = NewRelay {
        name: label("lost"),
        public: RelayPublic { udp: vec!["203.0.113.8:3478".parse().unwrap()], ..public() },
    };
    let command = Command::AddRelay { by: Admin::socket(0), relay: lost, secret: mesh_model::record::SecretHandle(7) };
    world.coordinator.submit(command).await.unwrap();
    let credential = world.runner("one").await;
    let mut agent = able(&world, &credential).await;
    assert_eq!(names(&told(&mut agent).await.0), ["fra-1"]);
    let listed: Relays = world.admin(Method::GET, "relays", None::<&()>).await.unwrap();
    let states: Vec<_> = listed.relays.iter().map(|relay| (&*relay.name, relay.state)).collect();
    assert_eq!(states, [("fra-1", RelayState::Added), ("lost", RelayState::NoSecret)]);
    // The next thing that the old agent hears is what was asked for.
    world.deploy("shop", "acme", &["db"]).await;
    old.attach("shop/db").await;
}

/// An own relay's end of its stream.
struct Own(WebSocketStream<mesh_link::Stream>);

impl Own {
    async fn connect(world: &World, credential: &str) -> Result<Self, Error> {
        let stream = mesh_link::connect(&world.url, world.fingerprint, &mesh_link::Proxies::none()).await.unwrap();
        let mut request = format!("wss://{}/v1/relay/stream", world.url.authority()).into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {credential}").parse().unwrap());
        Ok(Self(client_async(request, stream).await?.0))
    }

    async fn say(&mut self, message: &RelayUp) {
        self.0.send(Message::text(serde_json::to_string(message).unwrap())).await.unwrap();
    }

    async fn begin(world: &World, credential: &str, public: RelayPublic) -> (Self, Vec<Revoked>) {
        let mut own = Self::connect(world, credential).await.unwrap();
        own.say(&RelayUp::Hello { protocol: PROTOCOL, version: "0.3.0".to_owned(), public }).await;
        match own.hear().await.unwrap() {
            RelayDown::Welcome { revoked } => (own, revoked),
            other => panic!("{other:?}"),
        }
    }

    /// The next message that is no heartbeat; or why the stream ended.
    async fn hear(&mut self) -> Result<RelayDown, String> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => match serde_json::from_str(&text).unwrap() {
                    RelayDown::Ping => self.say(&RelayUp::Pong).await,
                    other => return Ok(other),
                },
                Some(Ok(Message::Close(Some(frame)))) => return Err(frame.reason.to_string()),
                Some(Ok(Message::Close(None)) | Err(_)) | None => return Err("it broke".to_owned()),
                Some(Ok(_)) => {}
            }
        }
    }
}

fn public() -> RelayPublic {
    RelayPublic { udp: vec!["203.0.113.9:3478".parse().unwrap()], tcp: vec![], tls: vec![], fingerprint: None }
}

async fn remove(world: &World, name: &str) {
    world.order(AdminCommand::RemoveNode { name: label(name), force: false }).await;
}

async fn runner(world: &World, name: &str) -> RunnerId {
    world.runner(name).await;
    let name = name.to_owned();
    world.coordinator.visit(move |core| core.state.runner_named(&name).unwrap().id).await.unwrap()
}

#[tokio::test]
async fn an_own_relay_enrols_and_is_told_of_removed_runners_at_once() {
    let world = World::new().await;
    let token = world.token(NewPurpose::Relay { name: label("fra-1") }).await;
    assert!(token.starts_with("meshrelay1."), "{}", &token[..12]);
    let wish = RelayEnrol { token, public: public() };
    let enrolled: RelayEnrolled = world.request(Method::POST, "/v1/relay/enrol", None, Some(&wish)).await.unwrap();
    assert_eq!((enrolled.relay, &*enrolled.name), (RelayId(1), "fra-1"));
    let secret: RelaySecret = enrolled.secret.parse().unwrap();
    let again: Result<RelayEnrolled, _> = world.request(Method::POST, "/v1/relay/enrol", None, Some(&wish)).await;
    assert!(again.unwrap_err().to_string().contains("is used up"));

    let state = async || -> RelayState {
        let listed: Relays = world.admin(Method::GET, "relays", None::<&()>).await.unwrap();
        listed.relays[0].state
    };
    assert_eq!(state().await, RelayState::Silent);
    let (one, two) = (runner(&world, "one").await, runner(&world, "two").await);
    remove(&world, "one").await;
    let (mut own, revoked) = Own::begin(&world, &enrolled.credential, public()).await;
    let is = |found: &[Revoked], runner| {
        let pseudonyms: Vec<_> = found.iter().map(|revoked| revoked.pseudonym).collect();
        assert_eq!(pseudonyms, [secret.pseudonym(runner, RelayId(1))]);
        assert!(found[0].until >= world.coordinator.now().0 + 604_000);
    };
    is(&revoked, one);
    assert_eq!(state().await, RelayState::Online);
    remove(&world, "two").await;
    let RelayDown::Revoked { revoked } = own.hear().await.unwrap() else { panic!() };
    is(&revoked, two);

    // A runner logs in with what the relay checks by its own secret.
    let credential = world.runner("three").await;
    let mut agent = able(&world, &credential).await;
    let (_, credentials) = told(&mut agent).await;
    assert_eq!(credentials[0].password, secret.password(&credentials[0].username));

    // It has moved, and says so at its next stream, which takes over.
    let moved = RelayPublic { udp: vec!["203.0.113.10:3478".parse().unwrap()], ..public() };
    let (mut newer, revoked) = Own::begin(&world, &enrolled.credential, moved).await;
    assert_eq!(revoked.len(), 2);
    assert_eq!(own.hear().await.unwrap_err(), "a newer stream of this relay took over");
    assert_eq!(told(&mut agent).await.0[0].public.udp[0].to_string(), "203.0.113.10:3478");

    world.order(AdminCommand::RemoveRelay { name: label("fra-1") }).await;
    assert_eq!(newer.hear().await.unwrap_err(), "the relay was removed");
    assert!(told(&mut agent).await.0.is_empty());
    let Err(Error::Http(answer)) = Own::connect(&world, &enrolled.credential).await else { panic!() };
    assert_eq!(answer.status(), 401);
}

#[tokio::test]
async fn no_other_credential_opens_a_relays_stream_and_a_relays_opens_no_other() {
    let world = World::new().await;
    let token = world.token(NewPurpose::Relay { name: label("fra-1") }).await;
    let wish = RelayEnrol { token: token.clone(), public: public() };
    let enrolled: RelayEnrolled = world.request(Method::POST, "/v1/relay/enrol", None, Some(&wish)).await.unwrap();
    let runner = world.runner("one").await;
    for bad in [runner.as_str(), &token, "x"] {
        let Err(Error::Http(answer)) = Own::connect(&world, bad).await else { panic!() };
        assert_eq!(answer.status(), 401);
    }
    let Err(Error::Http(answer)) = world.connect(&enrolled.credential).await else { panic!() };
    assert_eq!(answer.status(), 401);
    let nodes = world.request::<serde_json::Value>(Method::GET, "/v1/admin/relays", Some(&token), None::<&()>).await;
    assert!(nodes.is_err());
}

#[tokio::test]
async fn a_teams_administrator_neither_lists_nor_adds_nor_removes_relays() {
    let world = World::new().await;
    let token = world.token(NewPurpose::Admin { team: Some(label("acme")) }).await;
    let body = serde_json::json!({"name": "a", "udp": ["127.0.0.1:1"], "secret": "north"});
    let added: Result<serde_json::Value, _> =
        world.request(Method::POST, "/v1/admin/relays", Some(&token), Some(&body)).await;
    assert!(added.unwrap_err().to_string().contains("relays are the whole mesh's"));
    let listed: Result<serde_json::Value, _> =
        world.request(Method::GET, "/v1/admin/relays", Some(&token), None::<&()>).await;
    assert!(listed.unwrap_err().to_string().contains("relays are the whole mesh's"));
    let removal = AdminCommand::RemoveRelay { name: label("a") };
    let removed: Result<serde_json::Value, _> =
        world.request(Method::POST, "/v1/admin/command", Some(&token), Some(&removal)).await;
    assert!(removed.unwrap_err().to_string().contains("relays are the whole mesh's"));
}
