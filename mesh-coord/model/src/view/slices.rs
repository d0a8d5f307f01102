//! Works slices out, and keeps them for as long as they are in use and true.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use mesh_proto::{
    DeploymentId, Epoch, RunnerId, ServiceId,
    view::{Grant, Instance, Record},
};

use super::sliced::{Base, Chosen, Part, Slice, Sliced, distinct};
use crate::{State, record::Runner};

/// The slices of a state. To be told of every change of it.
#[derive(Debug, Default)]
pub struct Slices(HashMap<DeploymentId, Forms>);

/// The ways in which a deployment is seen.
#[derive(Debug, Default)]
struct Forms {
    /// By its own hosts.
    own: Option<Kept>,
    /// By others that see all its services.
    all: Option<Kept>,
    /// By others that see some of them.
    some: Vec<(Chosen, Kept)>,
}

#[derive(Debug)]
struct Kept {
    slice: Arc<Slice>,
    /// Its deployment has changed since.
    stale: bool,
}

/// How a view holds a deployment.
enum Sight {
    Own,
    All,
    Some(Chosen),
}

impl Kept {
    /// Marks it as stale. Returns whether it is still in use.
    fn spoil(&mut self) -> bool {
        self.stale = true;
        Arc::strong_count(&self.slice) > 1
    }
}

impl Slices {
    /// These deployments have changed.
    pub fn touch(&mut self, deployments: impl IntoIterator<Item = DeploymentId>) {
        for deployment in deployments {
            let Some(forms) = self.0.get_mut(&deployment) else { continue };
            forms.own.take_if(|kept| !kept.spoil());
            forms.all.take_if(|kept| !kept.spoil());
            forms.some.retain_mut(|(_, kept)| kept.spoil());
            if forms.own.is_none() && forms.all.is_none() && forms.some.is_empty() {
                self.0.remove(&deployment);
            }
        }
    }

    /// Everything may have changed.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The view of a runner; `None` if it is unknown or removed. See [`State::view`].
    pub fn view(&mut self, state: &State, runner: RunnerId, epoch: Epoch) -> Option<Sliced> {
        let runner = state.runner(runner).filter(|r| r.removed.is_none())?;
        self.view_with(state, runner, state.instances_on(runner.id).map(|i| i.service).collect(), epoch)
    }

    /// The view of a runner that hosts just these services.
    pub(super) fn view_with(
        &mut self,
        state: &State,
        runner: &Arc<Runner>,
        hosted: BTreeSet<ServiceId>,
        epoch: Epoch,
    ) -> Option<Sliced> {
        let mut own: BTreeMap<DeploymentId, BTreeSet<ServiceId>> = BTreeMap::new();
        for id in hosted {
            if let Some(service) = state.services.get(&id) {
                own.entry(service.record.deployment).or_default().insert(id);
            }
        }
        let mut seen: BTreeMap<DeploymentId, Sight> = BTreeMap::new();
        let mut grants: Vec<Arc<Grant>> = Vec::new();
        for (deployment, hosted) in &own {
            for callee in state.grants.callees(*deployment) {
                let opened = state.grants.between(*deployment, callee);
                grants.extend(opened.map(Arc::clone));
                see_some(&mut seen, state, *deployment, callee);
            }
            for caller in state.grants.callers(*deployment) {
                let from = grants.len();
                grants.extend(state.grants_to_hosted(caller, *deployment, hosted).into_iter().map(Arc::clone));
                if grants.len() > from {
                    seen.insert(caller, Sight::All);
                }
            }
        }
        seen.extend(own.into_keys().map(|deployment| (deployment, Sight::Own)));
        // A grant between two own deployments was found twice.
        grants.sort_unstable_by_key(|grant| (grant.caller, grant.callee));
        grants.dedup_by_key(|grant| (grant.caller, grant.callee));
        // The view is kept for as long as its runner is connected.
        grants.shrink_to_fit();
        let slices = seen.into_iter().map(|(deployment, sight)| self.slice(state, deployment, sight));
        Some(Sliced {
            epoch,
            revision: state.revision,
            runner: runner.id,
            network: state.meta.network,
            own: Arc::clone(&state.runners.get(&runner.id)?.shown),
            slices: slices.filter(|slice| !slice.base.records.is_empty()).collect(),
            grants,
        })
    }

