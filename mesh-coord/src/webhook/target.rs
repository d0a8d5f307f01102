//! The receiver's URL, and one POST to it. Redirects are not followed: they would carry what is sent to a place that
//! the operator has not named.

use std::{path::Path, str::FromStr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail};
use axum::{
    body::{Body, Bytes},
    http::{Request, Uri, header},
};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// How long one try may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Where systems keep the certificates of authorities.
const AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// A receiver's URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    host: String,
    port: u16,
    path: String,
    tls: bool,
}

/// A text that is no receiver's URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected https://HOST/PATH, or http://HOST:PORT/PATH on a network of yours, without a user")]
pub(crate) struct ParseAddressError;

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        let uri: Uri = text.parse().map_err(|_| ParseAddressError)?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(ParseAddressError),
        };
        let authority =
            uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or(ParseAddressError)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        if host.is_empty() {
            return Err(ParseAddressError);
        }
        Ok(Self { host, port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }), path, tls })
    }
}

impl Address {
    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// A receiver.
#[derive(Debug)]
pub(crate) struct Target {
    address: Address,
    tls: Option<Arc<ClientConfig>>,
}

impl Target {
    /// The receiver at this address. It shows a certificate of an authority of the system, or of the file.
    ///
    /// # Errors
    /// If no certificate of an authority can be read.
    pub(crate) fn new(address: Address, authorities: Option<&Path>) -> Result<Self> {
        let tls = if address.tls { Some(Arc::new(config(authorities)?)) } else { None };
        Ok(Self { address, tls })
    }

    /// One try.
    ///
    /// # Errors
    /// Why the message has not arrived.
    pub(super) async fn post(&self, headers: [(&'static str, String); 3], body: Bytes) -> Result<(), String> {
        let mut request = Request::post(&self.address.path)
            .header(header::HOST, self.address.authority())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("mesh-coord/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Body::from(body)).map_err(|error| error.to_string())?;
        match timeout(PATIENCE, self.exchange(request)).await {
            Ok(Ok(status)) if status.is_success() => Ok(()),
            Ok(Ok(status)) if status.is_redirection() => {
                Err(format!("it answers {status}, and redirects are not followed"))
            }
            Ok(Ok(status)) => Err(format!("it answers {status}")),
            Ok(Err(error)) => Err(format!("{error:#}")),
            Err(_) => Err(format!("it doesn't answer within {} s", PATIENCE.as_secs())),
        }
    }

    async fn exchange(&self, request: Request<Body>) -> Result<axum::http::StatusCode> {
        let Address { host, port, .. } = &self.address;
        let tcp = TcpStream::connect((host.as_str(), *port)).await.context("it can't be reached")?;
        match &self.tls {
            None => send(tcp, request).await,
            Some(config) => {
                let name =
                    ServerName::try_from(host.clone()).context("its name is none that a certificate can have")?;
                let tls = TlsConnector::from(Arc::clone(config)).connect(name, tcp).await.context("no TLS")?;
                send(tls, request).await
            }
        }
    }
}

async fn send(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Body>,
) -> Result<axum::http::StatusCode> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.context("no HTTP")?;
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request).await;
    connection.abort();
    Ok(answer.context("no HTTP")?.status())
}

fn config(authorities: Option<&Path>) -> Result<ClientConfig> {
    let found = AUTHORITIES.into_iter().map(Path::new).find(|path| path.exists());
    let path = authorities.or(found).ok_or_else(|| {
        anyhow!("this system has no certificates of authorities: install ca-certificates, or give --webhook-ca")
    })?;
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path);
    let certificates = certificates.map_err(|error| anyhow!("{}: {error}", path.display()))?;
    roots.add_parsable_certificates(certificates.filter_map(Result::ok));
    if roots.is_empty() {
        bail!("{} holds no certificate of an authority: give another --webhook-ca", path.display());
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().context("TLS cannot be used")?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_has_a_url_without_secrets() {
        let address = |text: &str| text.parse::<Address>().map(|a| (a.authority(), a.path, a.tls));
        let good = |authority: &str, path: &str, tls| Ok((authority.to_owned(), path.to_owned(), tls));
        assert_eq!(address("https://example.com"), good("example.com:443", "/", true));
        assert_eq!(address("http://[::1]:8080/hook?x=1"), good("[::1]:8080", "/hook?x=1", false));
        for bad in ["", "example.com", "ftp://example.com/", "https://user:secret@example.com/", "https:///x"] {
            assert_eq!(address(bad), Err(ParseAddressError), "{bad}");
        }
    }
}
