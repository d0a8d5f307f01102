//! The hashes of all secrets. They are checked here, so that wrong secrets don't reach the writer.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use mesh_model::{Change, Key, Record, State, record::RelayKind};
use mesh_proto::{
    RelayId, RunnerId, Secret, SecretHash, TokenId,
    token::{Credential, RelayLogin},
};

use crate::tenant::Tenant;

/// The secrets of tokens and runners, including revoked and removed ones, whose holders learn why they are refused.
#[derive(Debug, Default)]
pub(crate) struct Keyring(RwLock<Secrets>);

#[derive(Debug, Default)]
struct Secrets {
    tokens: HashMap<TokenId, (SecretHash, Tenant)>,
    runners: HashMap<RunnerId, (SecretHash, Tenant)>,
    relays: HashMap<RelayId, SecretHash>,
}

impl Keyring {
    /// The account of a token's holder; `None` if the secret is unknown.
    pub(crate) fn token(&self, id: TokenId, secret: &Secret) -> Option<Tenant> {
        let secrets = self.0.read().unwrap_or_else(PoisonError::into_inner);
        secrets.tokens.get(&id).filter(|(hash, _)| hash.matches(secret)).map(|(_, tenant)| tenant.clone())
    }

    /// The account of the runner with this credential; `None` if the secret is unknown.
    pub(crate) fn runner(&self, credential: &Credential) -> Option<Tenant> {
        let secrets = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let known = secrets.runners.get(&credential.runner);
        known.filter(|(hash, _)| hash.matches(&credential.secret)).map(|(_, tenant)| tenant.clone())
    }

    /// The account of the relay with this credential; `None` if the secret is unknown.
    pub(crate) fn relay(&self, login: &RelayLogin) -> Option<Tenant> {
        let secrets = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let known = secrets.relays.get(&login.relay).filter(|hash| hash.matches(&login.secret));
        known.map(|_| Tenant::relay(login.relay))
    }

    /// Absorbs a commit.
    pub(super) fn absorb(&self, state: &State, changes: &[Change]) {
        if !changes.iter().any(|change| matches!(change.key(), Key::Token(_) | Key::Runner(_) | Key::Relay(_))) {
            return;
        }
        let mut secrets = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            match change {
                Change::Put(record) => secrets.take_in(state, record),
                Change::Delete(Key::Token(id)) => drop(secrets.tokens.remove(id)),
                Change::Delete(Key::Runner(id)) => drop(secrets.runners.remove(id)),
                Change::Delete(Key::Relay(id)) => drop(secrets.relays.remove(id)),
                Change::Delete(_) => {}
            }
        }
    }

    /// Replaces all secrets.
    pub(super) fn load(&self, state: &State) {
        let mut fresh = Secrets::default();
        state.records().for_each(|record| fresh.take_in(state, &record));
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = fresh;
    }
}

impl Secrets {
    fn take_in(&mut self, state: &State, record: &Record) {
        match record {
            Record::Token(token) => {
                self.tokens.insert(token.id, (token.secret.clone(), Tenant::token(state, token)));
            }
            Record::Runner(runner) => {
                self.runners.insert(runner.id, (runner.credential.clone(), Tenant::runner(state, runner)));
            }
            Record::Relay(relay) => {
                if let RelayKind::Own { credential, .. } = &relay.relay {
                    self.relays.insert(relay.id, credential.clone());
                }
            }
            _ => {}
        }
    }
}
