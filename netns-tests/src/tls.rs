//! TLS to servers of the test itself.

use std::{
    net::{IpAddr, TcpStream},
    sync::Arc,
};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring::default_provider},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// TLS that takes any server for the right one: a test trusts the server that it has started.
///
/// # Panics
/// If the cryptographic provider lacks TLS's usual versions.
#[must_use]
pub fn trusting() -> ClientConfig {
    let provider = Arc::new(default_provider());
    let verifier = Arc::new(AnyServer(Arc::clone(&provider)));
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth()
}

/// TLS over a connection that stands.
pub(crate) fn tls(tcp: TcpStream, to: IpAddr, alpn: Option<&[u8]>) -> StreamOwned<ClientConnection, TcpStream> {
    let mut config = trusting();
    config.alpn_protocols.extend(alpn.map(<[u8]>::to_vec));
    let tls = ClientConnection::new(Arc::new(config), ServerName::from(to)).expect("TLS");
    StreamOwned::new(tls, tcp)
}

#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
