//! TLS to one coordinator, identified by its key, without certificate authorities, host names or clocks.

use std::{io, net::SocketAddr, sync::Arc};

use mesh_proto::token::Fingerprint;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    Url, proxy,
    race::{self, Failed, Why, race},
};

/// A connection to the coordinator.
pub type Stream = TlsStream<TcpStream>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The coordinator doesn't answer.
    #[error("cannot reach the coordinator at {url}: {error}{remark}")]
    Unreachable {
        /// The URLs that were tried.
        url: String,
        /// The system's error; if there are several addresses, one for each.
        error: io::Error,
        /// Another possible reason; empty if none is known.
        remark: String,
    },
    /// There is no address to connect to.
    #[error("cannot reach the coordinator: {error}")]
    NoUrl {
        /// Why there is none.
        error: io::Error,
    },
    /// Another server answers than the coordinator of the token or identity.
    #[error("the server at {url} is not the coordinator that is meant: its key has another fingerprint")]
    OtherCoordinator {
        /// Its URL.
        url: Url,
    },
    /// A server answers that doesn't speak TLS as we do.
    #[error("no TLS connection with {url}: {error}")]
    Tls {
        /// Its URL.
        url: Url,
        /// The error.
        error: io::Error,
    },
}

/// The fingerprint of a certificate's key: SHA-256 of its SubjectPublicKeyInfo.
///
/// # Errors
/// If this is not an X.509 certificate.
pub fn fingerprint_of(certificate: &CertificateDer<'_>) -> Result<Fingerprint, Error> {
    let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
    Ok(Fingerprint(Sha256::digest(&key).into()))
}

/// Connects to the coordinator with this fingerprint at `url`, and to no other server.
///
/// # Errors
/// If it doesn't answer, or another server does.
pub async fn connect(url: &Url, fingerprint: Fingerprint) -> Result<Stream, LinkError> {
    connect_any(std::slice::from_ref(url), fingerprint).await.map(|(stream, _)| stream)
}

/// The same with several URLs, earlier ones preferred. Also returns the URL that worked.
///
/// # Errors
/// If it answers at none of them.
pub async fn connect_any(urls: &[Url], fingerprint: Fingerprint) -> Result<(Stream, Url), LinkError> {
    let none = || io::Error::new(io::ErrorKind::InvalidInput, "no URL is known");
    let at = |url: usize| urls.get(url).or_else(|| urls.first());
    let Some(first) = urls.first() else { return Err(LinkError::NoUrl { error: none() }) };
    let connector = connector(fingerprint).map_err(|error| LinkError::Tls { url: first.clone(), error })?;
    let attempt = |url: usize, address| {
        let (connector, url) = (connector.clone(), at(url).cloned());
        async move { attempt(connector, url, address).await }
    };
    race(urls, attempt).await.map(|(stream, url)| (stream, at(url).unwrap_or(first).clone())).map_err(|failures| {
        let place = |failed: &Failed<AttemptError>| at(failed.url).unwrap_or(first).clone();
        let is_other = |failed: &&Failed<_>| matches!(failed.why, Why::Attempt(AttemptError::Other));
        let spoke = |failed: &&Failed<_>| matches!(failed.why, Why::Attempt(AttemptError::Tls(_)));
        // A server's answer is the most informative failure.
        if let Some(other) = failures.iter().find(is_other) {
            return LinkError::OtherCoordinator { url: place(other) };
        }
        let error = io::Error::other(race::words(&failures));
        if let Some(tls) = failures.iter().find(spoke) {
            return LinkError::Tls { url: place(tls), error };
        }
        let remark = proxy::remark(first);
        LinkError::Unreachable { url: shown(urls), error, remark }
    })
}

fn shown(urls: &[Url]) -> String {
    urls.iter().map(Url::to_string).collect::<Vec<_>>().join(", ")
}

fn connector(fingerprint: Fingerprint) -> io::Result<TlsConnector> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pin { fingerprint, provider }))
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Why an address failed.
#[derive(Debug, thiserror::Error)]
enum AttemptError {
    #[error(transparent)]
    Tcp(io::Error),
    #[error(transparent)]
    Tls(io::Error),
    #[error("another coordinator answers")]
    Other,
}

