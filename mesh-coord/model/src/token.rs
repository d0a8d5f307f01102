//! Tokens: made, revoked, and what their scopes cover.

use std::{collections::BTreeSet, sync::Arc};

use mesh_proto::{Label, SecretHash, TokenId};

use crate::{
    Admin, Class, Decision, Key, NewPurpose, NewToken, Now, Outcome, Record, Refusal, State,
    draft::Draft,
    limits,
    record::{Deployment, Purpose, Scope, Token},
    refusal::at_most,
    words::{duration, list, quoted},
    work,
};

/// What is refused about tokens.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// Not one of ours, or with another secret.
    #[error("this coordinator has no such token")]
    Unknown,
    /// It is too old.
    #[error("the token {token} expired {} ago", duration(*.ago))]
    Expired {
        /// Which.
        token: TokenId,
        /// Since when, in seconds.
        ago: u64,
    },
    /// It is of a time that is still to come.
    #[error(
        "the token {token} was made at a time that is {} from now: the coordinator's clock was wrong then, or is now",
        duration(*.by)
    )]
    Early {
        /// Which.
        token: TokenId,
        /// By how much, in seconds.
        by: u64,
    },
    /// It has enrolled all the runners that it may.
    #[error("the token {token} is used up: it has enrolled as many runners as it may")]
    UsedUp {
        /// Which.
        token: TokenId,
    },
    /// It was revoked.
    #[error("the token {token} was revoked {} ago", duration(*.ago))]
    Revoked {
        /// Which.
        token: TokenId,
        /// Since when, in seconds.
        ago: u64,
    },
    /// An admin token where a join token should be.
    #[error("the token {token} is an admin token: it enrols no runner")]
    NotJoin {
        /// Which.
        token: TokenId,
    },
    /// A join token where an admin token should be.
    #[error("the token {token} is a join token: it gives no right to administer")]
    NotAdmin {
        /// Which.
        token: TokenId,
    },
    /// There is none of this identifier to revoke.
    #[error("there is no token {token}")]
    NoToken {
        /// What was asked for.
        token: TokenId,
    },
    /// A time to live out of bounds.
    #[error("a token can be good for 1 second to 10 years, not for {ttl} seconds")]
    Ttl {
        /// What was asked for, in seconds.
        ttl: u64,
    },
    /// A number of uses out of bounds.
    #[error("a token can enrol 1 to {} runners, not {uses}", limits::USES.end())]
    Uses {
        /// What was asked for.
        uses: u32,
    },
    /// A scope with nothing in it.
    #[error("a join token needs a scope: this one would be good for nothing")]
    NoScope,
}

impl TokenRefusal {
    pub(crate) fn class(&self) -> Class {
        match self {
            Self::Unknown | Self::Expired { .. } | Self::Early { .. } | Self::UsedUp { .. } | Self::Revoked { .. } => {
                Class::Unauthorised
            }
            Self::NotJoin { .. } | Self::NotAdmin { .. } => Class::Forbidden,
            Self::NoToken { .. } => Class::NotFound,
            Self::Ttl { .. } | Self::Uses { .. } | Self::NoScope => Class::Invalid,
        }
    }

    pub(crate) fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Unknown => {
                "check that it is this coordinator's and was copied whole, or ask its operator for a new one"
            }
            Self::Early { .. } => {
                "set the coordinator's clock right, or ask its operator for a new one (`mesh-coord token create`)"
            }
            Self::Expired { .. } | Self::UsedUp { .. } | Self::Revoked { .. } => {
                "ask the coordinator's operator for a new one (`mesh-coord token create`)"
            }
            Self::NotJoin { .. } => {
                "make a join token with `mesh-coord token create --team T`, `--deployment D` or `--any`"
            }
            Self::NotAdmin { .. } => "make an admin token with `mesh-coord token create --admin`",
            Self::NoToken { .. } => "`mesh-coord token list` shows them",
            Self::Ttl { .. } => "give another --ttl, as in `--ttl 1h`",
            Self::Uses { .. } => "give another --uses",
            Self::NoScope => "give --team, --deployment or --any",
        };
        Some(hint.to_owned())
    }
}

