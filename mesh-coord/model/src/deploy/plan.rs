//! Carries a deployment's changes out, and describes them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mesh_proto::{Label, ServiceName};

use super::{DeployRefusal, gather::Target};
use crate::{
    Record, Refusal,
    declare::{Declared, Pattern},
    draft::Draft,
    outcome::{BothWays, DeploymentPlan, ServiceChange, ServicePlan},
    record::{Deployment, Service, TrustSource},
    trust::both_ways,
    words::{count, list, quoted},
};

/// Drafts the changes that turn the deployment into `after` with the declared services.
pub(super) fn carry_out<'a>(
    draft: &mut Draft<'_>,
    after: &Arc<Deployment>,
    target: &Target<'_>,
    find: &impl Fn(&Label) -> Option<&'a Deployment>,
    force: bool,
) -> Result<DeploymentPlan, Refusal> {
    let before = draft.state.deployment_named(&after.name);
    let (services, unchanged) = services(draft, after, target, force)?;
    if before != Some(after) {
        draft.put(Record::Deployment(Arc::clone(after)));
    }
    let before = before.map(AsRef::as_ref);
    let callers: BTreeSet<&Label> =
        before.map(|d| &*d.trust).unwrap_or_default().iter().chain(&after.trust).map(|t| &t.caller).collect();
    let directions: Vec<BothWays> =
        callers.into_iter().map(|caller| both_ways(find, caller, before, after)).filter(|d| d.changed).collect();
    let mut settings = settings(before, after);
    if before.is_some_and(|before| before.trust != after.trust) && directions.is_empty() {
        settings.push("trust is written differently, with the same effect".to_owned());
    }
    Ok(DeploymentPlan {
        deployment: after.name.clone(),
        team: after.team.clone(),
        new: before.is_none(),
        settings,
        services,
        unchanged,
        directions,
    })
}

/// The plan in words, for the audit.
pub(super) fn in_words(plan: &DeploymentPlan, target: &Target<'_>) -> String {
    let number = |kind: fn(&ServiceChange) -> bool| plan.services.iter().filter(|s| kind(&s.change)).count();
    let added = number(|c| matches!(c, ServiceChange::Added { .. }));
    let changed = number(|c| matches!(c, ServiceChange::Changed { .. }));
    let removed = number(|c| matches!(c, ServiceChange::Removed { .. }));
    let new = if plan.new { " (new)" } else { "" };
    let mut words = format!(
        "{}{new} from {}: {} added, {changed} changed, {removed} removed",
        plan.deployment,
        target.files(),
        count(added, "service"),
    );
    for more in plan.settings.iter().cloned().chain(plan.directions.iter().take(12).map(|d| d.sentence())) {
        words.push_str("; ");
        words.push_str(&more);
    }
    words
}

/// Removes the addresses from the plan of a dry run, which reserves none.
pub(super) fn forget_addresses(plan: &mut DeploymentPlan) {
    for service in &mut plan.services {
        if let ServiceChange::Added { address } = &mut service.change {
            *address = None;
        }
    }
}

fn services(
    draft: &mut Draft<'_>,
    deployment: &Deployment,
    target: &Target<'_>,
    force: bool,
) -> Result<(Vec<ServicePlan>, usize), Refusal> {
    let state = draft.state;
    let mut gone: BTreeMap<&ServiceName, &Arc<Service>> =
        state.services_of(deployment.id).map(|s| (&s.record.name, &s.record)).collect();
    let mut plans = Vec::new();
    let mut unchanged = 0;
    for (name, declared) in target.declared() {
        let change = match gone.remove(name) {
            None => ServiceChange::Added { address: Some(add(draft, deployment, name, declared)?) },
            Some(service) if service.declared == *declared => {
                unchanged += 1;
                continue;
            }
            Some(service) => {
                let keys = changed_keys(&service.declared, declared);
                draft.put(Record::Service(Arc::new(Service { declared: declared.clone(), ..(**service).clone() })));
                ServiceChange::Changed { keys }
            }
        };
        plans.push(ServicePlan { service: name.clone(), change });
    }
    if let Target::Singles(_) = target {
        return Ok((plans, unchanged + gone.len()));
    }

    let running: Vec<_> = gone
        .values()
        .map(|s| (s.name.clone(), state.instances_of(s.id).count()))
        .filter(|(_, instances)| *instances > 0)
        .collect();
    if !running.is_empty() && !force {
        return Err(DeployRefusal::Running { deployment: deployment.name.clone(), services: running }.into());
    }
    for service in gone.into_values() {
        let instances = draft.end_instances(state.instances_of(service.id));
        draft.remove_service(service, deployment);
        plans.push(ServicePlan { service: service.name.clone(), change: ServiceChange::Removed { instances } });
    }
    plans.sort_by(|a, b| a.service.cmp(&b.service));
    Ok((plans, unchanged))
}

fn add(
    draft: &mut Draft<'_>,
    deployment: &Deployment,
    name: &ServiceName,
    declared: &Declared,
) -> Result<std::net::Ipv4Addr, Refusal> {
    let address = draft.service_address()?;
    let service = Service {
        id: draft.service_id(),
        deployment: deployment.id,
        name: name.clone(),
        address,
        declared: declared.clone(),
    };
    draft.put(Record::Service(Arc::new(service)));
    Ok(address)
}

fn changed_keys(before: &Declared, after: &Declared) -> Vec<String> {
    let keys = [
        ("aliases", before.aliases != after.aliases),
        ("port", before.port != after.port),
        ("public_port", before.public_port != after.public_port),
        ("names", before.manual_names != after.manual_names),
        ("ist", before.ist != after.ist),
    ];
    keys.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key.to_owned()).collect()
}

fn settings(before: Option<&Deployment>, after: &Deployment) -> Vec<String> {
    let mut settings = Vec::new();
    let exposed = before.and_then(|d| d.expose.as_ref());
    if exposed != after.expose.as_ref() {
        let was = if before.is_some() { format!(" (before: {})", patterns(exposed)) } else { String::new() };
        settings.push(format!("exposes {}{was}", patterns(after.expose.as_ref())));
    }
    let source = before.map_or(&TrustSource::Command, |d| &d.trust_source);
    match &after.trust_source {
        now if now == source => {}
        TrustSource::Command => settings.push("trust is left to the trust command".to_owned()),
        TrustSource::File(file) => settings.push(format!("trust is ruled by {file}")),
    }
    settings
}

fn patterns(expose: Option<&Vec<Pattern>>) -> String {
    match expose {
        None => "all services".to_owned(),
        Some(patterns) if patterns.is_empty() => "nothing".to_owned(),
        Some(patterns) => list(patterns.iter().map(quoted)),
    }
}
