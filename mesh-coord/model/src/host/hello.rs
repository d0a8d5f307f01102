//! The beginning of a runner's stream: what it holds and what is known of it are brought together. For each instance that
//! it tells there is a fixed number of look-ups, however much the mesh holds, and no hint is worked out for a refusal that is not shown.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use mesh_proto::{
    DeploymentId, InstanceId, ServiceId,
    message::Held,
    view::{Instance, InstanceState},
};

use super::{HostRefusal, canonical, is_shown, shares, state_of, usable_endpoints};
use crate::{Decision, Now, Outcome, Record, Refusal, State, draft::Draft, limits, record::Runner, refusal::at_most};

/// A runner's stream begins. Nothing new is no change.
pub(crate) fn hello(
    state: &State,
    runner: &Arc<Runner>,
    version: &str,
    endpoints: &[SocketAddr],
    seen: Option<SocketAddr>,
    held: &[Held],
    now: Now,
) -> Result<Decision, Refusal> {
    if version.len() > limits::VERSION || version.chars().any(char::is_control) {
        return Err(HostRefusal::BadVersion.into());
    }
    let range = state.meta.network.range;
    let told = Runner {
        version: version.to_owned(),
        endpoints: usable_endpoints(runner, seen, endpoints, range)?,
        seen: seen.map(canonical).filter(|at| is_shown(*at, seen, range) == Ok(true)),
        silent: false,
        ..(**runner).clone()
    };
    let told = Runner { undrained: still_undrained(runner, held), ..told };
    at_most(limits::INSTANCES_ON_RUNNER, held.len(), "instances", format!("the runner `{}`", runner.name))?;

    let mut draft = Draft::new(state, now);
    if told != **runner {
        draft.put(Record::Runner(Arc::new(told)));
    }
    let (mut kept, mut adopted, mut rejected) = (BTreeSet::new(), Vec::new(), Vec::new());
    let mut adoption = Adoption::default();
    let mut once = BTreeSet::new();
    for told in held.iter().filter(|told| once.insert(told.instance)) {
        let taken_in = match state.instances.get(&told.instance) {
            Some(instance) => keep(&mut draft, runner, instance, told),
            None => {
                adoption.adopt(&mut draft, runner, told) && {
                    adopted.push(told.instance);
                    true
                }
            }
        };
        if taken_in {
            kept.insert(told.instance);
        } else {
            rejected.push(told.instance);
        }
    }
    let ended = draft.end_instances(state.instances_on(runner.id).filter(|i| !kept.contains(&i.id)));
    Ok(draft.decided(Outcome::Welcomed { ended, adopted, rejected }))
}

/// Whether what the runner holds is the instance that is known; then it is kept.
fn keep(draft: &mut Draft<'_>, runner: &Runner, instance: &Instance, told: &Held) -> bool {
    let state = draft.state;
    let same = instance.runner == runner.id
        && instance.address == told.address
        && state.service_at(&told.service).is_some_and(|service| service.id == instance.service);
    // What was drained stays so, whichever of the two remembers it; what no longer is as well.
    let told_so = told.draining && !runner.undrained.contains(&instance.id);
    let drained = told_so || instance.state == InstanceState::Draining;
    let wanted = state_of(told.client, drained);
    if same && instance.state != wanted {
        draft.put(Record::Instance(Arc::new(Instance { state: wanted, ..instance.clone() })));
    }
    same
}

/// The instances that one hello brings back.
#[derive(Default)]
struct Adoption {
    /// How many there are of each service: on the runner, and all in all.
    counted: BTreeMap<ServiceId, (usize, usize)>,
    /// How many more addresses each deployment may have.
    room: BTreeMap<DeploymentId, usize>,
}

/// The instances that were drained once and are so no longer, of which the agent says still that they are.
fn still_undrained(runner: &Runner, held: &[Held]) -> BTreeSet<InstanceId> {
    if runner.undrained.is_empty() {
        return BTreeSet::new();
    }
    let draining = held.iter().filter(|told| told.draining).map(|told| told.instance);
    draining.filter(|instance| runner.undrained.contains(instance)).collect()
}

impl Adoption {
    /// Takes in an instance that isn't known, as after a restore from a backup, if the runner could have been given it.
    fn adopt(&mut self, draft: &mut Draft<'_>, runner: &Runner, told: &Held) -> bool {
        let state = draft.state;
        let Some(service) = state.hosted_at(runner, &told.service) else { return false };
        let (here, there) = self.counted.entry(service.id).or_insert_with(|| {
            let here = state.instances_of(service.id).filter(|i| i.runner == runner.id).count();
            (here, state.number_of(service.id))
        });
        let InstanceId(number) = told.instance;
        let given_soon = number > 0 && number < state.meta.next.instance.saturating_add(limits::ADOPT_AHEAD);
        let room = self.room.entry(service.deployment).or_insert_with(|| {
            let home = state.deployments.get(&service.deployment);
            home.map_or(0, |home| state.room_for_addresses(&home.record, draft.now))
        });
        if !shares(*here, *there) || *room == 0 || !given_soon || !draft.adopt_address(told.address) {
            return false;
        }
        *room -= 1;
        (*here, *there) = (*here + 1, *there + 1);
        draft.next.instance = draft.next.instance.max(number + 1);
        draft.put(Record::Instance(Arc::new(Instance {
            id: told.instance,
            service: service.id,
            runner: runner.id,
            address: told.address,
            state: state_of(told.client, told.draining || runner.drained),
        })));
        true
    }
}