/// Makes a token.
pub(crate) fn create(
    state: &State,
    by: &Admin,
    new: &NewToken,
    secret: &SecretHash,
    now: Now,
) -> Result<Decision, Refusal> {
    if !limits::TTL.contains(&new.ttl) {
        return Err(TokenRefusal::Ttl { ttl: new.ttl }.into());
    }
    let mut draft = Draft::new(state, now);
    let forgotten = forget_dead(&mut draft);
    at_most(limits::TOKENS, state.tokens.len() - forgotten + 1, "tokens", "the coordinator")?;
    let mut warnings = Vec::new();
    let purpose = purpose(state, new, &mut warnings)?;
    if let Some(team) = by.team.as_ref().filter(|team| !state.token_within(&purpose, team)) {
        return Err(Refusal::NotYours { what: "what such a token would allow".to_owned(), team: team.clone() });
    }

    let token = Token {
        id: draft.token_id(),
        secret: secret.clone(),
        created: now.day,
        expires: now.day.plus(new.ttl),
        revoked: None,
        purpose,
    };
    let (id, expires) = (token.id, token.expires);
    draft.audit(by.via, "token-create", format!("{id}: {}", state.purpose_in_words(&token.purpose)));
    draft.put(Record::Token(Arc::new(token)));
    Ok(draft.decided(Outcome::TokenCreated { token: id, expires, warnings }))
}

/// Revokes a token, and with `with_nodes` the runners that it enrolled. A second time changes nothing about the token.
pub(crate) fn revoke(state: &State, by: &Admin, id: TokenId, with_nodes: bool, now: Now) -> Result<Decision, Refusal> {
    let token = state.tokens.get(&id).ok_or(TokenRefusal::NoToken { token: id })?;
    if let Some(team) = by.team.as_ref().filter(|team| !state.token_within(&token.purpose, team)) {
        return Err(Refusal::NotYours { what: format!("the token {id}"), team: team.clone() });
    }
    let mut draft = Draft::new(state, now);
    if token.revoked.is_none() {
        draft.put(Record::Token(Arc::new(Token { revoked: Some(now.day), ..(**token).clone() })));
    }
    let enrolled: Vec<_> = state.enrolled_by(id).collect();
    let names = enrolled.iter().map(|r| r.name.clone()).collect();
    let (removed, standing) = if with_nodes { (names, Vec::new()) } else { (Vec::new(), names) };
    if with_nodes {
        for runner in enrolled {
            draft.remove_runner(runner);
        }
    }
    if !draft.is_empty() {
        let runners =
            if removed.is_empty() { String::new() } else { format!(", with {}", list(removed.iter().map(quoted))) };
        draft.audit(by.via, "token-revoke", format!("{id}{runners}"));
    }
    Ok(draft.decided(Outcome::TokenRevoked { token: id, removed, standing }))
}

impl State {
    /// The runners that a token enrolled and that are not removed.
    pub(crate) fn enrolled_by(&self, token: TokenId) -> impl Iterator<Item = &Arc<crate::record::Runner>> {
        self.index.enrolled_by.get(&token).into_iter().flatten().filter_map(|id| self.runner(*id))
    }

    /// Whether a runner with this scope may host the deployment.
    pub(crate) fn scope_holds(scope: &Scope, deployment: &Deployment) -> bool {
        work::step();
        match scope {
            Scope::Any => true,
            Scope::Teams(teams) => teams.contains(&deployment.team),
            Scope::Deployments(ids) => ids.contains(&deployment.id),
        }
    }

    /// Whether `wide` allows everything that `narrow` allows.
    pub(crate) fn scope_covers(&self, wide: &Scope, narrow: &Scope) -> bool {
        match (wide, narrow) {
            (Scope::Any, _) => true,
            (_, Scope::Any) | (Scope::Deployments(_), Scope::Teams(_)) => false,
            (Scope::Teams(wide), Scope::Teams(narrow)) => narrow.is_subset(wide),
            (Scope::Deployments(wide), Scope::Deployments(narrow)) => narrow.is_subset(wide),
            (Scope::Teams(wide), Scope::Deployments(narrow)) => {
                narrow.iter().all(|id| self.deployments.get(id).is_some_and(|d| wide.contains(&d.record.team)))
            }
        }
    }

