use rcgen::KeyPair;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::lab::{closed, proxy};

async fn server(names: &[&str], key: &KeyPair) -> (Url, Fingerprint) {
    let (place, fingerprint, _) = crate::lab::server(names, key).await;
    (url(&place), fingerprint)
}

fn url(place: &str) -> Url {
    format!("https://{place}").parse().unwrap()
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

async fn greeting(mut stream: Stream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

const NONE: Fingerprint = Fingerprint([0; 32]);

#[tokio::test]
async fn the_key_is_trusted_whatever_the_certificate_says() {
    let key = key();
    let (url, fingerprint) = server(&["somewhere.else"], &key).await;
    let (_, same_key_other_name) = server(&["another.name"], &key).await;
    assert_eq!(fingerprint, same_key_other_name);
    assert_eq!(greeting(connect(&url, fingerprint, &Proxies::none()).await.unwrap()).await, "hello");
}

#[tokio::test]
async fn another_key_is_another_coordinator() {
    let (url, _) = server(&["localhost"], &key()).await;
    let error = connect(&url, NONE, &Proxies::none()).await.unwrap_err();
    assert!(matches!(error, LinkError::OtherCoordinator { .. }), "{error}");
}

/// A coordinator with too much to do ends connections. That is worth another try, so it must show.
#[tokio::test]
async fn a_connection_that_the_server_resets_shows_as_such() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let busy = url(&listener.local_addr().unwrap().to_string());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // What was sent and is not read has the kernel answer the end of the socket by a reset.
            stream.peek(&mut [0]).await.unwrap();
        }
    });
    let error = connect(&busy, NONE, &Proxies::none()).await.unwrap_err();
    let kind = |error: &LinkError| match error {
        LinkError::Tls { error, .. } => Some(error.kind()),
        _ => None,
    };
    assert_eq!(kind(&error), Some(io::ErrorKind::ConnectionReset), "{error}");
}

#[tokio::test]
async fn of_several_addresses_the_coordinators_own_is_found() {
    let key = key();
    let (own, fingerprint) = server(&["localhost"], &key).await;
    let (other, _) = server(&["localhost"], &KeyPair::generate().unwrap()).await;
    let (closed, _socket) = closed();
    // Accepts connections and sends nothing.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mute = url(&mute.local_addr().unwrap().to_string());
    let all = [url(&closed), mute, other.clone(), own.clone()];
    let (_, found) = connect_any(&all, fingerprint, &Proxies::none()).await.unwrap();
    assert_eq!(found, own);
    let error = connect_any(std::slice::from_ref(&other), fingerprint, &Proxies::none()).await.unwrap_err();
    assert!(matches!(&error, LinkError::OtherCoordinator { url, .. } if *url == other), "{error}");
}

#[tokio::test]
async fn no_server_and_no_tls_get_different_errors() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = url(&listener.local_addr().unwrap().to_string());
    let plain = tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        tcp.write_all(b"SSH-2.0-hello\r\n").await.unwrap();
    });
    let error = connect(&url, NONE, &Proxies::none()).await.unwrap_err();
    assert!(matches!(error, LinkError::Tls { .. }), "{error}");
    plain.await.unwrap();
    let error = connect(&url, NONE, &Proxies::none()).await.unwrap_err();
    assert!(matches!(error, LinkError::Unreachable { .. }), "{error}");
}

/// The proxy at this place, whatever the environment says.
fn by(place: &str) -> Proxies {
    Proxies::at(&format!("http://me:hunter2@{place}"), "")
}

#[tokio::test]
async fn a_proxy_leads_to_the_coordinator_and_resolves_its_name() {
    let (real, fingerprint, _) = crate::lab::server(&["x"], &key()).await;
    let (place, asked) = proxy("HTTP/1.1 200 OK\r\n\r\n", real).await;
    let url = url("coord.invalid:7443");
    let stream = connect(&url, fingerprint, &by(&place)).await.unwrap();
    assert_eq!(greeting(stream).await, "hello");
    let asked = asked.lock().unwrap();
    assert!(asked.len() == 1 && asked[0].starts_with("CONNECT coord.invalid:7443 HTTP/1.1\r\n"), "{asked:?}");
}

#[tokio::test]
async fn a_proxy_is_left_out_where_an_exception_says_so() {
    let (own, fingerprint) = server(&["x"], &key()).await;
    let (place, asked) = proxy("HTTP/1.1 403 no\r\n\r\n", String::new()).await;
    // The machine itself is always reached directly.
    connect(&own, fingerprint, &by(&place)).await.unwrap();
    let except = Proxies::at(&format!("http://{place}"), "coord.invalid");
    let error = connect(&url("coord.invalid"), fingerprint, &except).await.unwrap_err();
    assert!(matches!(error, LinkError::Unreachable { .. }), "{error}");
    assert!(asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_proxy_that_leads_nowhere_is_named_without_its_password() {
    let coordinator = url("coord.invalid");
    let (refusing, _) = proxy("HTTP/1.1 407 no\r\n\r\n", String::new()).await;
    let (gone, _socket) = closed();
    for (place, words, hint) in
        [(&refusing, "refuses the user or the password", "%40"), (&gone, "can't be reached", "agent.proxy")]
    {
        let error = connect(&coordinator, NONE, &by(place)).await.unwrap_err();
        let said = format!("{error} {error:?}");
        assert!(matches!(&error, LinkError::Proxy { cause, .. } if cause.hint().contains(hint)), "{said}");
        assert!(said.contains(words) && said.contains(place.as_str()) && said.contains("coord.invalid"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[tokio::test]
async fn behind_a_proxy_another_key_and_no_tls_are_told_as_such() {
    let coordinator = url("coord.invalid");
    let (real, ..) = crate::lab::server(&["x"], &key()).await;
    let (place, _) = proxy("HTTP/1.1 200 OK\r\n\r\n", real).await;
    let error = connect(&coordinator, NONE, &by(&place)).await.unwrap_err();
    assert!(error.to_string().contains("if that proxy opens TLS, it has to pass this host through"), "{error}");
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = plain.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut tcp, _) = plain.accept().await.unwrap();
        tcp.write_all(b"SSH-2.0-hello\r\n").await.unwrap();
    });
    let (place, _) = proxy("HTTP/1.1 200 OK\r\n\r\n", to).await;
    let error = connect(&coordinator, NONE, &by(&place)).await.unwrap_err();
    assert!(matches!(error, LinkError::Tls { .. }), "{error}");
    assert!(error.to_string().contains("behind the proxy"), "{error}");
}