    fn slice(&mut self, state: &State, deployment: DeploymentId, sight: Sight) -> Arc<Slice> {
        let Forms { own, all, some } = self.0.entry(deployment).or_default();
        let seen = |other: &Option<Kept>| other.as_ref().map(|kept| Arc::clone(&kept.slice));
        match sight {
            Sight::Own => kept(own, || slice(state, deployment, None, true).sharing(seen(all).as_deref())),
            Sight::All => kept(all, || slice(state, deployment, None, false).sharing(seen(own).as_deref())),
            Sight::Some(chosen) => {
                if let Some((_, kept)) = some.iter_mut().find(|(of, _)| *of == chosen) {
                    return fresh(kept, || slice(state, deployment, Some(&chosen), false));
                }
                let slice = Arc::new(slice(state, deployment, Some(&chosen), false));
                some.push((chosen, Kept { slice: Arc::clone(&slice), stale: false }));
                slice
            }
        }
    }
}

/// The caller's hosts see the services of `callee` that it may call.
fn see_some(seen: &mut BTreeMap<DeploymentId, Sight>, state: &State, caller: DeploymentId, callee: DeploymentId) {
    let all = state.index.services_of.get(&callee).map_or(0, BTreeMap::len);
    if state.grants.number(caller, callee) == all {
        seen.insert(callee, Sight::All);
        return;
    }
    let opened = state.grants.between(caller, callee).map(|grant| grant.callee);
    match seen.entry(callee).or_insert_with(|| Sight::Some(Chosen::new())) {
        Sight::Some(chosen) => {
            chosen.extend(opened);
            if chosen.len() == all {
                seen.insert(callee, Sight::All);
            }
        }
        Sight::All | Sight::Own => {}
    }
}

fn kept(place: &mut Option<Kept>, make: impl FnOnce() -> Slice) -> Arc<Slice> {
    match place {
        Some(kept) => fresh(kept, make),
        None => Arc::clone(&place.insert(Kept { slice: Arc::new(make()), stale: false }).slice),
    }
}

/// A stale slice is worked out anew. If it is as before, the one before stays, so that it is no change for anyone.
fn fresh(kept: &mut Kept, make: impl FnOnce() -> Slice) -> Arc<Slice> {
    if std::mem::take(&mut kept.stale) {
        let slice = make();
        if !slice.is_like(&kept.slice) {
            kept.slice = Arc::new(slice);
        }
    }
    Arc::clone(&kept.slice)
}

/// What is seen of a deployment's chosen services, or of all. `own`: by its own hosts.
fn slice(state: &State, deployment: DeploymentId, chosen: Option<&Chosen>, own: bool) -> Slice {
    let mut services: Vec<_> = state
        .services_of(deployment)
        .filter(|service| chosen.is_none_or(|chosen| chosen.contains(&service.record.id)))
        .collect();
    services.sort_unstable_by_key(|service| service.record.id);
    let (mut records, mut names, mut runners) = (Vec::new(), Vec::new(), Vec::new());
    if !services.is_empty() {
        records.extend(state.deployments.get(&deployment).map(|entry| Record::Deployment(Arc::clone(&entry.shown))));
    }
    records.extend(services.iter().map(|service| Record::Service(Arc::clone(&service.shown))));
    if own {
        names.extend(services.iter().map(|service| Record::Naming(Arc::clone(&service.naming))));
    }
    let mut instances: Vec<_> = services.iter().flat_map(|service| state.instances_of(service.record.id)).collect();
    instances.sort_unstable_by_key(|instance| instance.id);
    for instance in instances {
        records.push(Record::Instance(if own { Arc::clone(instance) } else { without_release(instance) }));
        runners.extend(state.runners.get(&instance.runner).map(|entry| Arc::clone(&entry.shown)));
    }
    let mut runners = distinct(runners);
    runners.shrink_to_fit();
    Slice { deployment, base: Arc::new(Base { records: Part::new(records), runners }), names: Part::new(names) }
}

/// An instance as other deployments see it: which release it runs concerns its own only.
fn without_release(instance: &Arc<Instance>) -> Arc<Instance> {
    match instance.release {
        None => Arc::clone(instance),
        Some(_) => Arc::new(Instance { release: None, ..Instance::clone(instance) }),
    }
}
