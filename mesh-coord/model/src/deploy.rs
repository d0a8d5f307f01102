//! Deployments: created and changed by files, and deleted.

mod check;
mod gather;
mod plan;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mesh_proto::{Label, ServiceName};

use self::gather::Target;
use crate::{
    Admin, Decision, Judgement, Key, Knowledge, Now, Outcome, Record, Refusal, State,
    audit::Note,
    declare::{self, Expect, File, Trust},
    draft::Draft,
    limits,
    outcome::{DeploymentPlan, Plan, ServiceChange},
    record::Deployment,
    refusal::{DeployRefusal, at_most},
    share,
    words::{Candidates, count},
};

/// What the administrator agrees to remove.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Consent {
    /// Services with instances.
    pub(crate) force: bool,
    /// Services that the files no longer declare.
    pub(crate) prune: bool,
}

/// Creates and changes deployments as the files declare: all of them, or none. All that is expected has to hold
/// afterwards.
pub(crate) fn apply(
    state: &State,
    by: &Admin,
    (files, expect): (&[File], &[Expect]),
    dry_run: bool,
    consent: Consent,
    now: Now,
) -> Result<Decision, Refusal> {
    let targets = gather::gather(files)?;
    let mut draft = Draft::new(state, now);
    let mut after: BTreeMap<&Label, Arc<Deployment>> = BTreeMap::new();
    for (name, target) in &targets {
        let deployment = check::settings(state, by, name, target).map_err(|r| target.refused(r))?;
        let deployment = deployment.unwrap_or_else(|team| target.new_deployment(draft.deployment_id(), name, team));
        after.insert(*name, Arc::new(deployment));
    }
    let made = targets.keys().filter(|name| state.deployment_named(name).is_none()).count();
    at_most(limits::DEPLOYMENTS, state.deployments.len() + made, "deployments", "the coordinator")?;

    if let Some(team) = &by.team {
        let held = state.index.deployments_of.get(team).map_or(0, BTreeSet::len);
        share::check("deployments", team, (held, made), (state.deployments.len(), limits::DEPLOYMENTS))?;
    }

    // Files are judged together: one may trust a deployment that another one creates.
    let find = |name: &Label| after.get(name).or_else(|| state.deployment_named(name)).map(AsRef::as_ref);
    let shown = |name: &Label| find(name).filter(|d| by.rules(&d.team));
    let mut plan = Plan { dry_run, deployments: Vec::new(), warnings: Vec::new() };
    for (name, target) in &targets {
        let Some(deployment) = after.get(name) else { continue };
        let warnings = check::contents(state, by, deployment, target, &find).map_err(|r| target.refused(r))?;
        plan.warnings.extend(warnings);
        let changes =
            plan::carry_out(&mut draft, deployment, target, &shown, consent.force).map_err(|r| target.refused(r))?;
        plan.warnings.extend(check::warnings(state, by, deployment, target));
        if !changes.is_empty() {
            let note = Note::admin(state, by, "apply", plan::in_words(&changes, target));
            draft.audit(note.of(Some(&deployment.team)).on(name));
        }
        plan.deployments.push(changes);
    }
    if let Some(team) = &by.team {
        check_shares(state, team, &plan, now)?;
        check_names(state, team, &targets)?;
    }
    if !dry_run {
        let removed = plan.removed();
        if !removed.is_empty() && !consent.prune && !consent.force {
            return Err(DeployRefusal::Prunes { services: removed }.into());
        }
    }
    let mut decision = draft.decided(Outcome::Planned(plan));
    expected(state, by, expect, &decision)?;
    if dry_run {
        decision.changes.clear();
        as_dry_run(&mut decision.outcome);
    }
    Ok(decision)
}

/// Refuses a decision after which an expectation doesn't hold.
fn expected(state: &State, by: &Admin, expect: &[Expect], decision: &Decision) -> Result<(), Refusal> {
    if expect.is_empty() {
        return Ok(());
    }
    at_most(limits::EXPECTATIONS, expect.len(), "expectations", "the files")?;
    let after = state.after(decision);
    let unmet = expect.iter().filter_map(|expect| match after.judge(by, expect, Knowledge::All) {
        Judgement::Met => None,
        Judgement::Unmet { why } | Judgement::Undecided { why } => Some(format!("{expect}, but {why}")),
    });
    let unmet: Vec<String> = unmet.collect();
    if unmet.is_empty() { Ok(()) } else { Err(DeployRefusal::Unmet { unmet }.into()) }
}

/// Turns the outcome of an `apply` into that of a dry run, which reserves no address.
pub(crate) fn as_dry_run(outcome: &mut Outcome) {
    let Outcome::Planned(plan) = outcome else { return };
    plan.dry_run = true;
    for deployment in &mut plan.deployments {
        plan::forget_addresses(deployment);
    }
}

