//! Authentication of runners and administrators. Secrets are compared in constant time.

use std::sync::Arc;

use mesh_proto::{
    RelayId, RunnerId, Secret, TokenId,
    token::{Credential, RelayLogin},
};

use crate::{
    Admin, Refusal, Role, State, UnixSeconds, Via, limits,
    record::{Purpose, RelayKind, Runner, Token},
    refusal::{EnrolRefusal, RelayRefusal, TokenRefusal},
};

impl Refusal {
    /// An unknown token, or one with another secret.
    #[must_use]
    pub fn unknown_token() -> Self {
        TokenRefusal::Unknown.into()
    }

    /// An unknown relay's credential, or one with another secret.
    #[must_use]
    pub fn unknown_relay() -> Self {
        RelayRefusal::UnknownCredential.into()
    }

    /// An unknown runner's credential, or one with another secret.
    #[must_use]
    pub fn unknown_credential() -> Self {
        EnrolRefusal::UnknownCredential.into()
    }
}

impl State {
    /// The runner, unless it is unknown or removed.
    pub(crate) fn active_runner(&self, id: RunnerId) -> Result<&Arc<Runner>, Refusal> {
        match self.runner(id) {
            Some(runner) if runner.removed.is_none() => Ok(runner),
            Some(runner) => Err(EnrolRefusal::Removed { runner: runner.name.clone() }.into()),
            None => Err(EnrolRefusal::UnknownCredential.into()),
        }
    }

    /// The runner that has this credential.
    ///
    /// # Errors
    /// If no runner has it, or the runner was removed.
    pub fn authenticate_runner(&self, credential: &Credential) -> Result<RunnerId, Refusal> {
        match self.runner(credential.runner) {
            Some(runner) if runner.credential.matches(&credential.secret) => Ok(self.active_runner(runner.id)?.id),
            _ => Err(EnrolRefusal::UnknownCredential.into()),
        }
    }

    /// The rights of an admin token.
    ///
    /// # Errors
    /// If this coordinator has no such admin token, or the token is not valid now.
    pub fn authenticate_admin(&self, id: TokenId, secret: &Secret, now: UnixSeconds) -> Result<Admin, Refusal> {
        let token = self.token_shown(id, secret)?;
        let (team, role) = match &token.purpose {
            Purpose::Admin { team } => (team, Role::Admin),
            Purpose::Role { role, team } => (team, *role),
            other => return Err(TokenRefusal::NotAdmin { token: id, is: purpose_word(other) }.into()),
        };
        check_time(token, now)?;
        Ok(Admin { via: Via::Token(id), team: team.clone(), role })
    }

    /// Whether an administrator that was authenticated before still is one.
    #[must_use]
    pub fn is_still(&self, by: &Admin, now: UnixSeconds) -> bool {
        match by.via {
            Via::Socket { .. } => true,
            Via::Token(id) => self.tokens.get(&id).is_some_and(|token| check_time(token, now).is_ok()),
        }
    }

    /// The relay that has this credential.
    ///
    /// # Errors
    /// If no relay has it, as after it was removed.
    pub fn authenticate_relay(&self, login: &RelayLogin) -> Result<RelayId, Refusal> {
        let known = self.relays.get(&login.relay).filter(|relay| match &relay.relay {
            RelayKind::Own { credential, .. } => credential.matches(&login.secret),
            RelayKind::Turn => false,
        });
        known.map(|relay| relay.id).ok_or_else(Refusal::unknown_relay)
    }

    /// The token, if the secret is right. A wrong secret reveals nothing about the token.
    pub(crate) fn token_shown(&self, id: TokenId, secret: &Secret) -> Result<&Token, TokenRefusal> {
        self.tokens.get(&id).map(AsRef::as_ref).filter(|t| t.secret.matches(secret)).ok_or(TokenRefusal::Unknown)
    }
}

/// What kind of token it is.
pub(crate) const fn purpose_word(purpose: &Purpose) -> &'static str {
    match purpose {
        Purpose::Join { .. } => "a join token",
        Purpose::Admin { .. } | Purpose::Role { .. } => "an admin token",
        Purpose::Relay { .. } => "a relay token",
    }
}

/// Checks that the token is valid at this time.
pub(crate) fn check_time(token: &Token, now: UnixSeconds) -> Result<(), TokenRefusal> {
    check_revoked(token, now)?;
    // A token made while the clock was years ahead must not stay valid for years.
    if now.plus(limits::TOKEN_EARLY) < token.created {
        return Err(TokenRefusal::Early { token: token.id, by: token.created.since(now) });
    }
    if now >= token.expires {
        return Err(TokenRefusal::Expired { token: token.id, ago: now.since(token.expires) });
    }
    Ok(())
}

/// Checks that the token is not revoked.
pub(crate) fn check_revoked(token: &Token, now: UnixSeconds) -> Result<(), TokenRefusal> {
    match token.revoked {
        Some(at) => Err(TokenRefusal::Revoked { token: token.id, ago: now.since(at) }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
