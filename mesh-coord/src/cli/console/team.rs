//! The coordinator's own console, for teams: by TLS, for browsers that sign in with an admin token. It can do what the
//! token allows, and no more.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Mutex,
};

use anyhow::{Context as _, Result};
use axum::Router;
use clap::Args;
use mesh_link::Url;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tracing::info;

use super::{
    desk::{Desk, Entry},
    gate,
};
use crate::{
    cli::numbers,
    http::server::{listen, serve},
    tls::{CertificateFiles, Identity, host_name},
};

/// The most connections of browsers at once.
const PLACES: usize = 512;

#[derive(Debug, Args)]
pub(in crate::cli) struct Team {
    /// Serve the console by HTTPS at this address too, to browsers that sign in with an admin token
    #[arg(long, value_name = "ADDR:PORT", value_parser = numbers::listen)]
    console: Option<SocketAddr>,
    /// The certificate of --console, and those of its issuers, as PEM; without it, it is the coordinator's own, of which
    /// browsers warn. SIGHUP reads it again
    #[arg(long, value_name = "FILE", requires_all = ["console", "tls_key"])]
    tls_cert: Option<PathBuf>,
    /// The key of --tls-cert, as PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

/// A console that listens and isn't served yet.
pub(in crate::cli) struct Open {
    listener: TcpListener,
    files: Option<CertificateFiles>,
}

impl Team {
    /// Listens, if it is asked for.
    ///
    /// # Errors
    /// If the address is in use, or a file can't be used.
    pub(in crate::cli) fn open(self) -> Result<Option<Open>> {
        let Some(at) = self.console else { return Ok(None) };
        let files = self.tls_cert.zip(self.tls_key);
        let files = files.map(|(certificate, key)| CertificateFiles::open(certificate, key)).transpose()?;
        let listener = listen(at, "--console")?;
        Ok(Some(Open { listener, files }))
    }
}

impl Open {
    /// Serves it until this is dropped. `names`: those by which browsers may call it, beside the certificate's and
    /// addresses.
    ///
    /// # Errors
    /// If SIGHUP can't be waited for.
    pub(in crate::cli) async fn serve(
        self,
        identity: &Identity,
        api: Router,
        names: Vec<String>,
    ) -> Result<Infallible> {
        let at = self.listener.local_addr().context("the listener of --console has no address")?;
        let mut hangup = signal(SignalKind::hangup()).context("SIGHUP cannot be waited for")?;
        let certified = self.files.as_ref().map(CertificateFiles::names);
        let is_own = move |host: &str| {
            is_address(host)
                || name_of(host).is_some_and(|name| {
                    names.iter().any(|own| own.eq_ignore_ascii_case(name))
                        || certified.as_ref().is_some_and(|certified| certified(name))
                })
        };
        let desk = Desk {
            sessions: Mutex::default(),
            entry: Entry::Token { api },
            // Browsers take it by TLS and for this host only (RFC 6265bis §4.1.3.2).
            cookie: format!("__Host-mesh-{}", at.port()),
            mesh: host_name().unwrap_or_default().into(),
            is_own: Box::new(is_own),
        };
        info!(address = %at, "the console is served");
        let tls =
            self.files.as_ref().map_or_else(|| identity.certificate.subscribe(), |files| files.current.subscribe());
        let renewal = async {
            match &self.files {
                Some(files) => files.follow(&mut hangup).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            never = serve(self.listener, tls, gate::router(desk), PLACES) => match never {},
            never = renewal => match never {},
        }
    }
}

/// The names of this machine, of its certificate, and of the URLs that others use.
pub(in crate::cli) fn names(given: &[String], advertised: &[Url]) -> Vec<String> {
    let urls = advertised.iter().filter_map(|url| name_of(&url.authority()).map(ToOwned::to_owned));
    ["localhost".to_owned()].into_iter().chain(host_name()).chain(given.iter().cloned()).chain(urls).collect()
}

/// Whether a `Host` is an address: no name leads there but the one that was typed.
fn is_address(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    host.parse::<SocketAddr>().is_ok() || bare.parse::<IpAddr>().is_ok()
}

/// The name in a `Host`.
fn name_of(host: &str) -> Option<&str> {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    Some(name.strip_suffix('.').unwrap_or(name)).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_apart() {
        for host in ["10.0.0.1", "10.0.0.1:8443", "[2001:db8::1]", "[2001:db8::1]:8443"] {
            assert!(is_address(host), "{host}");
        }
        for host in ["", "mesh", "mesh:8443", "10.0.0.1.evil.example", "10.0.0.1.evil.example:443"] {
            assert!(!is_address(host), "{host}");
        }
        assert_eq!((name_of("mesh.:8443"), name_of("mesh"), name_of(":1")), (Some("mesh"), Some("mesh"), None));
        let names = names(&["console.example".to_owned()], &["https://mesh.example:7443".parse().unwrap()]);
        assert!(
            ["localhost", "console.example", "mesh.example"].iter().all(|name| names.contains(&(*name).to_owned()))
        );
    }
}
