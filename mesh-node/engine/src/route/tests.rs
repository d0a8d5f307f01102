use mesh_proto::{Record, view};

use super::*;
use crate::testing::{Builder, address, endpoint, key};

/// Service 1 has instances 11 (local), 12 and 13 (on runner 2). Service 2 has instance 21 (on runner 3).
fn builder() -> Builder {
    let builder = Builder::new(1).runner(1).runner(2).runner(3).deployment(1, "acme").service(1, 1).service(2, 1);
    builder.instance(11, 1, 1).instance(12, 1, 2).instance(13, 1, 2).instance(21, 2, 3)
}

#[test]
fn addresses_have_owners() {
    let route = builder().map().route;
    assert_eq!(route.owner(address(1)), Some(Owner::Service(ServiceIx(0))));
    assert_eq!(route.owner(address(21)), Some(Owner::Instance(InstanceIx(3))));
    assert_eq!(route.owner(address(99)), None);
    assert_eq!(route.runners.len(), 2, "this runner isn't in the list");
    assert_eq!(route.runner_by_key(&key(3).public()), Some(RunnerIx(1)));
    assert_eq!(route.runner_by_key(&key(1).public()), None);
}

#[test]
fn what_refers_to_something_unknown_is_left_out() {
    let route = builder().instance(31, 9, 1).instance(32, 1, 9).map().route;
    assert_eq!((route.owner(address(31)), route.owner(address(32))), (None, None));
}

#[test]
fn an_address_with_two_owners_has_none() {
    let mut builder = builder();
    let taken = view::Instance {
        id: InstanceId(14),
        service: ServiceId(1),
        runner: RunnerId(2),
        address: address(2),
        state: InstanceState::Live,
        release: None,
    };
    builder.0.put(Record::Instance(taken.clone().into()));
    assert_eq!(builder.map().route.owner(address(2)), None);
    builder.0.put(Record::Instance(view::Instance { address: [8, 8, 8, 8].into(), ..taken }.into()));
    let route = builder.map().route;
    assert_eq!(route.owner([8, 8, 8, 8].into()), None, "outside of the range");
    assert_eq!(route.owner(address(2)), Some(Owner::Service(ServiceIx(1))));
}

#[test]
fn a_source_is_on_the_runner_that_the_map_puts_it_on() {
    let route = builder().map().route;
    let is_on = |number, runner| route.is_on(route.owner(address(number)).unwrap(), RunnerIx(runner));
    assert!(is_on(12, 0) && !is_on(12, 1) && !is_on(11, 0));
    assert!(is_on(1, 0) && !is_on(1, 1), "a service is where its instances are");
    assert!(is_on(2, 1) && !is_on(2, 0));
}

#[test]
fn new_connections_go_to_live_instances_only() {
    use InstanceState::{Client, Draining};
    let route = builder().instance_that_is(Draining, 11, 1, 1).instance_that_is(Client, 21, 2, 3).map().route;
    let owner = |number| route.owner(address(number)).unwrap();
    let ids = |list: Vec<InstanceIx>| list.into_iter().map(|i| route.instances[i].id.0).collect::<Vec<_>>();
    let open_to = |number| ids(route.open_to(owner(number)).collect());
    let standing_at = |number| ids(route.standing_at(owner(number)).collect());
    assert_eq!(open_to(1), [12, 13], "not the draining one");
    assert_eq!(standing_at(1), [11, 12, 13], "a draining instance keeps its connections");
    assert_eq!((open_to(2), standing_at(2)), (vec![], vec![]), "a client is never a destination");
    assert_eq!((open_to(21), standing_at(21)), (vec![], vec![21]), "a client gets answers");
    assert_eq!(
        (open_to(13), open_to(11)),
        (vec![13], vec![]),
        "a draining instance gets none by its own address either"
    );
}

#[test]
fn mapped_addresses_are_not_other_addresses() {
    let mapped = "[::ffff:192.0.2.7]:51820".parse().unwrap();
    assert_eq!(canonical(mapped), endpoint(7));
    assert_eq!(canonical(endpoint(7)), endpoint(7));
    let labelled = std::net::SocketAddrV6::new("2001:db8::1".parse().unwrap(), 1, 77, 3);
    assert_eq!(canonical(labelled.into()), std::net::SocketAddrV6::new(*labelled.ip(), 1, 0, 3).into());
}
