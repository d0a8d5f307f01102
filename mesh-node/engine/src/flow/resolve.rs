//! Whether a map allows a flow, and where its ends are in that map.

use mesh_proto::{Direction, rules};

use super::{
    end::{Location, Target},
    entry::Resolved,
    pins::Pin,
};
use crate::{
    filter::Filter,
    index::{InstanceIx, ServiceIx},
    route::{Owner, Route, RunsOn},
};

/// Looks up a flow in a map. `None` if one of its ends or the right to it is gone.
pub(super) fn resolve(pin: &Pin, route: &Route, filter: &Filter) -> Option<Resolved> {
    let CallerSide { to_caller, caller, callee, service } = caller_side(pin, route, filter)?;
    let to_callee = target(pin.callee_location, route)?;
    if matches!((to_caller, to_callee), (Target::Runner(_), Target::Runner(_))) {
        return None;
    }
    let stands = match callee {
        Owner::Instance(callee) => is_at(callee, to_callee, route),
        Owner::Service(_) => route.takers(service).any(|callee| is_at(callee, to_callee, route)),
    };
    let services = [route.instances[caller].service, service];
    let deployments = services.map(|service| filter.deployment(service));
    let preferred = route.preferred(Owner::Instance(caller), service);
    stands.then_some(Resolved { services, preferred, targets: [to_caller, to_callee], deployments })
}

/// The caller's side of a flow in a map.
pub(super) struct CallerSide {
    to_caller: Target,
    caller: InstanceIx,
    callee: Owner,
    /// The callee's service.
    service: ServiceIx,
}

/// Looks up the caller's side of a flow in a map. `None` if the caller is gone or may no longer call.
pub(super) fn caller_side(pin: &Pin, route: &Route, filter: &Filter) -> Option<CallerSide> {
    let to_caller = target(pin.caller_location, route)?;
    let Owner::Instance(caller) = route.owner(pin.caller.address)? else { return None };
    let instance = &route.instances[caller];
    // The address may belong to another instance by now.
    if instance.id != pin.caller_is || !is_at(caller, to_caller, route) {
        return None;
    }
    let callee = route.owner(pin.callee.address)?;
    let service = route.service_of(callee);
    let segment = rules::Segment { source_port: pin.caller.port, destination_port: pin.callee.port, opens: true };
    let allowed = filter.verdict(instance.service, service, segment) == Ok(Direction::Call);
    allowed.then_some(CallerSide { to_caller, caller, callee, service })
}

fn target(location: Location, route: &Route) -> Option<Target> {
    match location {
        Location::Here(instance) => route.local(instance).map(Target::Instance),
        Location::There(runner) => route.runner(runner).map(Target::Runner),
    }
}

fn is_at(instance: InstanceIx, target: Target, route: &Route) -> bool {
    match (route.instances[instance].runs_on, target) {
        (RunsOn::ThisRunner, Target::Instance(at)) => at == instance,
        (RunsOn::Runner(on), Target::Runner(runner)) => on == runner,
        _ => false,
    }
}
