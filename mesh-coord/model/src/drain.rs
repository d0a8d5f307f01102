//! Draining and undraining: an instance, or all instances of a runner, present and future.

use std::sync::Arc;

use mesh_proto::{InstanceId, Label, view::InstanceState};

use crate::{
    Admin, Decision, Now, Outcome, Record, Refusal, State,
    audit::Note,
    draft::Draft,
    record::{Deployment, Instance, Runner, Service},
    refusal::HostRefusal,
};

/// The direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// New connections end; open ones stay.
    Drain,
    /// New connections are allowed again.
    Undrain,
}

impl Way {
    const fn action(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Undrain => "undrain",
        }
    }

    const fn state(self) -> InstanceState {
        match self {
            Self::Drain => InstanceState::Draining,
            Self::Undrain => InstanceState::Live,
        }
    }
}

/// A runner's request for one of its instances.
pub(crate) fn own(
    state: &State,
    runner: &Arc<Runner>,
    instance: InstanceId,
    way: Way,
    now: Now,
) -> Result<Decision, Refusal> {
    let Some(instance) = state.instances.get(&instance).filter(|i| i.runner == runner.id) else {
        return Err(HostRefusal::NoInstance { instance, runner: runner.name.clone() }.into());
    };
    let mut draft = Draft::new(state, now);
    set(&mut draft, instance, way)?;
    Ok(draft.decided(if way == Way::Drain { Outcome::Drained } else { Outcome::Undrained }))
}

/// An administrator's command for an instance.
pub(crate) fn instance(
    state: &State,
    by: &Admin,
    instance: InstanceId,
    way: Way,
    now: Now,
) -> Result<Decision, Refusal> {
    let known = state.instances.get(&instance).and_then(|i| Some((i, state.home(i)?)));
    let Some((instance, (deployment, service))) = known.filter(|(_, (d, _))| by.rules(&d.team)) else {
        return Err(HostRefusal::UnknownInstance { instance, team: by.team.clone() }.into());
    };
    let mut draft = Draft::new(state, now);
    set(&mut draft, instance, way)?;
    let service = format!("{}/{}", deployment.name, service.name);
    let node = state.runner(instance.runner).map(|runner| runner.name.clone());
    if !draft.is_empty() {
        let detail = format!("{} of `{service}`", instance.id);
        draft.audit(Note::admin(state, by, way.action(), detail).of(Some(&deployment.team)).on(&service));
    }
    let draining = way == Way::Drain;
    Ok(draft.decided(Outcome::InstanceDrained { instance: instance.id, service, node, draining }))
}

/// An administrator's command for a runner: its instances now and later. Instances that were drained individually
/// stay so.
pub(crate) fn node(state: &State, by: &Admin, name: &Label, way: Way, now: Now) -> Result<Decision, Refusal> {
    let runner = state.ruled_runner(by, name)?;
    let mut draft = Draft::new(state, now);
    let mut instances = Vec::new();
    let stays = |id| way == Way::Undrain && (!runner.drained || runner.drained_apart.contains(&id));
    for instance in state.instances_on(runner.id).filter(|i| i.state != InstanceState::Client) {
        if instance.state != way.state() && !stays(instance.id) {
            put(&mut draft, instance, way);
            instances.push(instance.id);
        }
    }
    let drained = way == Way::Drain;
    let mut after = Runner { drained, ..(**runner).clone() };
    match way {
        Way::Drain => {
            after.undrained.clear();
            if !runner.drained {
                let drained = state.instances_on(runner.id).filter(|i| i.state == InstanceState::Draining);
                after.drained_apart = drained.map(|instance| instance.id).collect();
            }
        }
        Way::Undrain => {
            after.undrained.extend(&instances);
            after.drained_apart.clear();
        }
    }
    if after != **runner {
        draft.put(Record::Runner(Arc::new(after)));
    }
    if !draft.is_empty() {
        let detail = format!("{} `{name}` with {}", runner.id, crate::words::count(instances.len(), "instance"));
        let action = if drained { "node-drain" } else { "node-undrain" };
        draft.audit(Note::admin(state, by, action, detail).of(runner.owner()).on(name));
    }
    Ok(draft.decided(Outcome::NodeDrained { node: name.clone(), drained, instances }))
}

impl State {
    /// The deployment and the service of an instance.
    pub(crate) fn home(&self, instance: &Instance) -> Option<(&Arc<Deployment>, &Arc<Service>)> {
        let service = &self.services.get(&instance.service)?.record;
        Some((&self.deployments.get(&service.deployment)?.record, service))
    }
}

/// Changes an instance, and records what the runner's next hello may report about it.
fn set(draft: &mut Draft<'_>, instance: &Instance, way: Way) -> Result<(), Refusal> {
    if instance.state == InstanceState::Client {
        return Err(HostRefusal::ClientDrained { instance: instance.id }.into());
    }
    let changes = instance.state != way.state();
    if changes {
        put(draft, instance, way);
    }
    let state = draft.state;
    let Some(runner) = state.runner(instance.runner) else { return Ok(()) };
    let mut after = Runner::clone(runner);
    match way {
        Way::Drain => {
            if changes {
                after.undrained.remove(&instance.id);
            }
            if runner.drained {
                after.drained_apart.retain(|id| state.instances.contains_key(id));
                after.drained_apart.insert(instance.id);
            }
        }
        Way::Undrain => {
            if changes {
                after.undrained.insert(instance.id);
            }
            after.drained_apart.remove(&instance.id);
        }
    }
    if after != **runner {
        draft.put(Record::Runner(Arc::new(after)));
    }
    Ok(())
}

fn put(draft: &mut Draft<'_>, instance: &Instance, way: Way) {
    draft.put(Record::Instance(Arc::new(Instance { state: way.state(), ..instance.clone() })));
}

#[cfg(test)]
mod tests;
