//! The beginning of a runner's stream: what the runner reports is reconciled with what is known. Each reported
//! instance costs a fixed number of look-ups, however large the mesh is, and no hints are computed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use mesh_proto::{
    Abilities, DeploymentId, InstanceId, ServiceId,
    message::Held,
    view::{Instance, InstanceState},
};

use super::{HostRefusal, canonical, is_shown, outside, shares, state_of, usable_endpoints};
use crate::{
    Decision, Now, Outcome, Record, Refusal, State,
    draft::Draft,
    limits,
    record::{Outside, Runner},
    refusal::at_most,
};

/// Reconciles a hello. If it reports nothing new, nothing changes.
pub(crate) fn hello(
    state: &State,
    runner: &Arc<Runner>,
    (version, can): (&str, Abilities),
    (endpoints, seen, outside): (&[SocketAddr], Option<SocketAddr>, &Outside),
    held: &[Held],
    now: Now,
) -> Result<Decision, Refusal> {
    if version.len() > limits::VERSION || version.chars().any(char::is_control) {
        return Err(HostRefusal::BadVersion.into());
    }
    let range = state.meta.network.range;
    let endpoints = usable_endpoints(runner, seen, endpoints, range)?;
    let reported = Runner {
        version: version.to_owned(),
        can,
        outside: outside::usable(state, runner, seen, &endpoints, outside)?,
        endpoints,
        seen: seen.map(canonical).filter(|at| is_shown(*at, seen, range) == Ok(true)),
        silent: false,
        ..(**runner).clone()
    };
    let reported = Runner { undrained: still_undrained(runner, held), ..reported };
    at_most(limits::INSTANCES_ON_RUNNER, held.len(), "instances", format!("the runner `{}`", runner.name))?;

    let mut draft = Draft::new(state, now);
    if reported != **runner {
        draft.put(Record::Runner(Arc::new(reported)));
    }
    let (mut kept, mut adopted, mut rejected) = (BTreeSet::new(), Vec::new(), Vec::new());
    let mut adoption = Adoption::default();
    let mut once = BTreeSet::new();
    for reported in held.iter().filter(|reported| once.insert(reported.instance)) {
        let taken_in = match state.instances.get(&reported.instance) {
            Some(instance) => keep(&mut draft, runner, instance, reported),
            None => {
                adoption.adopt(&mut draft, runner, reported) && {
                    adopted.push(reported.instance);
                    true
                }
            }
        };
        if taken_in {
            kept.insert(reported.instance);
        } else {
            rejected.push(reported.instance);
        }
    }
    let ended = draft.end_instances(state.instances_on(runner.id).filter(|i| !kept.contains(&i.id)));
    Ok(draft.decided(Outcome::Welcomed { ended, adopted, rejected }))
}

/// Keeps the instance if the runner reports the one that is known. Returns whether it did.
fn keep(draft: &mut Draft<'_>, runner: &Runner, instance: &Instance, reported: &Held) -> bool {
    let state = draft.state;
    let same = instance.runner == runner.id
        && instance.address == reported.address
        && state.service_at(&reported.service).is_some_and(|service| service.id == instance.service);
    // A drained instance stays drained, whichever side remembers it. So does an undrained one.
    let draining = reported.draining && !runner.undrained.contains(&instance.id);
    let drained = draining || instance.state == InstanceState::Draining;
    let wanted = state_of(reported.client, drained);
    // The release is the agent's to say: an instance may have been taken over for another one while no stream was there.
    if same && (instance.state != wanted || instance.release != reported.release) {
        let release = reported.release.clone();
        draft.put(Record::Instance(Arc::new(Instance { state: wanted, release, ..instance.clone() })));
    }
    same
}

/// The instances that one hello brings back.
#[derive(Default)]
struct Adoption {
    /// How many instances each service has: on this runner, and in total.
    counted: BTreeMap<ServiceId, (usize, usize)>,
    /// How many more addresses each deployment may have.
    room: BTreeMap<DeploymentId, usize>,
}

/// The undrained instances that the agent still reports as draining.
fn still_undrained(runner: &Runner, held: &[Held]) -> BTreeSet<InstanceId> {
    if runner.undrained.is_empty() {
        return BTreeSet::new();
    }
    let draining = held.iter().filter(|reported| reported.draining).map(|reported| reported.instance);
    draining.filter(|instance| runner.undrained.contains(instance)).collect()
}

impl Adoption {
    /// Adopts an unknown instance, as after a restore from a backup, if the runner could have been given it.
    fn adopt(&mut self, draft: &mut Draft<'_>, runner: &Runner, reported: &Held) -> bool {
        let state = draft.state;
        let Some(service) = state.hosted_at(runner, &reported.service) else { return false };
        let (here, there) = self.counted.entry(service.id).or_insert_with(|| {
            let here = state.instances_of(service.id).filter(|i| i.runner == runner.id).count();
            (here, state.number_of(service.id))
        });
        let InstanceId(number) = reported.instance;
        let given_soon = number > 0 && number < state.meta.next.instance.saturating_add(limits::ADOPT_AHEAD);
        let room = self.room.entry(service.deployment).or_insert_with(|| {
            let home = state.deployments.get(&service.deployment);
            home.map_or(0, |home| state.room_for_addresses(&home.record, draft.now))
        });
        if !shares(*here, *there) || *room == 0 || !given_soon || !draft.adopt_address(reported.address) {
            return false;
        }
        *room -= 1;
        (*here, *there) = (*here + 1, *there + 1);
        draft.next.instance = draft.next.instance.max(number + 1);
        draft.put(Record::Instance(Arc::new(Instance {
            id: reported.instance,
            service: service.id,
            runner: runner.id,
            address: reported.address,
            state: state_of(reported.client, reported.draining || runner.drained),
            release: reported.release.clone(),
        })));
        true
    }
}
