//! Enrolment and removal of runners.

use std::{collections::BTreeSet, sync::Arc};

use mesh_proto::{Abilities, Label, RunnerId, message::Switches};

use crate::{
    Admin, Decision, Enrolment, Now, Outcome, Record, Refusal, State,
    audit::Note,
    auth::{check_revoked, check_time, purpose_word},
    draft::Draft,
    limits,
    record::{By, Instance, Outside, Purpose, Runner, Scope, Token},
    refusal::{EnrolRefusal, TokenRefusal, at_most},
    share,
    state::ENROL,
    words::{Candidates, count},
};

/// Makes a machine a runner. A known runner stays the same one and gets a new credential. With the token that it
/// enrolled with, this uses the token up no further, so a lost answer does no harm.
pub(crate) fn enrol(state: &State, request: &Enrolment, now: Now) -> Result<Decision, Refusal> {
    let token = state.token_shown(request.token, &request.secret)?;
    let Purpose::Join { scope, uses_left, ephemeral } = &token.purpose else {
        return Err(TokenRefusal::NotJoin { token: token.id, is: purpose_word(&token.purpose) }.into());
    };
    check_revoked(token, now.day)?;
    if !request.proved {
        return Err(EnrolRefusal::NotProved.into());
    }
    let known = state.index.runner_keys.get(&request.public_key).and_then(|id| state.runner(*id));
    if let Some(runner) = known.filter(|r| r.removed.is_some()) {
        return Err(EnrolRefusal::KeyRemoved { runner: runner.name.clone() }.into());
    }

    let mut draft = Draft::new(state, now);
    if known.is_none_or(|runner| runner.token != token.id) {
        check_time(token, now.day)?;
        let uses_left = uses_left.checked_sub(1).ok_or(TokenRefusal::UsedUp { token: token.id })?;
        let purpose = Purpose::Join { scope: scope.clone(), uses_left, ephemeral: *ephemeral };
        draft.put(Record::Token(Arc::new(Token { purpose, ..token.clone() })));
    }
    let replaced = replace(&mut draft, request, scope, known.map(|r| r.id))?;
    let before = match known {
        Some(runner) => {
            draft.end_instances(state.instances_on(runner.id).filter(|i| !state.may_run(scope, i)));
            (**runner).clone()
        }
        None => new_runner(&mut draft, request, token.owner())?,
    };
    let runner = Runner {
        name: request.name.clone(),
        provider: request.provider.clone(),
        credential: request.credential.clone(),
        token: token.id,
        scope: scope.clone(),
        ephemeral: *ephemeral,
        team: token.owner().cloned(),
        ..before
    };
    let outcome = Outcome::Enrolled { runner: runner.id, new: known.is_none(), replaced };
    note_enrolment(&mut draft, &runner, token, known.is_some(), replaced);
    draft.put(Record::Runner(Arc::new(runner)));
    Ok(draft.decided(outcome))
}

/// A runner that has never had a stream, if there is room for one more.
fn new_runner(draft: &mut Draft<'_>, request: &Enrolment, team: Option<&Label>) -> Result<Runner, Refusal> {
    let state = draft.state;
    let runners = state.index.runner_names.len();
    at_most(limits::RUNNERS, runners + 1, "runners", "the mesh")?;
    if let Some(team) = team {
        let held = state.index.runners_of.get(team).map_or(0, BTreeSet::len);
        share::check("runners", team, (held, 1), (runners, limits::RUNNERS))?;
    }
    Ok(Runner {
        id: draft.runner_id(),
        name: request.name.clone(),
        provider: request.provider.clone(),
        public_key: request.public_key,
        credential: request.credential.clone(),
        enrolled: draft.now.day,
        token: request.token,
        scope: Scope::Deployments(BTreeSet::new()),
        version: String::new(),
        endpoints: Vec::new(),
        seen: None,
        removed: None,
        ephemeral: false,
        silent: false,
        can: Abilities::NONE,
        switches: Switches::default(),
        team: None,
        drained: false,
        undrained: BTreeSet::new(),
        drained_apart: BTreeSet::new(),
        outside: Outside::default(),
    })
}

/// Notes an enrolment. Repeated ones are noted only a few times an hour.
fn note_enrolment(draft: &mut Draft<'_>, runner: &Runner, token: &Token, again: bool, replaced: Option<RunnerId>) {
    let noted = || draft.state.recent_of(runner, draft.now).filter(|e| e.action == ENROL).count();
    if again && replaced.is_none() && noted() >= limits::ENROLMENTS_NOTED {
        return;
    }
    let how = if again { ", again" } else { "" };
    let instead = replaced.map(|old| format!(", in the place of {old}")).unwrap_or_default();
    let detail = format!("{} `{}` (provider {}){how}{instead}", runner.id, runner.name, runner.provider);
    let mut note = Note::runner(By::Token(token.id), runner, ENROL, detail).on(&runner.name);
    note.named(token.name.as_ref());
    draft.audit(note);
}

