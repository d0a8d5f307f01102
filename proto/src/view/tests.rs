use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::{RelayId, key::PrivateKey, rules::Rules};

fn id<T>(make: fn(u64) -> T) -> impl Strategy<Value = T>
where
    T: std::fmt::Debug,
{
    // Few numbers, so that views and deltas share records; and the ends of the range.
    prop_oneof![8 => 1_u64..6, 1 => Just(0), 1 => Just(u64::MAX)].prop_map(make)
}

fn label() -> impl Strategy<Value = Label> {
    "[a-z][a-z0-9]{0,4}".prop_filter_map("`localhost`", |text| text.parse().ok())
}

fn service_name() -> impl Strategy<Value = ServiceName> {
    "[^/\\p{Cc}]{1,6}".prop_filter_map("not a service's name", |text| text.parse().ok())
}

fn ports() -> impl Strategy<Value = Ports> {
    prop_oneof![Just(Ports::All), vec(any::<u16>(), 0..3).prop_map(|ports| Ports::Only(ports.into_iter().collect()))]
}

fn ist() -> impl Strategy<Value = Ist> {
    (service_name(), vec("[A-Z]{1,3}", 0..3), vec("[a-z.]{1,5}", 0..3))
        .prop_map(|(service, variables, hostnames)| Ist { service, variables, hostnames })
}

fn record() -> impl Strategy<Value = Record> {
    let state = prop_oneof![Just(InstanceState::Live), Just(InstanceState::Draining), Just(InstanceState::Client)];
    prop_oneof![
        (id(RunnerId), label(), label(), any::<[u8; 32]>(), vec(any::<SocketAddr>(), 0..3), any::<[bool; 2]>())
            .prop_map(|(id, name, provider, key, endpoints, [silent, able])| {
                let public_key = PrivateKey::from_bytes(key).public();
                let can = if able { Abilities::ALL } else { Abilities::NONE };
                // The flow label and scope of an IPv6 address mean nothing on another machine, and have no text.
                let endpoints: Vec<_> = endpoints.into_iter().map(|e| SocketAddr::new(e.ip(), e.port())).collect();
                let reflexive = if able { endpoints.clone() } else { vec![] };
                let relayed = reflexive.iter().map(|at| Relayed { relay: RelayId(id.0), address: *at }).collect();
                let runner = Runner { id, name, provider, public_key, endpoints, silent, can, reflexive, relayed };
                Record::Runner(runner.into())
            }),
        (id(DeploymentId), label(), label())
            .prop_map(|(id, name, team)| Record::Deployment(Deployment { id, name, team, trust_source: None }.into())),
        (id(ServiceId), id(DeploymentId), service_name(), any::<Ipv4Addr>(), any::<bool>()).prop_map(
            |(id, deployment, name, address, automatic_names)| {
                Record::Service(Service { id, deployment, name, address, automatic_names }.into())
            }
        ),
        (id(ServiceId), vec("[a-z.]{1,5}", 0..3), option::of(any::<u16>()), vec(ist(), 0..3))
            .prop_map(|(service, aliases, port, ist)| Record::Naming(Naming { service, aliases, port, ist }.into())),
        (id(InstanceId), id(ServiceId), id(RunnerId), any::<Ipv4Addr>(), state).prop_map(
            |(id, service, runner, address, state)| {
                Record::Instance(Instance { id, service, runner, address, state, release: None }.into())
            }
        ),
        (id(DeploymentId), id(ServiceId), ports())
            .prop_map(|(caller, callee, ports)| Record::Grant(Grant { caller, callee, ports }.into())),
    ]
}

fn view_of(revision: u64, records: &[Record]) -> View {
    let network = Network { range: Range::DEFAULT, mtu: 1344 };
    let mut view = View::empty(Epoch([7; 16]), Revision(revision), RunnerId(1), network);
    for record in records {
        view.put(record.clone());
    }
    view
}

fn view(revision: u64) -> impl Strategy<Value = View> {
    vec(record(), 0..30).prop_map(move |records| view_of(revision, &records))
}

