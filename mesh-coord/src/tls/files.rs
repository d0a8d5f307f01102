//! A certificate of an authority's, from files, for browsers.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use rustls::{
    ServerConfig,
    client::verify_server_name,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    server::ParsedCertificate,
};
use tokio::{signal::unix::Signal, sync::watch};
use tracing::{error, info};

/// A certificate with its key, as files have them.
#[derive(Debug)]
pub(crate) struct CertificateFiles {
    /// The certificate for new connections.
    pub(crate) current: watch::Sender<Arc<ServerConfig>>,
    leaf: watch::Sender<CertificateDer<'static>>,
    certificate: PathBuf,
    key: PathBuf,
}

impl CertificateFiles {
    /// Reads both.
    ///
    /// # Errors
    /// If one can't be read, or they don't belong together.
    pub(crate) fn open(certificate: PathBuf, key: PathBuf) -> Result<Self> {
        let (config, leaf) = read(&certificate, &key)?;
        Ok(Self { current: watch::Sender::new(config), leaf: watch::Sender::new(leaf), certificate, key })
    }

    /// At each signal, reads both again. If they can't be used, nothing changes.
    pub(crate) async fn follow(&self, hangup: &mut Signal) -> Infallible {
        while hangup.recv().await.is_some() {
            match read(&self.certificate, &self.key) {
                Ok((config, leaf)) => {
                    self.current.send_replace(config);
                    self.leaf.send_replace(leaf);
                    info!(file = %self.certificate.display(), "SIGHUP: the console's certificate was read again");
                }
                Err(error) => error!(error = format!("{error:#}"), "SIGHUP: the console's certificate stays as it is"),
            }
        }
        std::future::pending().await
    }

    /// Tells whether the current certificate is for a name.
    pub(crate) fn names(&self) -> impl Fn(&str) -> bool + Send + Sync + 'static {
        let leaf = self.leaf.subscribe();
        move |name| {
            let leaf = leaf.borrow();
            let parsed = ParsedCertificate::try_from(&*leaf).ok();
            parsed
                .zip(ServerName::try_from(name).ok())
                .is_some_and(|(leaf, name)| verify_server_name(&leaf, &name).is_ok())
        }
    }
}

fn read(certificate: &Path, key: &Path) -> Result<(Arc<ServerConfig>, CertificateDer<'static>)> {
    let unreadable = |file: &Path| format!("{} can't be read as PEM", file.display());
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.with_context(|| unreadable(certificate))?;
    let leaf = chain.first().cloned().with_context(|| format!("{} holds no certificate", certificate.display()))?;
    let private = PrivateKeyDer::from_pem_file(key).with_context(|| unreadable(key))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .with_context(|| format!("{} and {} can't be used together", certificate.display(), key.display()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((Arc::new(config), leaf))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::data::scratch::Scratch;

    #[test]
    fn the_files_belong_together_and_say_which_names_they_are_for() {
        let scratch = Scratch::new();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["mesh.example.com".to_owned()]).unwrap();
        let (certificate_file, key_file) = (scratch.path().join("c.pem"), scratch.path().join("k.pem"));
        fs::write(&certificate_file, params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(&key_file, key.serialize_pem()).unwrap();
        let names = CertificateFiles::open(certificate_file.clone(), key_file.clone()).unwrap().names();
        assert!(names("mesh.example.com") && !names("evil.example") && !names("") && !names("a b"));
        fs::write(&key_file, KeyPair::generate().unwrap().serialize_pem()).unwrap();
        let error = format!("{:#}", CertificateFiles::open(certificate_file.clone(), key_file.clone()).unwrap_err());
        assert!(error.contains("together"), "{error}");
        fs::write(&certificate_file, "").unwrap();
        let error = format!("{:#}", CertificateFiles::open(certificate_file, key_file).unwrap_err());
        assert!(error.contains("c.pem"), "{error}");
    }
}
