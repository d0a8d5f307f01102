//! `--proxy`.

use std::{convert::Infallible, fs, os::unix::fs::MetadataExt as _, path::Path};

use mesh_link::ProxyChoice;

use super::error::ProxyArgumentError;
use crate::{
    agent::{Flags, Identity},
    config,
};

/// A proxy as it was typed: it may hold a password, and appears in no error.
#[derive(Debug, Clone)]
pub(super) struct ProxyArgument(Result<ProxyChoice, ProxyArgumentError>);

impl ProxyArgument {
    pub(super) fn parse(text: &str) -> Result<Self, Infallible> {
        let choice = text.parse::<ProxyChoice>().map_err(ProxyArgumentError::Form);
        Ok(Self(choice.and_then(|choice| match choice {
            // Every user of the machine can read arguments.
            with if with.has_credentials() => Err(ProxyArgumentError::Credentials),
            // The next agent may start elsewhere.
            ProxyChoice::File(path) => Ok(ProxyChoice::File(std::path::absolute(&path).unwrap_or(path))),
            other => Ok(other),
        })))
    }

    /// The choice, unless there is something wrong with it.
    pub(super) fn choice(&self) -> Result<ProxyChoice, ProxyArgumentError> {
        self.0.clone()
    }
}

/// Files with a proxy's password are their owner's, as those with tokens and keys are.
pub(super) fn warn_of_open(configuration: &Path, file: &config::Agent, flags: &Flags, remembered: &Identity) {
    let choices = [flags.proxy.as_ref(), file.proxy.as_ref(), remembered.proxy.as_ref()];
    let own = file.proxy.as_ref().filter(|choice| choice.has_credentials()).map(|_| configuration);
    let named = choices.into_iter().flatten().find_map(|choice| match choice {
        ProxyChoice::File(path) => Some(path.as_path()),
        ProxyChoice::Auto | ProxyChoice::None | ProxyChoice::At(_) => None,
    });
    for path in [own, named].into_iter().flatten() {
        if fs::metadata(path).is_ok_and(|found| found.mode() & 0o007 != 0) {
            tracing::warn!("{} may hold a proxy's password, and every user can read it: chmod 600", path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_among_the_arguments_is_refused_and_not_shown() {
        let choice = |text: &str| ProxyArgument::parse(text).unwrap().choice();
        assert_eq!(choice("http://p:1").unwrap().to_string(), "http://p:1");
        assert!(matches!(choice("@proxy").unwrap(), ProxyChoice::File(path) if path.is_absolute()));
        assert_eq!(choice("none").unwrap(), ProxyChoice::None);
        let argument = ProxyArgument::parse("http://me:hunter2@p:1").unwrap();
        let error = argument.choice().unwrap_err();
        assert!(!format!("{argument:?} {error}").contains("hunter2"), "{error}");
        assert!(error.to_string().contains("every user"), "{error}");
        assert!(choice("socks5://p").unwrap_err().to_string().contains("SOCKS"));
    }
}
