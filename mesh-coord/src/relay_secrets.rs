//! The secrets of the relays, in a file of their own (mode 0600). They can't be hashes, because runners' passwords are made
//! from them; so they are in neither the database nor its backups, the log, or any answer.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::PathBuf,
    sync::{PoisonError, RwLock},
};

use anyhow::{Context as _, Result};
use mesh_model::record::SecretHandle;
use mesh_process::directory;
use mesh_proto::relay::RelaySecret;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{data::DataDirectory, random};

/// The name of the file.
pub(crate) const FILE: &str = "relay-secrets.json";

/// The secrets, and their file.
#[derive(Debug, Default)]
pub(crate) struct RelaySecrets {
    /// `None` in tests.
    path: Option<PathBuf>,
    known: RwLock<BTreeMap<SecretHandle, RelaySecret>>,
}

/// The file. Its text is zeroed after use, and so are the secrets; what serde holds in between is not.
#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    secrets: BTreeMap<SecretHandle, String>,
}

impl RelaySecrets {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// If it can't be read.
    pub(crate) fn open(data: &DataDirectory) -> Result<Self> {
        let path = data.file(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { path: Some(path), known: RwLock::default() });
            }
            Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
        };
        let damaged = || {
            format!(
                "{} is damaged: restore it from a backup, or remove it, and then each relay (`mesh-coord relay remove`) \
                 and add them again",
                path.display()
            )
        };
        // The cause could contain a secret.
        let stored: Stored = serde_json::from_str(&text).ok().with_context(damaged)?;
        let parsed = stored.secrets.into_iter().map(|(handle, text)| {
            let text = Zeroizing::new(text);
            Some((handle, text.parse().ok()?))
        });
        let known = parsed.collect::<Option<_>>().with_context(damaged)?;
        Ok(Self { path: Some(path), known: RwLock::new(known) })
    }

    /// The secret, if it is there.
    pub(crate) fn get(&self, handle: SecretHandle) -> Option<RelaySecret> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(&handle).cloned()
    }

    /// Keeps a secret, and returns how it is found.
    ///
    /// # Errors
    /// If it can't be written. Then it isn't kept.
    pub(crate) fn keep(&self, secret: RelaySecret) -> Result<SecretHandle> {
        let handle = SecretHandle(random::number()?);
        self.keep_as(handle, secret)?;
        Ok(handle)
    }

    /// Keeps a secret that another coordinator has found so.
    ///
    /// # Errors
    /// If it can't be written. Then it isn't kept.
    pub(crate) fn keep_as(&self, handle: SecretHandle, secret: RelaySecret) -> Result<()> {
        self.change(|known| drop(known.insert(handle, secret)))
    }

    /// Forgets a secret. Without room on the disk it stays in the file, where nothing finds it.
    pub(crate) fn forget(&self, handle: SecretHandle) {
        if let Err(error) = self.change(|known| drop(known.remove(&handle))) {
            tracing::warn!(error = format!("{error:#}"), "a removed relay's secret could not be deleted");
        }
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<SecretHandle, RelaySecret>)) -> Result<()> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = known.clone();
        change(&mut next);
        if let Some(path) = &self.path {
            let secrets = next.iter().map(|(handle, secret)| (*handle, secret.expose().to_owned())).collect();
            let text = Zeroizing::new(serde_json::to_string(&Stored { version: 1, secrets })?);
            let new = path.with_extension("new");
            let written = directory::write_new(&new, |file| file.write_all(text.as_bytes()))
                .and_then(|()| directory::put_in_place(&new, path));
            written.with_context(|| format!("{} cannot be written", path.display()))?;
        }
        *known = next;
        Ok(())
    }
}

/// A new secret for an own relay: 256 random bits.
///
/// # Errors
/// If the system's generator fails.
pub(crate) fn draw() -> Result<RelaySecret> {
    let mut bytes = Zeroizing::new([0; 32]);
    random::fill(&mut *bytes)?;
    let text: Zeroizing<String> = Zeroizing::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect());
    Ok(text.parse()?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::data::scratch::Scratch;

    #[test]
    fn secrets_are_kept_across_a_restart_in_a_file_that_no_other_user_reads() {
        let scratch = Scratch::new();
        let data = DataDirectory::open(scratch.path()).unwrap();
        let secrets = RelaySecrets::open(&data).unwrap();
        let (north, south) = (draw().unwrap(), draw().unwrap());
        assert!(north != south && north.expose().len() == 64);
        let handles = [secrets.keep(north.clone()).unwrap(), secrets.keep(south).unwrap()];
        assert_eq!(fs::metadata(data.file(FILE)).unwrap().mode() & 0o777, 0o600);
        assert!(!format!("{secrets:?}").contains(north.expose()));
        secrets.forget(handles[1]);
        let again = RelaySecrets::open(&data).unwrap();
        assert_eq!((again.get(handles[0]), again.get(handles[1])), (Some(north.clone()), None));
        assert!(fs::read_to_string(data.file(FILE)).unwrap().contains(north.expose()));
    }

    #[test]
    fn a_damaged_file_is_told_without_what_is_in_it() {
        let scratch = Scratch::new();
        let data = DataDirectory::open(scratch.path()).unwrap();
        for text in [
            "",
            "north",
            r#"{"version":1,"secrets":{"0":"north"}}"#,
            r#"{"version":1,"secrets":{"0000000000000000":"no rth"}}"#,
        ] {
            fs::write(data.file(FILE), text).unwrap();
            let error = format!("{:#}", RelaySecrets::open(&data).unwrap_err());
            assert!(error.contains("is damaged: restore it") && !error.contains("rth"), "{error}");
        }
    }
}
