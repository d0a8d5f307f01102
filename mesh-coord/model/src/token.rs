//! Tokens: creation, revocation, and what their scopes cover.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mesh_proto::{Label, SecretHash, TokenId};

use crate::{
    Admin, Decision, Key, NewPurpose, NewToken, Now, Outcome, Record, Refusal, State,
    audit::Note,
    draft::Draft,
    limits,
    record::{Deployment, Purpose, Scope, Token},
    refusal::{TokenRefusal, at_most},
    relay, share,
    words::{list, quoted},
    work,
};

/// Creates a token.
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
    forget_dead(&mut draft, None);
    check_places(state, by, now)?;
    if let Some(name) = &new.name {
        check_name(name)?;
    }
    let mut warnings = Vec::new();
    let purpose = purpose(state, by, new, &mut warnings)?;
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
        name: new.name.clone(),
        team: by.team.clone(),
    };
    let (id, expires) = (token.id, token.expires);
    let called = token.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    let detail = format!("{id}{called}: {}", state.purpose_in_words(&token.purpose));
    draft.audit(Note::admin(state, by, "token-create", detail).of(token.owner()).on(id));
    draft.put(Record::Token(Arc::new(token)));
    Ok(draft.decided(Outcome::TokenCreated { token: id, expires, warnings }))
}

/// Revokes a token, and with `with_nodes` removes the runners that it enrolled. A second time doesn't change the
/// token.
pub(crate) fn revoke(state: &State, by: &Admin, id: TokenId, with_nodes: bool, now: Now) -> Result<Decision, Refusal> {
    let known = state.tokens.get(&id);
    let own = |token: &&Arc<Token>| by.team.as_ref().is_none_or(|team| state.token_within(&token.purpose, team));
    let token = known.filter(own).ok_or(TokenRefusal::NoToken { token: id })?;
    let mut draft = Draft::new(state, now);
    if token.revoked.is_none() {
        draft.put(Record::Token(Arc::new(Token { revoked: Some(now.day), ..(**token).clone() })));
        forget_dead(&mut draft, Some(id));
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
        let called = token.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        let detail = format!("{id}{called}{runners}");
        draft.audit(Note::admin(state, by, "token-revoke", detail).of(token.owner()).on(id));
    }
    Ok(draft.decided(Outcome::TokenRevoked { token: id, removed, standing }))
}

impl State {
    /// The runners that a token enrolled, without removed ones.
    pub(crate) fn enrolled_by(&self, token: TokenId) -> impl Iterator<Item = &Arc<crate::record::Runner>> {
        self.index.enrolled_by.get(&token).into_iter().flatten().filter_map(|id| self.runner(*id))
    }

    /// The token's name for people.
    #[must_use]
    pub fn token_name(&self, id: TokenId) -> Option<&str> {
        self.tokens.get(&id)?.name.as_deref()
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

    /// Whether all that a token allows belongs to `team`.
    pub(crate) fn token_within(&self, purpose: &Purpose, team: &Label) -> bool {
        match purpose {
            Purpose::Join { scope, .. } => self.scope_covers(&Scope::Teams([team.clone()].into()), scope),
            Purpose::Admin { team: other } | Purpose::Role { team: other, .. } => other.as_ref() == Some(team),
            Purpose::Relay { .. } => false,
        }
    }

    /// The scope in words.
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

    /// The purpose in words.
    pub(crate) fn purpose_in_words(&self, purpose: &Purpose) -> String {
        match purpose {
            Purpose::Join { scope, ephemeral, .. } => {
                format!("join, {}{}", self.scope_in_words(scope), if *ephemeral { ", ephemeral" } else { "" })
            }
            Purpose::Admin { team: Some(team) } => format!("admin, team {team}"),
            Purpose::Admin { team: None } => "admin".to_owned(),
            Purpose::Role { role, team: Some(team) } => format!("admin, {role}, team {team}"),
            Purpose::Role { role, team: None } => format!("admin, {role}"),
            Purpose::Relay { name, .. } => format!("relay {name}"),
        }
    }
}

fn purpose(state: &State, by: &Admin, new: &NewToken, warnings: &mut Vec<String>) -> Result<Purpose, Refusal> {
    let (scope, uses) = match &new.purpose {
        NewPurpose::Admin { team } => {
            warn_of_unknown_teams(state, team.iter(), warnings);
            return Ok(Purpose::Admin { team: team.clone() });
        }
        NewPurpose::Role { role, team } => {
            warn_of_unknown_teams(state, team.iter(), warnings);
            return Ok(Purpose::Role { role: *role, team: team.clone() });
        }
        NewPurpose::Relay { name } => {
            relay::check_new(state, name)?;
            return Ok(Purpose::Relay { name: name.clone(), used: false });
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
                deployments.iter().map(|name| Ok(state.own_deployment(by, name)?.id)).collect();
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

/// A team exists only as a label, so an unknown one is not refused.
fn warn_of_unknown_teams<'a>(state: &State, teams: impl IntoIterator<Item = &'a Label>, warnings: &mut Vec<String>) {
    for team in teams {
        if !state.index.deployments_of.contains_key(team) {
            warnings.push(format!("team `{team}` has no deployment yet"));
        }
    }
}

/// The name is shown to people, in tables and in the audit.
fn check_name(name: &str) -> Result<(), TokenRefusal> {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let fits = (1..=limits::TOKEN_NAME).contains(&name.len());
    if fits && !name.chars().any(|c| c.is_control() || turns(c)) { Ok(()) } else { Err(TokenRefusal::Name) }
}

/// Checks that one more token may be created. Revoked, expired and used-up tokens don't count.
fn check_places(state: &State, by: &Admin, now: Now) -> Result<(), Refusal> {
    let good = || state.tokens.values().filter(|token| !is_dead(token, now));
    let all = good().count();
    at_most(limits::TOKENS, all + 1, "tokens", "the coordinator")?;
    match &by.team {
        Some(team) => {
            let held = good().filter(|token| token.owner() == Some(team)).count();
            share::check("tokens", team, (held, 1), (all, limits::TOKENS))
        }
        None => Ok(()),
    }
}

/// Whether a token is no longer valid for anything.
fn is_dead(token: &Token, now: Now) -> bool {
    let used_up = matches!(token.purpose, Purpose::Join { uses_left: 0, .. } | Purpose::Relay { used: true, .. });
    used_up || token.revoked.is_some() || now.day >= token.expires
}

/// Deletes tokens that have been invalid for long. If there are too many invalid ones without runners, it deletes the
/// oldest of the team that has most. `dying` is revoked by this decision.
fn forget_dead(draft: &mut Draft<'_>, dying: Option<TokenId>) {
    let (state, now) = (draft.state, draft.now);
    let mut dead: BTreeMap<Option<&Label>, Vec<TokenId>> = BTreeMap::new();
    for token in state.tokens.values() {
        if now.day.since(token.expires) > limits::DEAD_TOKEN {
            draft.delete(Key::Token(token.id));
        } else if (is_dead(token, now) || dying == Some(token.id)) && !state.index.enrolled_by.contains_key(&token.id) {
            dead.entry(token.owner()).or_default().push(token.id);
        }
    }
    let surplus = dead.values().map(Vec::len).sum::<usize>().saturating_sub(limits::DEAD_TOKENS);
    dead.values_mut().for_each(|ids| ids.reverse());
    for _ in 0..surplus {
        let Some(most) = dead.values_mut().max_by_key(|ids| ids.len()) else { return };
        most.pop().into_iter().for_each(|id| draft.delete(Key::Token(id)));
    }
}

#[cfg(test)]
mod tests;
