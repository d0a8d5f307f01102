//! Trust: changed by command, checked, and described in both directions.

use std::{collections::BTreeSet, sync::Arc};

use mesh_proto::{Label, Ports};

use crate::{
    Admin, Decision, Now, Outcome, Record, Refusal, State, TrustChange,
    audit::Note,
    declare::{Pattern, Trust},
    draft::Draft,
    limits,
    outcome::{BothWays, May, Opened},
    record::{Deployment, TrustSource},
    refusal::{TrustRefusal, at_most},
    share,
    state::{Matches, names_in},
    words::{list, quoted},
};

/// Changes a deployment's trust list.
pub(crate) fn change(
    state: &State,
    by: &Admin,
    name: &Label,
    change: &TrustChange,
    now: Now,
) -> Result<Decision, Refusal> {
    let callee = state.own_deployment(by, name)?;
    if let TrustSource::File(file) = &callee.trust_source {
        return Err(TrustRefusal::RuledByFile { deployment: name.clone(), file: file.clone() }.into());
    }
    let (trust, concerned) = match change {
        TrustChange::Add { callers, services, ports } => {
            (added(state, by, callee, callers, services.as_ref(), ports)?, callers.clone())
        }
        TrustChange::Remove { callers, services, ports } => {
            (removed(callee, callers, services.as_ref(), ports)?, callers.clone())
        }
        TrustChange::Clear => (Vec::new(), callee.trust.iter().map(|t| t.caller.clone()).collect()),
    };
    if concerned.is_empty() && !matches!(change, TrustChange::Clear) {
        return Err(TrustRefusal::NoCaller { deployment: name.clone() }.into());
    }
    let after = Arc::new(Deployment { trust, ..(**callee).clone() });
    let names = state.names_in(callee);
    check_size(state, by, &after, &names)?;
    let find = |name: &Label| state.deployment_named(name).map(AsRef::as_ref).filter(|d| by.rules(&d.team));
    let directions: Vec<BothWays> =
        concerned.iter().map(|caller| both_ways(&find, caller, Some(callee), &after)).collect();
    let warnings = unmatched(&after, names);
    let outcome = Outcome::Trusted { deployment: name.clone(), trust: after.trust.clone(), directions, warnings };
    if after == *callee {
        return Ok(Draft::unchanged(outcome));
    }
    let mut draft = Draft::new(state, now);
    if let Outcome::Trusted { directions, .. } = &outcome {
        let detail = format!("{name}: {}", list(directions.iter().map(BothWays::sentence)));
        draft.audit(Note::admin(state, by, "trust", detail).of(Some(&callee.team)).on(name));
    }
    draft.put(Record::Deployment(after));
    Ok(draft.decided(outcome))
}

impl State {
    /// A deployment's trust list, as [`Outcome::Trusted`] with both directions for each caller.
    ///
    /// # Errors
    /// If the deployment doesn't exist, or belongs to another team.
    pub fn trust_list(&self, reader: &Admin, name: &Label) -> Result<Outcome, Refusal> {
        let callee = self.own_deployment(reader, name)?;
        let find = |name: &Label| self.deployment_named(name).map(AsRef::as_ref).filter(|d| reader.rules(&d.team));
        let callers: BTreeSet<&Label> = callee.trust.iter().map(|t| &t.caller).collect();
        Ok(Outcome::Trusted {
            deployment: name.clone(),
            trust: callee.trust.clone(),
            directions: callers.into_iter().map(|caller| both_ways(&find, caller, Some(callee), callee)).collect(),
            warnings: unmatched(callee, self.names_in(callee)),
        })
    }

    fn names_in(&self, deployment: &Deployment) -> Vec<&str> {
        self.services_of(deployment.id).map(|s| &*s.record.name).collect()
    }
}

/// Checks that resolving the trust list, over services with these names, doesn't delay other commands too long. An
/// existing list may stay as it is.
pub(crate) fn check_size(state: &State, by: &Admin, after: &Deployment, services: &[&str]) -> Result<(), Refusal> {
    let whose = || format!("the trust list of `{}`", after.name);
    let before = state.deployment_named(&after.name);
    let size = |d: &Deployment| names_in(&d.trust);
    let most = |limit: usize, before: Option<usize>| limit.max(before.unwrap_or_default());
    let entries = before.map(|d| d.trust.len());
    at_most(most(limits::TRUST, entries), after.trust.len(), "entries", whose())?;
    at_most(most(limits::TRUST_NAMES, before.map(|d| size(d))), size(after), "patterns and ports", whose())?;
    let known = before.map(|d| state.grants.work([&d.id]));
    let allowed = most(limits::TRUST_WORK, known);
    let mut matches = Matches::new(services.to_vec());
    for entry in &after.trust {
        matches.opened(entry, after.expose.as_deref());
        if matches.work > allowed {
            break;
        }
    }
    at_most(
        allowed,
        matches.work,
        "names to look through (patterns with `*` × services, and callers × services)",
        whose(),
    )?;
    if by.team.is_some() {
        let all = |d: &Deployment| d.trust.len() + size(d);
        let held = |id| state.deployments.get(id).map_or(0, |e| all(&e.record));
        let own = state.index.deployments_of.get(&after.team).into_iter().flatten().map(held).sum();
        let more = all(after).saturating_sub(before.map_or(0, |d| all(d)));
        share::check("entries in trust lists", &after.team, (own, more), (state.grants.entries(), limits::ALL_TRUST))?;
        let team = state.grants.work(state.index.deployments_of.get(&after.team).into_iter().flatten());
        let others = team - known.unwrap_or_default();
        let whose = format!("all trust lists of team `{}`", after.team);
        at_most(most(limits::TRUST_WORK_OF_TEAM, Some(team)), others + matches.work, "names to look through", whose)?;
    }
    Ok(())
}

