use std::collections::HashMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use mesh_model::AdminCommand;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};

use super::*;
use crate::{
    data::scratch::Scratch,
    store::EtcdLab,
    testing::{World, label},
};

const SECRET: &str = "a secret of at least 24 bytes";

/// What a receiver has got.
#[derive(Debug)]
struct Got {
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl Got {
    fn actions(&self) -> Vec<String> {
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        body["audit"].as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap().to_owned()).collect()
    }

    /// Checks the signature by the definition of HMAC (RFC 2104 §2).
    fn is_signed(&self) -> bool {
        let mut key = [0_u8; 64];
        key[..SECRET.len()].copy_from_slice(SECRET.as_bytes());
        let signed =
            [format!("{}.{}.", self.headers["webhook-id"], self.headers["webhook-timestamp"]).as_bytes(), &self.body]
                .concat();
        let inner = Sha256::digest([key.map(|byte| byte ^ 0x36).as_slice(), &signed].concat());
        let outer = Sha256::digest([key.map(|byte| byte ^ 0x5c).as_slice(), &inner].concat());
        self.headers["webhook-signature"] == format!("v1,{}", BASE64_STANDARD.encode(outer))
    }
}

async fn receive(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str) -> Got {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let headers = head.lines().skip(1).filter_map(|line| line.split_once(": "));
            let headers: HashMap<_, _> = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
            if bytes.len() - end - 4 == headers["content-length"].parse::<usize>().unwrap() {
                stream.write_all(format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await.unwrap();
                return Got { headers, body: bytes[end + 4..].to_vec() };
            }
        }
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "it broke off");
    }
}

/// A receiver that gives these answers, and 204 from then on.
struct Receiver {
    url: String,
    got: mpsc::UnboundedReceiver<Got>,
    task: JoinHandle<()>,
}