    /// Whether what a token is good for is all `team`'s.
    pub(crate) fn token_within(&self, purpose: &Purpose, team: &Label) -> bool {
        match purpose {
            Purpose::Join { scope, .. } => self.scope_covers(&Scope::Teams([team.clone()].into()), scope),
            Purpose::Admin { team: other } => other.as_ref() == Some(team),
        }
    }

    /// What may be hosted, in words.
    pub(crate) fn scope_in_words(&self, scope: &Scope) -> String {
        match scope {
            Scope::Any => "any deployment".to_owned(),
            Scope::Teams(teams) if teams.len() == 1 => format!("team {}", list(teams)),
            Scope::Teams(teams) => format!("teams {}", list(teams)),
            Scope::Deployments(ids) => {
                let names = ids.iter().map(|id| match self.deployments.get(id) {
                    Some(entry) => entry.record.name.to_string(),
                    None => format!("{id} (deleted)"),
                });
                format!("{} {}", if ids.len() == 1 { "deployment" } else { "deployments" }, list(names))
            }
        }
    }

    /// What a token is good for, in words.
    pub(crate) fn purpose_in_words(&self, purpose: &Purpose) -> String {
        match purpose {
            Purpose::Join { scope, ephemeral, .. } => {
                format!("join, {}{}", self.scope_in_words(scope), if *ephemeral { ", ephemeral" } else { "" })
            }
            Purpose::Admin { team: Some(team) } => format!("admin, team {team}"),
            Purpose::Admin { team: None } => "admin".to_owned(),
        }
    }
}

fn purpose(state: &State, new: &NewToken, warnings: &mut Vec<String>) -> Result<Purpose, Refusal> {
    let (scope, uses) = match &new.purpose {
        NewPurpose::Admin { team } => {
            warn_of_unknown_teams(state, team.iter(), warnings);
            return Ok(Purpose::Admin { team: team.clone() });
        }
        NewPurpose::JoinAny { uses } => (Scope::Any, *uses),
        NewPurpose::JoinTeams { teams, uses } => {
            at_most(limits::SCOPE, teams.len(), "teams", "the token's scope")?;
            warn_of_unknown_teams(state, teams, warnings);
            (Scope::Teams(teams.clone()), *uses)
        }
        NewPurpose::JoinDeployments { deployments, uses } => {
            at_most(limits::SCOPE, deployments.len(), "deployments", "the token's scope")?;
            let ids: Result<BTreeSet<_>, Refusal> =
                deployments.iter().map(|name| Ok(state.known_deployment(name)?.id)).collect();
            (Scope::Deployments(ids?), *uses)
        }
    };
    let empty = match &scope {
        Scope::Any => false,
        Scope::Teams(teams) => teams.is_empty(),
        Scope::Deployments(ids) => ids.is_empty(),
    };
    if empty {
        return Err(TokenRefusal::NoScope.into());
    }
    if !limits::USES.contains(&uses) {
        return Err(TokenRefusal::Uses { uses }.into());
    }
    Ok(Purpose::Join { scope, uses_left: uses, ephemeral: new.ephemeral })
}

/// A team is only a label, so a mistyped one can't be refused.
fn warn_of_unknown_teams<'a>(state: &State, teams: impl IntoIterator<Item = &'a Label>, warnings: &mut Vec<String>) {
    for team in teams {
        if !state.index.deployments_of.contains_key(team) {
            warnings.push(format!("team `{team}` has no deployment yet"));
        }
    }
}

/// Forgets tokens that have been good for nothing for long. How many.
fn forget_dead(draft: &mut Draft<'_>) -> usize {
    let dead: Vec<_> = draft
        .state
        .tokens
        .values()
        .filter(|t| draft.now.day.since(t.expires) > limits::DEAD_TOKEN)
        .map(|t| t.id)
        .collect();
    for id in &dead {
        draft.delete(Key::Token(*id));
    }
    dead.len()
}

#[cfg(test)]
mod tests;
