use std::sync::{Arc, Mutex};

use mesh_proto::{
    PrivateKey, PublicKey, Range, RunnerId, Secret, TokenId,
    message::{Enrol, Info},
    token::{Credential, TokenKind},
};
use rcgen::{CertificateParams, KeyPair};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

use super::*;
use crate::state::tests::Scratch;

/// What the coordinator does with an enrolment.
type Reaction = Box<dyn FnMut(Enrol) -> Option<(u16, String)> + Send>;

/// A coordinator that gives `info`, and does `react` (`None`: hangs up) to enrolments.
async fn coordinator(info: Info, react: Reaction) -> Application {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["c".to_owned()]).unwrap().self_signed(&key).unwrap();
    let fingerprint = mesh_link::fingerprint_of(certificate.der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let react = Arc::new(Mutex::new(react));
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut tls) = acceptor.accept(tcp).await else { continue };
            let request = read_request(&mut tls).await;
            let answer = match request.split_once("\r\n\r\n") {
                Some((head, _)) if head.starts_with("GET /v1/info ") => {
                    Some((200, serde_json::to_string(&info).unwrap()))
                }
                Some((head, body)) if head.starts_with("POST /v1/enrol ") => {
                    react.lock().unwrap()(serde_json::from_str(body).unwrap())
                }
                _ => panic!("{request}"),
            };
            if let Some((status, body)) = answer {
                let text = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                tls.write_all(text.as_bytes()).await.unwrap();
            }
            let _ = tls.shutdown().await;
        }
    });
    let secret = Secret::from_bytes([3; 32]);
    Application {
        coordinators: vec![url.parse().unwrap()],
        token: Token { kind: TokenKind::Join, fingerprint, id: TokenId(1), secret, urls: vec![] },
        name: "a".parse().unwrap(),
        provider: "here".parse().unwrap(),
        proxies: Proxies::none(),
        replace: false,
    }
}

/// Head and body of one request.
async fn read_request(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut text = String::new();
    loop {
        let length = text
            .to_ascii_lowercase()
            .split("content-length: ")
            .nth(1)
            .and_then(|rest| rest.split("\r\n").next().and_then(|number| number.parse::<usize>().ok()));
        if let Some((_, body)) = text.split_once("\r\n\r\n")
            && body.len() >= length.unwrap_or(0)
        {
            return text;
        }
        let mut buffer = [0; 4096];
        let n = stream.read(&mut buffer).await.unwrap();
        assert!(n > 0, "cut short: {text}");
        text += std::str::from_utf8(&buffer[..n]).unwrap();
    }
}

fn info(protocol: u32) -> Info {
    Info { protocol, enrol_key: PrivateKey::from_bytes([9; 32]).public(), range: Range::DEFAULT }
}

fn enrolled() -> String {
    let credential = Credential { runner: RunnerId(7), secret: Secret::from_bytes([5; 32]) };
    let enrolled = Enrolled { runner: RunnerId(7), credential: credential.to_text().to_string() };
    serde_json::to_string(&enrolled).unwrap()
}

fn state(name: &str) -> (Scratch, StateDir) {
    let scratch = Scratch::new(name);
    let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
    (scratch, state)
}

#[tokio::test]
async fn an_answer_that_is_lost_is_asked_for_again_with_the_same_key() {
    let (_scratch, state) = state("enrol");
    let keys: Arc<Mutex<Vec<PublicKey>>> = Arc::default();
    let (seen, kept) = (Arc::clone(&keys), state.clone());
    let react = move |enrol: Enrol| {
        let ours = Identity::load(&kept).unwrap().expect("the key is kept before it is shown");
        assert_eq!(ours.private_key.public(), enrol.public_key);
        let coordinators = PrivateKey::from_bytes([9; 32]);
        assert!(coordinators.verify(enrol.public_key, &enrol_purpose(TokenId(1)), &enrol.proof));
        let mut seen = seen.lock().unwrap();
        seen.push(enrol.public_key);
        (seen.len() > 1).then(|| (200, enrolled()))
    };
    let wish = coordinator(info(PROTOCOL), Box::new(react)).await;
    let mut identity = Identity::new().unwrap();
    enrol(&state, &mut identity, &[], &wish).await.unwrap();
    let keys = keys.lock().unwrap();
    assert!(keys.len() == 2 && keys[0] == keys[1], "{keys:?}");
    let kept = Identity::load(&state).unwrap().unwrap().enrolment.unwrap();
    assert_eq!((kept.runner, &*kept.name, kept.fingerprint), (RunnerId(7), "a", wish.token.fingerprint));
}

#[tokio::test]
async fn a_refusal_is_final_and_passed_on() {
    let (_scratch, state) = state("enrol-refused");
    let mut asked = 0;
    let react = move |_| {
        asked += 1;
        assert_eq!(asked, 1, "a refusal is not asked for twice");
        Some((409, r#"{"error":"the name `a` is taken","hint":"--replace"}"#.to_owned()))
    };
    let wish = coordinator(info(PROTOCOL), Box::new(react)).await;
    let error = enrol(&state, &mut Identity::new().unwrap(), &[], &wish).await.unwrap_err();
    assert_eq!(error, Refusal::new("the name `a` is taken", "--replace"));
}

#[tokio::test]
async fn another_coordinator_and_another_protocol_are_told_apart() {
    let (_scratch, state) = state("enrol-other");
    let never = || Box::new(|_: Enrol| -> Option<(u16, String)> { panic!("the token was shown") });
    let mut wish = coordinator(info(PROTOCOL), never()).await;
    wish.token.fingerprint = mesh_proto::token::Fingerprint([0; 32]);
    let error = enrol(&state, &mut Identity::new().unwrap(), &[], &wish).await.unwrap_err();
    assert!(error.error.contains("another fingerprint") && error.hint.unwrap().contains("another coordinator"));
    let wish = coordinator(info(PROTOCOL + 1), never()).await;
    let error = enrol(&state, &mut Identity::new().unwrap(), &[], &wish).await.unwrap_err();
    assert!(error.hint.unwrap().contains("upgrade this agent"));
    assert!(Identity::load(&state).unwrap().is_none(), "nothing was begun");
}
