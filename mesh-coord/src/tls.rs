//! The coordinator's key and certificate. Tokens contain the fingerprint of the key, so the certificate needs no
//! authority and never expires. It is made anew from the key at each start and at SIGHUP.

mod files;

use std::{
    convert::Infallible,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, ensure};
use mesh_proto::token::Fingerprint;
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{signal::unix::Signal, sync::watch};
use tracing::{error, info};
use zeroize::Zeroizing;

use crate::data::{self, DataDirectory};

pub(crate) use files::CertificateFiles;

const KEY_FILE: &str = data::TLS_KEY;

/// The coordinator's TLS identity.
#[derive(Debug)]
pub(crate) struct Identity {
    /// SHA-256 of the certificate's SubjectPublicKeyInfo. It stays the same as long as the key.
    pub(crate) fingerprint: Fingerprint,
    /// The certificate for new connections.
    pub(crate) certificate: watch::Sender<Arc<ServerConfig>>,
    key_file: PathBuf,
    names: Vec<String>,
}

impl Identity {
    /// Reads the key, or makes it at the first start, and certifies it for `names` and the machine's own names.
    ///
    /// # Errors
    /// If the key can't be read or made, or a name doesn't fit a certificate.
    pub(crate) fn open(data: &DataDirectory, names: Vec<String>) -> Result<Self> {
        let pem = data.secret(KEY_FILE, || {
            let key = KeyPair::generate().context("a key for TLS cannot be made")?;
            Ok(Zeroizing::new(key.serialize_pem()))
        })?;
        let key_file = data.file(KEY_FILE);
        let (fingerprint, config) = certify(&pem, &key_file, &names)?;
        Ok(Self { fingerprint, certificate: watch::Sender::new(config), key_file, names })
    }

    /// At each signal, reads the key again and makes a certificate for the machine's current names. Open connections
    /// stay. If the new certificate can't be used, nothing changes.
    pub(crate) async fn follow(&self, hangup: &mut Signal) -> Infallible {
        while hangup.recv().await.is_some() {
            match self.renew() {
                Ok(()) => {
                    info!(file = %self.key_file.display(), "SIGHUP: the certificate was made anew; nothing ended")
                }
                Err(error) => {
                    error!(error = format!("{error:#}"), "SIGHUP: the certificate stays as it is; nothing ended");
                }
            }
        }
        std::future::pending().await
    }

    fn renew(&self) -> Result<()> {
        let shown = self.key_file.display();
        let pem = fs::read_to_string(&self.key_file).map(Zeroizing::new);
        let pem = pem.with_context(|| format!("{shown} cannot be read: restore it from a backup"))?;
        let (fingerprint, config) = certify(&pem, &self.key_file, &self.names)?;
        ensure!(
            fingerprint == self.fingerprint,
            "{shown} holds another key (fingerprint {fingerprint}, not {}), which no runner and no token knows: put the \
             old one back",
            self.fingerprint
        );
        self.certificate.send_replace(config);
        Ok(())
    }
}

/// This machine's name.
pub(crate) fn host_name() -> Option<String> {
    nix::unistd::gethostname().ok()?.into_string().ok()
}

/// The certificate for this key.
fn certify(pem: &str, key_file: &Path, names: &[String]) -> Result<(Fingerprint, Arc<ServerConfig>)> {
    let damaged = || format!("{} is damaged: restore it from a backup", key_file.display());
    let key = KeyPair::from_pem(pem).with_context(damaged)?;
    let mut subjects = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    subjects.extend(host_name());
    subjects.retain(|name| CertificateParams::new([name.clone()]).is_ok());
    subjects.extend_from_slice(names);
    subjects.sort();
    subjects.dedup();
    let mut params = CertificateParams::new(subjects).context("a --name is neither a host name nor an address")?;
    params.distinguished_name.push(DnType::CommonName, "mesh coordinator");
    let certificate = params.self_signed(&key).context("the certificate cannot be made")?;
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], private))
        .with_context(damaged)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let fingerprint = mesh_link::fingerprint_of(certificate.der()).with_context(damaged)?;
    Ok((fingerprint, Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt as _};

    use super::*;
    use crate::data::scratch::Scratch;

    #[test]
    fn the_fingerprint_stays_when_names_are_added() {
        let scratch = Scratch::new();
        let data = DataDirectory::open(scratch.path()).unwrap();
        let first = Identity::open(&data, vec![]).unwrap();
        let named = Identity::open(&data, vec!["mesh.example.com".to_owned(), "192.0.2.7".to_owned()]).unwrap();
        assert_eq!(first.fingerprint, named.fingerprint);
        assert_eq!(fs::metadata(data.file(KEY_FILE)).unwrap().mode() & 0o777, 0o600);
        let other = Scratch::new();
        let other = Identity::open(&DataDirectory::open(other.path()).unwrap(), vec![]).unwrap();
        assert_ne!(first.fingerprint, other.fingerprint);
    }

    #[test]
    fn the_certificate_is_made_anew_for_the_same_key_only() {
        let scratch = Scratch::new();
        let data = DataDirectory::open(scratch.path()).unwrap();
        let identity = Identity::open(&data, vec![]).unwrap();
        let shown = || Arc::clone(&identity.certificate.borrow());
        let first = shown();
        identity.renew().unwrap();
        let second = shown();
        assert!(!Arc::ptr_eq(&first, &second));
        fs::write(data.file(KEY_FILE), KeyPair::generate().unwrap().serialize_pem()).unwrap();
        let error = identity.renew().unwrap_err().to_string();
        assert!(error.contains("another key") && Arc::ptr_eq(&second, &shown()), "{error}");
        fs::write(data.file(KEY_FILE), "rubbish").unwrap();
        assert!(identity.renew().is_err() && Arc::ptr_eq(&second, &shown()));
    }

    #[test]
    fn a_damaged_key_and_an_impossible_name_are_named() {
        let scratch = Scratch::new();
        let data = DataDirectory::open(scratch.path()).unwrap();
        let error = format!("{:#}", Identity::open(&data, vec!["pas une adresse é".to_owned()]).unwrap_err());
        assert!(error.contains("--name"), "{error}");
        fs::write(data.file(KEY_FILE), "rubbish").unwrap();
        let error = format!("{:#}", Identity::open(&data, vec![]).unwrap_err());
        assert!(error.contains(KEY_FILE) && error.contains("damaged"), "{error}");
    }
}
