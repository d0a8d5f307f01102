//! Whether a flow may go on in a map, and where its ends are there.

use mesh_proto::{Direction, rules};

use super::{Resolved, Seat, Way, pins::Pin};
use crate::{
    filter::Filter,
    route::{Owner, Place, Route},
};

/// Both ends of a flow in a map, if they are still there and the right still is.
pub(super) fn resolve(pin: &Pin, route: &Route, filter: &Filter) -> Option<Resolved> {
    let Right { to_caller, caller, callee, service } = right(pin, route, filter)?;
    let to_callee = way(pin.callee_seat, route)?;
    if matches!((to_caller, to_callee), (Way::Runner(_), Way::Runner(_))) {
        return None;
    }
    let stands = match callee {
        Owner::Instance(callee) => is_there(callee, to_callee, route),
        Owner::Service(_) => route.takers(service).any(|callee| is_there(callee, to_callee, route)),
    };
    let deployments = [caller, service].map(|service| filter.deployment(service));
    stands.then_some(Resolved { service, ways: [to_caller, to_callee], deployments })
}

/// The caller's side of a flow in a map.
pub(super) struct Right {
    to_caller: Way,
    /// The service that calls.
    caller: u32,
    callee: Owner,
    service: u32,
}

/// The caller's side of a flow in a map, if the caller is still there and may still call.
pub(super) fn right(pin: &Pin, route: &Route, filter: &Filter) -> Option<Right> {
    let to_caller = way(pin.caller_seat, route)?;
    // An address may have been given to another instance.
    let Owner::Instance(caller) = route.owner(pin.caller.address)? else { return None };
    let instance = &route.instances[caller as usize];
    if instance.id != pin.caller_is || !is_there(caller, to_caller, route) {
        return None;
    }
    let callee = route.owner(pin.callee.address)?;
    let service = route.service_of(callee);
    let segment = rules::Segment { source_port: pin.caller.port, destination_port: pin.callee.port, opens: true };
    let allowed = filter.verdict(instance.service, service, segment) == Ok(Direction::Call);
    allowed.then_some(Right { to_caller, caller: instance.service, callee, service })
}

/// A seat in a map.
fn way(seat: Seat, route: &Route) -> Option<Way> {
    match seat {
        Seat::Here(instance) => route.here(instance).map(Way::Instance),
        Seat::There(runner) => route.runner(runner).map(Way::Runner),
    }
}

fn is_there(instance: u32, way: Way, route: &Route) -> bool {
    match (route.instances[instance as usize].place, way) {
        (Place::Here, Way::Instance(at)) => at == instance,
        (Place::There(on), Way::Runner(runner)) => on == runner,
        _ => false,
    }
}