async fn attempt(connector: TlsConnector, url: Option<Url>, address: SocketAddr) -> Result<Stream, AttemptError> {
    let host = url.map(|url| url.host().to_owned()).unwrap_or_default();
    let name =
        ServerName::try_from(host).map_err(|e| AttemptError::Tcp(io::Error::new(io::ErrorKind::InvalidInput, e)))?;
    let tcp = TcpStream::connect(address).await.map_err(AttemptError::Tcp)?;
    // Messages are small, and their senders wait for answers.
    tcp.set_nodelay(true).map_err(AttemptError::Tcp)?;
    connector.connect(name, tcp).await.map_err(|source| {
        match source.get_ref().and_then(|e| e.downcast_ref::<Error>()) {
            Some(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)) => AttemptError::Other,
            _ => AttemptError::Tls(source),
        }
    })
}

/// Trusts a certificate whose key has this fingerprint.
#[derive(Debug)]
struct Pin {
    fingerprint: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if fingerprint_of(end_entity)? == self.fingerprint {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use rustls::{
        ServerConfig,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    };
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// A server with its own key and certificate that greets clients that trust it.
    async fn server(names: &[&str], key: &KeyPair) -> (Url, Fingerprint) {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let certificate = CertificateParams::new(names).unwrap().self_signed(key).unwrap();
        let fingerprint = fingerprint_of(certificate.der()).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(config));
            while let Ok((tcp, _)) = listener.accept().await {
                if let Ok(mut tls) = acceptor.accept(tcp).await {
                    let _ = tls.write_all(b"hello").await;
                    let _ = tls.shutdown().await;
                }
            }
        });
        (url, fingerprint)
    }

    #[tokio::test]
    async fn the_key_is_trusted_whatever_the_certificate_says() {
        let key = KeyPair::generate().unwrap();
        let (url, fingerprint) = server(&["somewhere.else"], &key).await;
        let (_, same_key_other_name) = server(&["another.name"], &key).await;
        assert_eq!(fingerprint, same_key_other_name);
        let mut greeting = String::new();
        connect(&url, fingerprint).await.unwrap().read_to_string(&mut greeting).await.unwrap();
        assert_eq!(greeting, "hello");
    }

    #[tokio::test]
    async fn another_key_is_another_coordinator() {
        let (url, _) = server(&["localhost"], &KeyPair::generate().unwrap()).await;
        let error = connect(&url, Fingerprint([0; 32])).await.unwrap_err();
        assert!(matches!(error, LinkError::OtherCoordinator { .. }), "{error}");
    }

    #[tokio::test]
    async fn of_several_addresses_the_coordinators_own_is_found() {
        let key = KeyPair::generate().unwrap();
        let (url, fingerprint) = server(&["localhost"], &key).await;
        let (other, _) = server(&["localhost"], &KeyPair::generate().unwrap()).await;
        // Bound but not listening, so that connections are refused as long as it exists.
        let closed = tokio::net::TcpSocket::new_v4().unwrap();
        closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let closed: Url = format!("https://{}", closed.local_addr().unwrap()).parse().unwrap();
        // Accepts connections and sends nothing.
        let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mute: Url = format!("https://{}", mute.local_addr().unwrap()).parse().unwrap();
        let (_, found) = connect_any(&[closed, mute, other.clone(), url.clone()], fingerprint).await.unwrap();
        assert_eq!(found, url);
        let error = connect_any(std::slice::from_ref(&other), fingerprint).await.unwrap_err();
        assert!(matches!(&error, LinkError::OtherCoordinator { url } if *url == other), "{error}");
    }

    #[tokio::test]
    async fn no_server_and_no_tls_get_different_errors() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: Url = format!("https://{}", listener.local_addr().unwrap()).parse().unwrap();
        let plain = tokio::spawn(async move {
            let (mut tcp, _) = listener.accept().await.unwrap();
            tcp.write_all(b"SSH-2.0-hello\r\n").await.unwrap();
        });
        let error = connect(&url, Fingerprint([0; 32])).await.unwrap_err();
        assert!(matches!(error, LinkError::Tls { .. }), "{error}");
        plain.await.unwrap();
        let error = connect(&url, Fingerprint([0; 32])).await.unwrap_err();
        assert!(matches!(error, LinkError::Unreachable { .. }), "{error}");
    }
}