impl Receiver {
    async fn new(answers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (told, got) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let mut answers = answers.into_iter();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let answer = answers.next().unwrap_or_else(|| "204 No Content".to_owned());
                let _ = told.send(receive(stream, &answer).await);
            }
        });
        Self { url, got, task }
    }

    async fn next(&mut self) -> Got {
        timeout(Duration::from_secs(60), self.got.recv()).await.expect("nothing came").unwrap()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn start(
    world: &World,
    scratch: &Scratch,
    url: &str,
    wanted: Option<&[&str]>,
) -> JoinHandle<Result<Infallible, Failure>> {
    let secret = scratch.path().join("secret");
    fs::write(&secret, format!("{SECRET}\n")).unwrap();
    let webhook = Webhook {
        target: Target::new(url.parse().unwrap(), None).unwrap(),
        key: read_key(&secret).unwrap(),
        wanted: wanted.map(|wanted| wanted.iter().map(|word| (*word).to_owned()).collect()),
        place: scratch.path().join("webhook"),
    };
    tokio::spawn(webhook.run(world.coordinator.clone()))
}

/// Waits until the webhook has nothing to send.
async fn noted(scratch: &Scratch, world: &World) {
    let newest = world.coordinator.visit(|core| core.state.newest_audit()).await.unwrap().to_string();
    let place = scratch.path().join("webhook");
    let is_there = async {
        while fs::read_to_string(&place).unwrap_or_default().trim() != newest {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(60), is_there).await.expect("it is noted");
}

#[tokio::test]
async fn entries_arrive_signed_once_and_in_order_whatever_the_receiver_answers_at_first() {
    let (world, scratch) = (World::new().await, Scratch::new());
    world.deploy("before", "acme", &["db"]).await;
    let mut elsewhere = Receiver::new(vec![]).await;
    let moved = format!("307 Temporary Redirect\r\nlocation: {}", elsewhere.url);
    let mut receiver = Receiver::new(vec!["500 Internal Server Error".to_owned(), moved]).await;
    let running = start(&world, &scratch, &receiver.url, None);
    noted(&scratch, &world).await;
    world.deploy("shop", "acme", &["db"]).await;
    let first = receiver.next().await;
    world.order(AdminCommand::Delete { deployment: label("shop"), force: false }).await;
    for again in [receiver.next().await, receiver.next().await] {
        assert_eq!((&again.body, &again.headers["webhook-id"]), (&first.body, &first.headers["webhook-id"]));
        assert!(again.is_signed() && first.is_signed(), "{again:?}");
    }
    assert_eq!(first.actions(), ["apply"], "nothing of before");
    assert_eq!(receiver.next().await.actions(), ["delete"]);
    assert!(elsewhere.got.try_recv().is_err(), "redirects are not followed");
    noted(&scratch, &world).await;
    running.abort();
    // What is made while it doesn't run arrives later.
    world.deploy("later", "acme", &["db"]).await;
    let running = start(&world, &scratch, &receiver.url, None);
    assert_eq!(receiver.next().await.actions(), ["apply"]);
    assert!(receiver.got.try_recv().is_err());
    running.abort();
}

#[tokio::test]
async fn of_several_coordinators_one_sends_and_another_goes_on_where_it_ended() {
    let etcd = EtcdLab::start();
    let one = World::among(&etcd, None).await;
    let scratches = [Scratch::new(), Scratch::new()];
    let mut receiver = Receiver::new(vec![]).await;
    let sending = start(&one, &scratches[0], &receiver.url, None);
    noted(&scratches[0], &one).await;
    let other = World::among(&etcd, Some(&one)).await;
    let following = start(&other, &scratches[1], &receiver.url, None);
    let mut sent = Vec::new();
    for name in ["a", "b", "c"] {
        one.deploy(name, "acme", &["db"]).await;
        sent.push(receiver.next().await.headers["webhook-id"].clone());
        // What the first has sent, the second knows.
        other.coordinator.refresh().await.unwrap();
        noted(&scratches[1], &other).await;
    }
    // The first ends, and the second is told of nothing.
    sending.abort();
    drop(one);
    other.coordinator.refresh().await.unwrap();
    other.deploy("d", "acme", &["db"]).await;
    let last = receiver.next().await;
    assert_eq!(last.actions(), ["apply"]);
    sent.push(last.headers["webhook-id"].clone());
    sent.dedup();
    assert_eq!(sent.len(), 4, "each has come once: {sent:?}");
    assert!(receiver.got.try_recv().is_err());
    following.abort();
}

#[tokio::test]
async fn only_what_is_chosen_is_sent_and_no_message_is_long() {
    let (world, scratch) = (World::new().await, Scratch::new());
    fs::write(scratch.path().join("webhook"), "0\n").unwrap();
    for n in 0..120 {
        world.deploy(&format!("d{n}"), "acme", &["db"]).await;
    }
    world.order(AdminCommand::Delete { deployment: label("d7"), force: false }).await;
    let missing = AdminCommand::Delete { deployment: label("nosuch"), force: false };
    world.admin::<Value>(mesh_link::Method::POST, "command", Some(&missing)).await.unwrap_err();
    let mut receiver = Receiver::new(vec![]).await;
    let running = start(&world, &scratch, &receiver.url, Some(&["apply", REFUSED]));
    let (first, second) = (receiver.next().await.actions(), receiver.next().await.actions());
    assert_eq!((first.len(), second.len()), (BATCH, 21));
    assert_eq!((second[19].as_str(), second[20].as_str()), ("apply", "delete"), "the delete that was refused");
    running.abort();
}

#[tokio::test]
async fn a_receiver_with_tls_shows_a_certificate_of_an_authority() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let scratch = Scratch::new();
    let authority = scratch.path().join("ca.pem");
    fs::write(&authority, certificate.pem()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth();
    let der = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = config.with_single_cert(vec![certificate.der().clone()], der).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            if let Ok(tls) = acceptor.accept(tcp).await {
                return receive(tls, "200 OK").await;
            }
        }
    });
    let post = async |host: &str, authorities: &std::path::Path| {
        let target = Target::new(format!("https://{host}:{port}/").parse().unwrap(), Some(authorities)).unwrap();
        target.post([("webhook-id", "x".to_owned()), ("a", String::new()), ("b", String::new())], "{}".into()).await
    };
    let other = scratch.path().join("other.pem");
    let another = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .self_signed(&rcgen::KeyPair::generate().unwrap());
    fs::write(&other, another.unwrap().pem()).unwrap();
    assert!(post("localhost", &other).await.unwrap_err().contains("no TLS"), "an unknown authority");
    assert!(post("127.0.0.1", &authority).await.unwrap_err().contains("no TLS"), "another name");
    assert_eq!(post("localhost", &authority).await, Ok(()));
    assert_eq!(serving.await.unwrap().body, b"{}");
    let rubbish = scratch.path().join("rubbish");
    fs::write(&rubbish, "x").unwrap();
    assert!(Target::new("https://a/".parse().unwrap(), Some(&rubbish)).is_err());
}

#[test]
fn a_short_secret_is_refused_and_none_is_shown() {
    let scratch = Scratch::new();
    let file = scratch.path().join("secret");
    let read = |text: &str| {
        fs::write(&file, text).unwrap();
        read_key(&file)
    };
    assert!(read("short").unwrap_err().to_string().contains("24 is the least"));
    assert!(read("whsec_!").is_err() && read("").is_err());
    let coded = format!("whsec_{}", BASE64_STANDARD.encode(SECRET));
    let (key, same) = (read(SECRET).unwrap(), read(&coded).unwrap());
    assert_eq!(key.sign("a", 1, b"x"), same.sign("a", 1, b"x"));
    assert_eq!(format!("{key:?}"), "Key");
}