/// An equal view without shared allocations, as on another machine.
fn over_the_wire<T: Serialize + for<'a> Deserialize<'a>>(value: &T) -> T {
    serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap()
}

proptest! {
    #[test]
    fn a_view_and_its_delta_are_the_next_view(old in view(4), next in view(9)) {
        let delta = over_the_wire(&old.delta_to(&next));
        prop_assert_eq!((delta.from, delta.to), (Revision(4), Revision(9)));
        let mut arrived = over_the_wire(&old);
        arrived.apply(&delta).unwrap();
        prop_assert_eq!(&arrived, &next);
        prop_assert!(arrived.delta_to(&next).is_empty(), "nothing is sent twice");
    }

    #[test]
    fn deltas_hold_what_changed_and_nothing_else(kept in vec(record(), 0..20), added in vec(record(), 0..5)) {
        let old = view_of(1, &kept);
        let next = view_of(2, &[kept, added.clone()].concat());
        let delta = old.delta_to(&next);
        prop_assert!(delta.remove.is_empty());
        prop_assert!(delta.put.len() <= added.len());
        prop_assert!(delta.put.iter().all(|record| added.contains(record)));
        let back = next.delta_to(&old);
        prop_assert!(back.put.len() + back.remove.len() == delta.put.len(), "each change is taken back by one");
    }

    #[test]
    fn a_delta_that_does_not_follow_changes_nothing(
        old in view(5),
        put in vec(record(), 0..5),
        from in 0_u64..10,
        to in 0_u64..10,
    ) {
        let remove = old.records().map(Record::key).collect();
        let delta = Delta { from: Revision(from), to: Revision(to), put, remove };
        let mut view = old.clone();
        match view.apply(&delta) {
            Ok(()) => prop_assert!(from == 5 && to >= 5 && view.revision == Revision(to)),
            Err(gap) => {
                prop_assert!(from != 5 || to < 5);
                prop_assert_eq!(gap, Gap { from: Revision(from), to: Revision(to), have: Revision(5) });
                prop_assert_eq!(view, old);
            }
        }
    }

    #[test]
    fn a_delta_in_pieces_leads_to_the_same_view(a in view(1), b in view(2), c in view(3)) {
        let mut stepwise = a.clone();
        stepwise.apply(&a.delta_to(&b)).unwrap();
        stepwise.apply(&b.delta_to(&c)).unwrap();
        let mut at_once = a.clone();
        at_once.apply(&a.delta_to(&c)).unwrap();
        prop_assert_eq!(stepwise, at_once);
    }

    #[test]
    fn views_and_keys_are_read_back_as_written(view in view(3)) {
        prop_assert_eq!(&over_the_wire(&view), &view);
        for record in view.records() {
            prop_assert_eq!(over_the_wire(&record.key()), record.key());
        }
    }

    #[test]
    fn every_record_is_found_by_its_key_and_listed_once(view in view(3)) {
        let listed = view.runners().count()
            + view.deployments().count()
            + view.services().count()
            + view.namings().count()
            + view.instances().count()
            + view.grants().count();
        prop_assert_eq!(listed, view.records().count());
        for record in view.records() {
            let found = match record {
                Record::Runner(r) => view.runner(r.id) == Some(r),
                Record::Deployment(d) => view.deployment(d.id) == Some(d),
                Record::Service(s) => view.service(s.id) == Some(s),
                Record::Naming(n) => view.naming(n.service) == Some(n),
                Record::Instance(i) => view.instance(i.id) == Some(i),
                Record::Grant(g) => View::grant(&view, g.caller, g.callee) == Some(g),
            };
            prop_assert!(found, "{record:?}");
        }
    }

    #[test]
    fn no_text_makes_the_decoders_panic(text in "\\PC{0,200}", bytes in vec(any::<u8>(), 0..200)) {
        let _ = (serde_json::from_str::<View>(&text), serde_json::from_str::<Delta>(&text));
        let _ = (serde_json::from_slice::<View>(&bytes), serde_json::from_slice::<Record>(&bytes));
    }
}