/// Checks a team's share of services and addresses.
fn check_shares(state: &State, team: &Label, plan: &Plan, now: Now) -> Result<(), Refusal> {
    let added =
        |d: &DeploymentPlan| d.services.iter().filter(|s| matches!(s.change, ServiceChange::Added { .. })).count();
    let all: usize = plan.deployments.iter().map(added).sum();
    let of_team = state.index.deployments_of.get(team);
    let number = |id| state.index.services_of.get(id).map_or(0, BTreeMap::len);
    let held = of_team.into_iter().flatten().map(number).sum();
    share::check("services", team, (held, all), (state.services.len(), limits::ALL_SERVICES))?;
    for deployment in &plan.deployments {
        let known = state.deployment_named(&deployment.deployment);
        let Some(known) = known.or_else(|| state.deployments.get(of_team?.first()?).map(|e| &e.record)) else {
            continue;
        };
        if added(deployment) > state.room_for_addresses(known, now) {
            let whose = format!("team `{team}`");
            return Err(Refusal::Share { what: "addresses", whose, held: state.index.held.of_team(team) });
        }
    }
    Ok(())
}

/// Checks a team's share of names. Declaring no more than before is always allowed.
fn check_names(state: &State, team: &Label, targets: &BTreeMap<&Label, Target<'_>>) -> Result<(), Refusal> {
    let names = &state.index.names;
    let more = |(name, target): (&&Label, &Target<'_>)| {
        let known = state.deployment_named(name);
        let declared: usize = target.declared().map(|(_, declared)| declared.bytes()).sum();
        let (before, after) = match target {
            Target::Whole { says, .. } => {
                (known.map_or(0, |known| names.of(known.id)), declared + declare::bytes_of(says.expose.as_ref()))
            }
            Target::Singles(singles) => {
                let there = known.into_iter().flat_map(|known| state.services_of(known.id));
                let those = there.filter(|service| singles.contains_key(&service.record.name));
                (those.map(|service| service.record.declared.bytes()).sum(), declared)
            }
        };
        after.saturating_sub(before)
    };
    let more = targets.iter().map(more).sum();
    let held = state.index.deployments_of.get(team).into_iter().flatten().map(|id| names.of(*id)).sum();
    share::check("bytes of names", team, (held, more), (names.all(), limits::ALL_NAMES))
}

/// Deletes a deployment and removes its name from all trust lists, because a later deployment of that name is another
/// one.
pub(crate) fn delete(state: &State, by: &Admin, name: &Label, force: bool, now: Now) -> Result<Decision, Refusal> {
    let deployment = state.own_deployment(by, name)?;
    let running: Vec<_> = state
        .services_of(deployment.id)
        .map(|s| (s.record.name.clone(), state.instances_of(s.record.id).count()))
        .filter(|(_, instances)| *instances > 0)
        .collect();
    if !running.is_empty() && !force {
        return Err(DeployRefusal::Running { deployment: name.clone(), services: running }.into());
    }

    let mut draft = Draft::new(state, now);
    let (mut services, mut instances) = (0, Vec::new());
    for service in state.services_of(deployment.id) {
        instances.extend(draft.end_instances(state.instances_of(service.record.id)));
        draft.remove_service(&service.record, deployment);
        services += 1;
    }
    draft.delete(Key::Deployment(deployment.id));
    let mut untrusted_by = Vec::new();
    for id in state.index.trusting.get(name).into_iter().flatten() {
        let Some(entry) = state.deployments.get(id).filter(|e| e.record.id != deployment.id) else { continue };
        let trust: Vec<Trust> = entry.record.trust.iter().filter(|t| t.caller != *name).cloned().collect();
        draft.put(Record::Deployment(Arc::new(Deployment { trust, ..(*entry.record).clone() })));
        if by.rules(&entry.record.team) {
            untrusted_by.push(entry.record.name.clone());
        }
    }
    let detail = format!("{name} with {}", count(services, "service"));
    draft.audit(Note::admin(state, by, "delete", detail).of(Some(&deployment.team)).on(name));
    Ok(draft.decided(Outcome::Deleted { deployment: name.clone(), services, instances, untrusted_by }))
}

impl State {
    /// The deployment with this name.
    pub(crate) fn known_deployment(&self, name: &Label) -> Result<&Arc<Deployment>, Refusal> {
        self.deployment_named(name).ok_or_else(|| {
            let nearest = Candidates::of(name, self.index.deployment_names.keys().map(|n| &**n));
            Refusal::NoDeployment { name: name.clone(), nearest }
        })
    }

    /// The deployment with this name, if the administrator may change it.
    pub(crate) fn own_deployment(&self, by: &Admin, name: &Label) -> Result<&Arc<Deployment>, Refusal> {
        let Some(team) = &by.team else { return self.known_deployment(name) };
        self.deployment_named(name).filter(|deployment| by.rules(&deployment.team)).ok_or_else(|| {
            let own = self.index.deployments_of.get(team).into_iter().flatten();
            let nearest = Candidates::of(name, own.filter_map(|id| self.deployments.get(id)).map(|e| &*e.record.name));
            Refusal::NoneOfTeam { name: name.clone(), team: team.clone(), nearest }
        })
    }

    /// The service with this name in the deployment.
    pub(crate) fn known_service(
        &self,
        deployment: &Deployment,
        name: &ServiceName,
    ) -> Result<&Arc<crate::record::Service>, Refusal> {
        self.service_in(deployment.id, name).ok_or_else(|| {
            let nearest = Candidates::of(name, self.services_of(deployment.id).map(|s| &*s.record.name));
            Refusal::NoService { deployment: deployment.name.clone(), name: name.clone(), nearest }
        })
    }
}

#[cfg(test)]
mod tests;
