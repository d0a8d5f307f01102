//! TLS to one coordinator, known by its key: no certificate authority, no host name, no clock takes part.

use std::{io, sync::Arc, time::Duration};

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

use crate::Url;

/// A connection to the coordinator.
pub type Stream = TlsStream<TcpStream>;

/// How long a connection, TLS included, may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Nobody answers there.
    #[error("cannot reach the coordinator at {url}: {source}")]
    Unreachable {
        /// Where.
        url: Url,
        /// The system's word for it.
        source: io::Error,
    },
    /// Somebody answers, and it is not the coordinator that the token or identity names.
    #[error("whoever answers at {url} is not the coordinator that is meant: its key has another fingerprint")]
    OtherCoordinator {
        /// Where.
        url: Url,
    },
    /// Somebody answers, and does not speak TLS as we do.
    #[error("no TLS connection with {url}: {source}")]
    Tls {
        /// Where.
        url: Url,
        /// What was wrong.
        source: io::Error,
    },
}

/// The fingerprint of a certificate's key: SHA-256 of its SubjectPublicKeyInfo.
///
/// # Errors
/// If this is no X.509 certificate.
pub fn fingerprint_of(certificate: &CertificateDer<'_>) -> Result<Fingerprint, Error> {
    let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
    Ok(Fingerprint(Sha256::digest(&key).into()))
}

/// Connects to the coordinator at `url` whose key has `fingerprint`, and to no other.
///
/// # Errors
/// If it isn't there, or is another one.
pub async fn connect(url: &Url, fingerprint: Fingerprint) -> Result<Stream, LinkError> {
    let unreachable = |source| LinkError::Unreachable { url: url.clone(), source };
    let tls_error = |source| LinkError::Tls { url: url.clone(), source };
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| tls_error(io::Error::other(e)))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pin { fingerprint, provider }))
        .with_no_client_auth();
    let name = ServerName::try_from(url.host().to_owned())
        .map_err(|e| unreachable(io::Error::new(io::ErrorKind::InvalidInput, e)))?;
    let up = async {
        let tcp = TcpStream::connect((url.host(), url.port())).await.map_err(unreachable)?;
        // Messages are small and wait for each other.
        tcp.set_nodelay(true).map_err(unreachable)?;
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(|source| {
            match source.get_ref().and_then(|e| e.downcast_ref::<Error>()) {
                Some(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)) => {
                    LinkError::OtherCoordinator { url: url.clone() }
                }
                _ => tls_error(source),
            }
        })
    };
    tokio::time::timeout(CONNECT_TIMEOUT, up).await.unwrap_or_else(|_| Err(unreachable(io::ErrorKind::TimedOut.into())))
}

/// Trusts the certificate that holds the key with this fingerprint.
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

    /// A server with a key and certificate of its own that greets whoever trusts it.
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
    async fn nobody_there_and_no_tls_there_are_told_apart() {
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
