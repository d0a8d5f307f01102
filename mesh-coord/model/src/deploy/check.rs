//! Checks of what the files declare about a deployment.

use std::collections::{BTreeMap, BTreeSet};

use mesh_proto::{
    Label, ServiceName,
    names::{self, Candidate, Scope},
};

use super::{DeployRefusal, gather::Target};
use crate::{
    Admin, Refusal, State,
    declare::Declared,
    limits,
    record::{Deployment, TrustSource},
    refusal::at_most,
    state::Matches,
    trust,
    words::quoted,
};

/// The team of a new deployment whose file names none.
const DEFAULT_TEAM: &str = "default";

/// The deployment with its new settings, without its services; if it doesn't exist, its future team.
pub(super) fn settings(
    state: &State,
    by: &Admin,
    name: &Label,
    target: &Target<'_>,
) -> Result<Result<Deployment, Label>, Refusal> {
    let asked = match target {
        Target::Whole { says, .. } => says.team.as_ref(),
        Target::Singles(_) => None,
    };
    let not_yours =
        |team: &Label| Refusal::NotYours { what: format!("the deployment {}", quoted(name)), team: team.clone() };
    let existing = state.deployment_named(name);
    let team = match (existing, asked) {
        (Some(existing), _) => existing.team.clone(),
        (None, Some(asked)) => asked.clone(),
        (None, None) => DEFAULT_TEAM.parse().expect("it is a label"),
    };
    // The file's team is checked first, because that check reveals nothing about existing deployments.
    if let Some(own) = by.team.as_ref().filter(|_| asked.is_some_and(|asked| !by.rules(asked))) {
        return Err(not_yours(own));
    }
    if let Some(own) = by.team.as_ref().filter(|_| !by.rules(&team)) {
        return Err(if existing.is_some() { Refusal::NotFree { name: name.clone() } } else { not_yours(own) });
    }
    let Some(existing) = existing else { return Ok(Err(team)) };
    match asked {
        Some(asked) if *asked != team => {
            Err(DeployRefusal::TeamFixed { deployment: name.clone(), team, asked: asked.clone() }.into())
        }
        _ => Ok(Ok(target.settle(existing))),
    }
}

/// Checks a deployment's new contents, together with the services that the files don't mention. Returns warnings.
pub(super) fn contents<'a>(
    state: &State,
    by: &Admin,
    deployment: &Deployment,
    target: &Target<'_>,
    find: &impl Fn(&Label) -> Option<&'a Deployment>,
) -> Result<Vec<String>, Refusal> {
    let name = &deployment.name;
    let mut services: BTreeMap<&ServiceName, &Declared> = BTreeMap::new();
    if let Target::Singles(_) = target {
        services.extend(state.services_of(deployment.id).map(|s| (&s.record.name, &s.record.declared)));
    }
    services.extend(target.declared());
    at_most(limits::SERVICES, services.len(), "services", format!("the deployment `{name}`"))?;
    for (service, declared) in target.declared() {
        check_service(service, declared)?;
    }
    if let Target::Whole { says, .. } = target {
        let patterns = says.expose.as_ref().map_or(0, Vec::len);
        at_most(limits::PATTERNS, patterns, "patterns", format!("`expose` of `{name}`"))?;
        let entries = says.trust.as_deref().unwrap_or_default();
        at_most(limits::TRUST, entries.len(), "entries", format!("`trust` of `{name}`"))?;
        for entry in entries {
            trust::check_entry(by, entry, deployment, find)?;
        }
    }
    trust::check_size(state, by, deployment, &services.keys().map(|name| &***name).collect::<Vec<_>>())?;

    let known: BTreeSet<&ServiceName> = state.services_of(deployment.id).map(|s| &s.record.name).collect();
    let candidates: Vec<Candidate<'_>> = services
        .iter()
        .map(|(name, declared)| Candidate {
            name,
            aliases: &declared.aliases,
            port: declared.port,
            manual_names: declared.manual_names,
            ist: &declared.ist,
            known: known.contains(name),
        })
        .collect();
    let checked = |scope| names::check(name, &candidates, scope).map_err(DeployRefusal::from);
    match target {
        Target::Whole { .. } => Ok(checked(Scope::Whole)?),
        Target::Singles(singles) => Ok(checked(Scope::Some(&singles.keys().copied().collect()))?),
    }
}

/// Warnings about effects that the operator may not expect.
pub(super) fn warnings(state: &State, by: &Admin, deployment: &Deployment, target: &Target<'_>) -> Vec<String> {
    let name = &deployment.name;
    let mut warnings = Vec::new();
    let existing = state.deployment_named(name);
    if let Target::Whole { says, .. } = target {
        let services: Vec<&str> = says.services.keys().map(|s| &**s).collect();
        let mut matches = Matches::new(services.clone());
        for pattern in deployment.expose.iter().flatten().filter(|pattern| matches.of(pattern).is_empty()) {
            warnings.push(format!("`{name}` exposes `{pattern}`, which matches none of its services"));
        }
        warnings.extend(trust::unmatched(deployment, services));
        let ruled = existing.is_some_and(|d| matches!(d.trust_source, TrustSource::File(_)));
        if ruled && deployment.trust_source == TrustSource::Command && !deployment.trust.is_empty() {
            warnings.push(format!(
                "`trust` is no longer in the file: who could call `{name}` still can, until `mesh-coord trust` changes it"
            ));
        }
    }
    if existing.is_none() {
        let waiting = state.index.trusting.get(name).into_iter().flatten().filter_map(|id| state.deployments.get(id));
        for callee in waiting.map(|e| &e.record).filter(|d| d.team != deployment.team && by.rules(&d.team)) {
            warnings.push(format!(
                "`{}` trusts `{name}`, without effect: it is team `{}`'s and `{name}` is team `{}`'s",
                callee.name, callee.team, deployment.team
            ));
        }
    }
    warnings
}

fn check_service(service: &ServiceName, declared: &Declared) -> Result<(), Refusal> {
    let whose = || format!("the service `{service}`");
    for (key, port) in [("port", declared.port), ("public_port", declared.public_port)] {
        if port == Some(0) {
            return Err(DeployRefusal::PortZero { service: service.clone(), key }.into());
        }
    }
    at_most(limits::NAMES, declared.aliases.len(), "aliases", whose())?;
    at_most(limits::NAMES, declared.ist.len(), "entries in `ist`", whose())?;
    for ist in &declared.ist {
        let names = ist.variables.len().max(ist.hostnames.len());
        at_most(limits::NAMES, names, "names in one entry of `ist`", whose())?;
    }
    Ok(())
}
