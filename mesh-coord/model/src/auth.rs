//! Authenticates runners and administrators. Secrets are compared in constant time.

use std::sync::Arc;

use mesh_proto::{RunnerId, Secret, TokenId, token::Credential};

use crate::{
    Admin, Refusal, State, UnixSeconds, Via, limits,
    record::{Purpose, Runner, Token},
    refusal::{EnrolRefusal, TokenRefusal},
};

impl Refusal {
    /// The refusal of a token that is unknown or has another secret.
    #[must_use]
    pub fn unknown_token() -> Self {
        TokenRefusal::Unknown.into()
    }

    /// The same for a runner's credential.
    #[must_use]
    pub fn unknown_credential() -> Self {
        EnrolRefusal::UnknownCredential.into()
    }
}

impl State {
    /// The runner, if it is one still.
    pub(crate) fn standing(&self, id: RunnerId) -> Result<&Arc<Runner>, Refusal> {
        match self.runner(id) {
            Some(runner) if runner.removed.is_none() => Ok(runner),
            Some(runner) => Err(EnrolRefusal::Removed { runner: runner.name.clone() }.into()),
            None => Err(EnrolRefusal::UnknownCredential.into()),
        }
    }

    /// Whose credential this is.
    ///
    /// # Errors
    /// If no runner has it, or a removed one.
    pub fn authenticate_runner(&self, credential: &Credential) -> Result<RunnerId, Refusal> {
        match self.runner(credential.runner) {
            Some(runner) if runner.credential.matches(&credential.secret) => Ok(self.standing(runner.id)?.id),
            _ => Err(EnrolRefusal::UnknownCredential.into()),
        }
    }

    /// What the holder of an admin token may do.
    ///
    /// # Errors
    /// If it is no admin token of this coordinator's, or no longer good.
    pub fn authenticate_admin(&self, id: TokenId, secret: &Secret, now: UnixSeconds) -> Result<Admin, Refusal> {
        let token = self.token_shown(id, secret)?;
        let Purpose::Admin { team } = &token.purpose else { return Err(TokenRefusal::NotAdmin { token: id }.into()) };
        check_time(token, now)?;
        Ok(Admin { via: Via::Token(id), team: team.clone() })
    }

    /// The token that is shown, if its secret is right. Nothing is told of a token to those who don't hold it.
    pub(crate) fn token_shown(&self, id: TokenId, secret: &Secret) -> Result<&Token, TokenRefusal> {
        self.tokens.get(&id).map(AsRef::as_ref).filter(|t| t.secret.matches(secret)).ok_or(TokenRefusal::Unknown)
    }
}

/// Whether the token is good at this time.
pub(crate) fn check_time(token: &Token, now: UnixSeconds) -> Result<(), TokenRefusal> {
    check_revoked(token, now)?;
    // One that was made while the clock was years ahead must not be good for years.
    if now.plus(limits::TOKEN_EARLY) < token.created {
        return Err(TokenRefusal::Early { token: token.id, by: token.created.since(now) });
    }
    if now >= token.expires {
        return Err(TokenRefusal::Expired { token: token.id, ago: now.since(token.expires) });
    }
    Ok(())
}

/// Whether the token is not revoked.
pub(crate) fn check_revoked(token: &Token, now: UnixSeconds) -> Result<(), TokenRefusal> {
    match token.revoked {
        Some(at) => Err(TokenRefusal::Revoked { token: token.id, ago: now.since(at) }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
