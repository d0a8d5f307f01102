//! The coordinator's own key and certificate. Whoever joins knows the key by its fingerprint, from the token; so the
//! certificate needs no authority, never expires, and is made anew at each start from the key that stays.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use mesh_proto::token::Fingerprint;
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use zeroize::Zeroizing;

use crate::data::DataDirectory;

const KEY_FILE: &str = "tls-key.pem";

/// What the coordinator shows whoever connects.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// SHA-256 of the certificate's SubjectPublicKeyInfo: the same as long as the key's file is.
    pub(crate) fingerprint: Fingerprint,
    /// For the listener.
    pub(crate) config: Arc<ServerConfig>,
}

impl Identity {
    /// Reads the key, or makes it at the first start, and certifies it for `names` besides the machine's own.
    ///
    /// # Errors
    /// If the key can't be read or made, or a name can't stand in a certificate.
    pub(crate) fn open(data: &DataDirectory, names: &[String]) -> Result<Self> {
        let pem = data.secret(KEY_FILE, || {
            let key = KeyPair::generate().context("a key for TLS cannot be made")?;
            Ok(Zeroizing::new(key.serialize_pem()))
        })?;
        let damaged = || format!("{} is damaged: restore it from a backup", data.file(KEY_FILE).display());
        let key = KeyPair::from_pem(&pem).with_context(damaged)?;
        let mut subjects = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        subjects.extend(nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()));
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
            .and_then(|builder| {
                builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], private)
            })
            .with_context(damaged)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let fingerprint = mesh_link::fingerprint_of(certificate.der()).with_context(damaged)?;
        Ok(Self { fingerprint, config: Arc::new(config) })
    }
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
        let first = Identity::open(&data, &[]).unwrap();
        let named = Identity::open(&data, &["mesh.example.com".to_owned(), "192.0.2.7".to_owned()]).unwrap();
        assert_eq!(first.fingerprint, named.fingerprint);
        assert_eq!(fs::metadata(data.file(KEY_FILE)).unwrap().mode() & 0o777, 0o600);
        let other = Scratch::new();
        let other = Identity::open(&DataDirectory::open(other.path()).unwrap(), &[]).unwrap();
        assert_ne!(first.fingerprint, other.fingerprint);
    }

    #[test]
    fn a_damaged_key_and_an_impossible_name_are_named() {
        let scratch = Scratch::new();
        let data = DataDirectory::open(scratch.path()).unwrap();
        let error = format!("{:#}", Identity::open(&data, &["pas une adresse é".to_owned()]).unwrap_err());
        assert!(error.contains("--name"), "{error}");
        fs::write(data.file(KEY_FILE), "rubbish").unwrap();
        let error = format!("{:#}", Identity::open(&data, &[]).unwrap_err());
        assert!(error.contains(KEY_FILE) && error.contains("damaged"), "{error}");
    }
}
