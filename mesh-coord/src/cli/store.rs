//! Where the records are: a database in the data directory, or an etcd.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use mesh_process::directory::is_open_to_others;
use zeroize::Zeroizing;

use crate::store::{Access, EtcdStore, Place, StoreError};

/// The largest file with certificates, a key or a password, in bytes.
const LARGEST: u64 = 1 << 20;

/// An etcd, and how it is reached.
#[derive(Debug, Args)]
pub(super) struct StoreArgs {
    /// Keep the records in an etcd, and not in the data directory
    #[arg(
        long,
        value_name = "etcd://HOST[:PORT][,HOST[:PORT]...]/PREFIX",
        env = "MESH_COORD_STORE",
        hide_env_values = true
    )]
    store: Option<Place>,
    #[command(flatten)]
    keys: EtcdArgs,
    /// Don't let etcd forget its history of more than ten minutes: other programs keep things there and need it
    #[arg(long, env = "MESH_COORD_ETCD_KEEP_HISTORY", hide_env_values = true)]
    etcd_keep_history: bool,
}

/// How an etcd is reached.
#[derive(Debug, Args)]
pub(super) struct EtcdArgs {
    /// The certificates (PEM) of those who sign etcd's; with them etcd is reached by TLS
    #[arg(long, value_name = "FILE", env = "MESH_COORD_ETCD_CA", hide_env_values = true)]
    etcd_ca: Option<PathBuf>,
    /// The coordinator's certificate for etcd (PEM)
    #[arg(long, value_name = "FILE", env = "MESH_COORD_ETCD_CERT", hide_env_values = true)]
    #[arg(requires = "etcd_key", requires = "etcd_ca")]
    etcd_cert: Option<PathBuf>,
    /// The key of that certificate (PEM)
    #[arg(long, value_name = "FILE", env = "MESH_COORD_ETCD_KEY", hide_env_values = true, requires = "etcd_cert")]
    etcd_key: Option<PathBuf>,
    /// A file with the coordinator's user of etcd, as USER:PASSWORD
    #[arg(long, value_name = "FILE", env = "MESH_COORD_ETCD_LOGIN", hide_env_values = true)]
    etcd_login: Option<PathBuf>,
}

impl StoreArgs {
    /// The etcd; `None` for the database in the data directory.
    ///
    /// # Errors
    /// If it can't be reached, or a file can't be read.
    pub(super) async fn open(&self) -> Result<Option<EtcdStore>> {
        let Some(place) = &self.store else { return Ok(None) };
        let store = self.keys.open(place).await?;
        Ok(Some(if self.etcd_keep_history { store } else { store.forgetting() }))
    }
}

impl EtcdArgs {
    /// The records in an etcd.
    ///
    /// # Errors
    /// If it can't be reached, or a file can't be read.
    pub(super) async fn open(&self, place: &Place) -> Result<EtcdStore> {
        EtcdStore::open(place, self.access()?).await.map_err(|error| at(place, &error))
    }

    fn access(&self) -> Result<Access> {
        let ca = self.etcd_ca.as_deref().map(read).transpose()?.map(|ca| ca.to_vec());
        let identity = match (&self.etcd_cert, &self.etcd_key) {
            (Some(certificate), Some(key)) => Some((read(certificate)?.to_vec(), secret(key)?)),
            _ => None,
        };
        let login = self.etcd_login.as_deref().map(login).transpose()?;
        Ok(Access { ca, identity, login })
    }
}

/// An error of the store there.
pub(super) fn at(place: &Place, error: &StoreError) -> anyhow::Error {
    match error {
        StoreError::Away => {
            anyhow::anyhow!(
                "{place}: no member of this etcd can be reached: is it running, and does it use TLS (--etcd-ca)?"
            )
        }
        error => anyhow::anyhow!("{place}: {}", error.with_hint()),
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let mut contents = Zeroizing::new(Vec::new());
    let file = fs::File::open(path).and_then(|file| file.take(LARGEST).read_to_end(&mut contents));
    file.with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(contents)
}

/// A file that no other user may read.
fn secret(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let metadata = fs::metadata(path).with_context(|| format!("{} cannot be read", path.display()))?;
    ensure!(!is_open_to_others(&metadata), "{} may be read by others: `chmod 600` it", path.display());
    read(path)
}

fn login(path: &Path) -> Result<(String, Zeroizing<String>)> {
    let contents = secret(path)?;
    let line = std::str::from_utf8(&contents).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error));
    let line = line.with_context(|| format!("{} is no text", path.display()))?.lines().next().unwrap_or_default();
    let (user, password) = line
        .split_once(':')
        .filter(|(user, _)| !user.is_empty())
        .with_context(|| format!("{} has no user: its first line has to be USER:PASSWORD", path.display()))?;
    Ok((user.to_owned(), Zeroizing::new(password.to_owned())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::data::scratch::Scratch;

    #[test]
    fn a_login_is_read_from_a_private_file_only() {
        let scratch = Scratch::new();
        let path = scratch.path().join("login");
        fs::write(&path, "mesh:a:b\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = login(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 600") && !error.contains("a:b"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let (user, password) = login(&path).unwrap();
        assert_eq!((user.as_str(), password.as_str()), ("mesh", "a:b"));
        fs::write(&path, "secret").unwrap();
        let error = login(&path).unwrap_err().to_string();
        assert!(error.contains("USER:PASSWORD") && !error.contains("secret"), "{error}");
    }
}