#[test]
fn an_empty_view_grants_nothing() {
    let view = view_of(1, &[]);
    assert_eq!(view.records().count(), 0);
    assert_eq!(Rules::deployment_of(&view, ServiceId(1)), None);
    assert_eq!(
        crate::rules::may_open(&view, ServiceId(1), ServiceId(1), 80),
        Err(crate::rules::Denial::UnknownService)
    );
}

#[test]
fn a_service_whose_deployment_is_not_known_is_not_called() {
    let service = |id, deployment| {
        let (id, deployment, name) = (ServiceId(id), DeploymentId(deployment), "a".parse().unwrap());
        Record::Service(Service { id, deployment, name, address: Ipv4Addr::LOCALHOST, automatic_names: true }.into())
    };
    let grant = Grant { caller: DeploymentId(1), callee: ServiceId(20), ports: Ports::All };
    let view = view_of(1, &[service(10, 1), service(20, 2), Record::Grant(grant.into())]);
    let verdict = crate::rules::may_open(&view, ServiceId(10), ServiceId(20), 80);
    assert_eq!(verdict, Err(crate::rules::Denial::UnknownService), "the teams can't be compared");
}

#[test]
fn a_record_of_a_kind_not_known_is_an_error() {
    let error = serde_json::from_str::<Record>(r#"{"kind":"relay","id":"r-1"}"#).unwrap_err().to_string();
    assert!(error.contains("relay"), "{error}");
}

#[test]
fn addresses_that_are_none_of_the_mesh_are_left_out() {
    let network = Network { range: Range::DEFAULT, mtu: 1344 };
    let mut view = View::empty(Epoch([0; 16]), Revision(1), RunnerId(1), network);
    for (id, address) in [(1, [100, 112, 0, 1]), (2, [203, 0, 113, 66]), (3, [127, 0, 0, 1]), (4, [100, 112, 0, 0])] {
        let (service, deployment) = (ServiceId(id), DeploymentId(1));
        let name = "db".parse().unwrap();
        view.put(Record::Service(
            Service { id: service, deployment, name, address: address.into(), automatic_names: true }.into(),
        ));
        let (state, runner) = (InstanceState::Live, RunnerId(1));
        view.put(Record::Instance(
            Instance { id: InstanceId(id), service, runner, address: address.into(), state, release: None }.into(),
        ));
    }
    assert_eq!(view.sift().len(), 6);
    assert_eq!((view.services().count(), view.instances().count(), view.sift()), (1, 1, vec![]));
}

#[test]
fn reflexive_and_relayed_addresses_that_cannot_be_or_are_too_many_are_left_out() {
    let network = Network { range: Range::DEFAULT, mtu: 1344 };
    let mut view = View::empty(Epoch([0; 16]), Revision(1), RunnerId(1), network);
    let bad = ["0.0.0.0:1", "192.0.2.1:0", "224.0.0.1:1", "100.112.0.9:1", "169.254.1.1:1", "[64:ff9b::7f00:1]:5"];
    let addresses = bad.into_iter().map(|text| text.parse().unwrap());
    let addresses: Vec<SocketAddr> = addresses.chain((1..=20).map(|n| ([192, 0, 2, 1], n).into())).collect();
    view.put(Record::Runner(Arc::new(Runner {
        id: RunnerId(7),
        name: "a".parse().unwrap(),
        provider: "b".parse().unwrap(),
        public_key: PrivateKey::from_bytes([1; 32]).public(),
        endpoints: vec![],
        silent: false,
        can: Abilities::ALL,
        relayed: addresses.iter().map(|at| Relayed { relay: RelayId(1), address: *at }).collect(),
        reflexive: addresses,
    })));
    assert_eq!(view.sift(), vec![], "the runner itself stays");
    let runner = Arc::clone(view.runner(RunnerId(7)).unwrap());
    assert_eq!(runner.reflexive, (1..=8).map(|n| ([192, 0, 2, 1], n).into()).collect::<Vec<SocketAddr>>());
    assert_eq!(runner.relayed.iter().map(|at| at.address.port()).collect::<Vec<_>>(), [1, 2, 3, 4]);
    view.sift();
    assert!(Arc::ptr_eq(&runner, view.runner(RunnerId(7)).unwrap()), "nothing is left to trim");
}
