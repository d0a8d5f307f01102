//! Servers for tests.

use std::sync::{Arc, Mutex};

use mesh_proto::token::Fingerprint;
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use crate::fingerprint_of;

/// What a TLS server has seen of its clients: the name (SNI) and the protocol (ALPN).
pub(crate) type Seen = Arc<Mutex<Vec<(Option<String>, Option<Vec<u8>>)>>>;

/// A server's configuration with this key and a certificate, and the fingerprint.
pub(crate) fn tls(names: &[&str], key: &KeyPair) -> (Arc<ServerConfig>, Fingerprint) {
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let certificate = CertificateParams::new(names).unwrap().self_signed(key).unwrap();
    let fingerprint = fingerprint_of(certificate.der()).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"stun.turn".to_vec()];
    (Arc::new(config), fingerprint)
}

/// A server with its own key and certificate that greets clients that trust it.
pub(crate) async fn server(names: &[&str], key: &KeyPair) -> (String, Fingerprint, Seen) {
    let (config, fingerprint) = tls(names, key);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap().to_string();
    let seen = Seen::default();
    let noted = Arc::clone(&seen);
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(config);
        while let Ok((tcp, _)) = listener.accept().await {
            if let Ok(mut tls) = acceptor.accept(tcp).await {
                let session = tls.get_ref().1;
                let client = (session.server_name().map(str::to_owned), session.alpn_protocol().map(<[u8]>::to_vec));
                noted.lock().unwrap().push(client);
                let _ = tls.write_all(b"hello").await;
                let _ = tls.shutdown().await;
            }
        }
    });
    (place, fingerprint, seen)
}

/// What a proxy was asked for: the lines of the requests.
pub(crate) type Asked = Arc<Mutex<Vec<String>>>;

/// A proxy that answers every CONNECT with `answer`, and after 200 leads to `to`, whatever was asked for.
pub(crate) async fn proxy(answer: &'static str, to: String) -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap().to_string();
    let asked = Asked::default();
    let noted = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                head.push(char::from(tcp.read_u8().await.unwrap()));
            }
            noted.lock().unwrap().push(head);
            tcp.write_all(answer.as_bytes()).await.unwrap();
            if answer.contains(" 200 ") {
                let mut onward = TcpStream::connect(&to).await.unwrap();
                tokio::spawn(async move { copy_bidirectional(&mut tcp, &mut onward).await });
            }
        }
    });
    (place, asked)
}

/// A place that refuses connections as long as what is returned with it exists.
pub(crate) fn closed() -> (String, tokio::net::TcpSocket) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    // Bound, but not listening.
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    (socket.local_addr().unwrap().to_string(), socket)
}