/// Removes a runner for good.
pub(crate) fn remove(state: &State, by: &Admin, name: &Label, force: bool, now: Now) -> Result<Decision, Refusal> {
    let runner = state.ruled_runner(by, name)?;
    if !force && state.number_on(runner.id) > 0 {
        let described = |i: &Arc<Instance>| {
            let (deployment, service) = state.home(i)?;
            Some((i.id, format!("{}/{}", deployment.name, service.name)))
        };
        let instances = state.instances_on(runner.id).filter_map(described).collect();
        return Err(EnrolRefusal::Hosting { name: name.clone(), instances }.into());
    }
    let mut draft = Draft::new(state, now);
    let instances = draft.remove_runner(runner);
    let detail = format!("{} `{name}` with {}", runner.id, count(instances.len(), "instance"));
    draft.audit(Note::admin(state, by, "node-remove", detail).of(runner.owner()).on(name));
    let mut warnings = Vec::new();
    if let Some(token) = state.tokens.get(&runner.token)
        && let Purpose::Join { uses_left: 1.., .. } = token.purpose
        && check_time(token, now.day).is_ok()
    {
        warnings
            .push(format!("its token {0} can enrol more runners: `mesh-coord token revoke {0}` ends that", token.id));
    }
    Ok(draft.decided(Outcome::NodeRemoved { runner: runner.id, instances, warnings }))
}

/// A runner leaves for good.
pub(crate) fn leave(state: &State, runner: &Arc<Runner>, now: Now) -> Decision {
    let mut draft = Draft::new(state, now);
    let instances = draft.remove_runner(runner);
    let detail = format!("{} `{}`", runner.id, runner.name);
    draft.audit(Note::runner(By::Runner(runner.id), runner, "node-leave", detail).on(&runner.name));
    draft.decided(Outcome::Left { instances })
}

/// A runner was silent for long. An ephemeral runner is removed.
pub(crate) fn expire(state: &State, runner: &Arc<Runner>, now: Now) -> Decision {
    let mut draft = Draft::new(state, now);
    if runner.ephemeral {
        draft.remove_runner(runner);
        let detail = format!("{} `{}`, ephemeral, was not heard for {} s", runner.id, runner.name, limits::EPHEMERAL);
        draft.audit(Note::runner(By::Coordinator, runner, "node-expire", detail).on(&runner.name));
    }
    draft.decided(Outcome::Noted)
}

impl State {
    /// The runner with this name that is not removed, if the administrator may change it.
    pub(crate) fn ruled_runner(&self, by: &Admin, name: &Label) -> Result<&Arc<Runner>, Refusal> {
        let Some(runner) = self.runner_named(name) else {
            return Err(self.no_runner(by, name));
        };
        match &by.team {
            Some(team) if !self.scope_covers(&Scope::Teams([team.clone()].into()), &runner.scope) => {
                // A team learns nothing of runners that it doesn't see.
                if self.sees(by, runner) {
                    return Err(Refusal::NotYours { what: format!("the runner `{name}`"), team: team.clone() });
                }
                Err(self.no_runner(by, name))
            }
            _ => Ok(runner),
        }
    }

    fn no_runner(&self, by: &Admin, name: &Label) -> Refusal {
        let standing = self.index.runner_names.values().filter_map(|id| self.runner(*id));
        let nearest = match &by.team {
            None => Candidates::of(name, standing.map(|runner| &*runner.name)),
            Some(team) => {
                let own = self.index.runners_of.get(team).into_iter().flatten().filter_map(|id| self.runner(*id));
                Candidates::of(name, own.filter(|runner| self.sees(by, runner)).map(|runner| &*runner.name))
            }
        };
        EnrolRefusal::NoRunner { name: name.clone(), team: by.team.clone(), nearest }.into()
    }
}

/// Frees the name. Returns the runner that had it, which is removed.
fn replace(
    draft: &mut Draft<'_>,
    request: &Enrolment,
    scope: &Scope,
    own: Option<RunnerId>,
) -> Result<Option<RunnerId>, Refusal> {
    let state = draft.state;
    let Some(other) = state.runner_named(&request.name).filter(|other| Some(other.id) != own) else { return Ok(None) };
    if !request.replace {
        let provider = Some(&other.provider).filter(|_| state.scope_covers(scope, &other.scope)).cloned();
        return Err(EnrolRefusal::NameTaken { name: request.name.clone(), provider }.into());
    }
    // Without this, a token for one deployment could remove another team's runner.
    if !state.scope_covers(scope, &other.scope) {
        return Err(EnrolRefusal::ReplaceOutOfScope { token: request.token, name: request.name.clone() }.into());
    }
    draft.remove_runner(other);
    Ok(Some(other.id))
}

#[cfg(test)]
mod tests;