/// Checks an entry of the trust list of `callee`. `find` returns deployments as they will be.
pub(crate) fn check_entry<'a>(
    by: &Admin,
    entry: &Trust,
    callee: &Deployment,
    find: &impl Fn(&Label) -> Option<&'a Deployment>,
) -> Result<(), Refusal> {
    let (deployment, caller) = (callee.name.clone(), entry.caller.clone());
    if caller == deployment {
        return Err(TrustRefusal::Own { deployment }.into());
    }
    if let Some(patterns) = &entry.services {
        if patterns.is_empty() {
            return Err(TrustRefusal::OpensNothing { deployment, caller, what: "services" }.into());
        }
        at_most(limits::PATTERNS, patterns.len(), "services", format!("the trust of `{deployment}` in `{caller}`"))?;
    }
    if let Ports::Only(ports) = &entry.ports {
        if ports.is_empty() {
            return Err(TrustRefusal::OpensNothing { deployment, caller, what: "ports" }.into());
        }
        if ports.contains(&0) {
            return Err(TrustRefusal::PortZero { deployment, caller }.into());
        }
        at_most(limits::PATTERNS, ports.len(), "ports", format!("the trust of `{deployment}` in `{caller}`"))?;
    }
    match find(&caller) {
        Some(from) if from.team != callee.team && by.team.is_some() => Err(Refusal::NotFree { name: caller }),
        Some(from) if from.team != callee.team => Err(TrustRefusal::OtherTeam {
            caller,
            caller_team: from.team.clone(),
            callee: deployment,
            callee_team: callee.team.clone(),
        }
        .into()),
        _ => Ok(()),
    }
}

/// Both directions between `caller` and a deployment that was `before` (if it existed) and is `after`.
pub(crate) fn both_ways<'a>(
    find: &impl Fn(&Label) -> Option<&'a Deployment>,
    caller: &Label,
    before: Option<&Deployment>,
    after: &Deployment,
) -> BothWays {
    let other = find(caller);
    let forward = may(other, caller, after);
    BothWays {
        caller: caller.clone(),
        callee: after.name.clone(),
        changed: forward != before.map_or(May::Not, |before| may(other, caller, before)),
        forward,
        back: other.map_or(May::Not, |other| may(Some(after), &after.name, other)),
    }
}

fn may(caller: Option<&Deployment>, name: &Label, callee: &Deployment) -> May {
    let what: Vec<Opened> = callee
        .trust
        .iter()
        .filter(|entry| entry.caller == *name)
        .map(|entry| Opened {
            services: entry.services.clone().or_else(|| callee.expose.clone()),
            ports: entry.ports.clone(),
        })
        .filter(|opened| opened.services.as_ref().is_none_or(|patterns| !patterns.is_empty()))
        .collect();
    match caller {
        _ if what.is_empty() => May::Not,
        None => May::OnceThere { what },
        Some(caller) if caller.team == callee.team => May::Call { what },
        Some(_) => May::Not,
    }
}

/// A warning for each entry that opens none of these services.
pub(crate) fn unmatched<'a>(callee: &'a Deployment, services: Vec<&'a str>) -> Vec<String> {
    let expose = callee.expose.as_deref();
    let mut matches = Matches::new(services);
    callee
        .trust
        .iter()
        .filter(|entry| matches.opened(entry, expose).is_empty())
        .map(|entry| match entry.services.as_deref().or(expose) {
            None => format!("`{}` has no service yet for `{}` to call", callee.name, entry.caller),
            Some([]) => format!("`{}` exposes nothing, so its trust in `{}` opens nothing", callee.name, entry.caller),
            Some(patterns) => format!(
                "`{}` has no service yet that matches {}, for `{}` to call",
                callee.name,
                list(patterns.iter().map(quoted)),
                entry.caller
            ),
        })
        .collect()
}

fn added(
    state: &State,
    by: &Admin,
    callee: &Deployment,
    callers: &BTreeSet<Label>,
    services: Option<&Vec<Pattern>>,
    ports: &Ports,
) -> Result<Vec<Trust>, Refusal> {
    let mut trust = callee.trust.clone();
    for caller in callers {
        let entry = Trust { caller: caller.clone(), services: services.cloned(), ports: ports.clone() };
        check_entry(by, &entry, callee, &|name| state.deployment_named(name).map(AsRef::as_ref))?;
        if !trust.contains(&entry) {
            trust.push(entry);
        }
    }
    Ok(trust)
}

fn removed(
    callee: &Deployment,
    callers: &BTreeSet<Label>,
    services: Option<&Vec<Pattern>>,
    ports: &Ports,
) -> Result<Vec<Trust>, TrustRefusal> {
    let all = services.is_none() && *ports == Ports::All;
    let mut trust = callee.trust.clone();
    for caller in callers {
        let before = trust.len();
        trust.retain(|entry| {
            let meant = all || (entry.services.as_ref() == services && entry.ports == *ports);
            !(entry.caller == *caller && meant)
        });
        if trust.len() == before {
            let what: Vec<String> = callee
                .trust
                .iter()
                .filter(|entry| entry.caller == *caller)
                .map(|entry| Opened { services: entry.services.clone(), ports: entry.ports.clone() }.to_string())
                .collect();
            let standing = if what.is_empty() {
                "it has none at all".to_owned()
            } else {
                format!("it trusts it with {}", list(what))
            };
            return Err(TrustRefusal::NotTrusted { deployment: callee.name.clone(), caller: caller.clone(), standing });
        }
    }
    Ok(trust)
}

#[cfg(test)]
mod tests;
