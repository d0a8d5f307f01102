use hickory_proto::rr::RecordType;
use mesh_proto::{
    Revision,
    view::{InstanceState, Key},
};

use super::*;
use crate::{
    Transport, answer,
    testing::{self, WEB, ask, question, shop, show},
};

fn ask_of(directory: &Directory, name: &str, kind: RecordType) -> String {
    show(&answer(&question(name, kind).to_vec().unwrap(), directory, WEB, Transport::Tcp).unwrap())
}

#[test]
fn names_follow_the_view() {
    let mut view = shop();
    let before = Directory::of(&Arc::new(view.clone()), None);
    assert_eq!(ask_of(&before, "grpc.api.warp", RecordType::A), "100.112.0.4");
    let grant = Key::Grant { caller: DeploymentId(1), callee: ServiceId(4) };
    let delta = mesh_proto::Delta { from: Revision(7), to: Revision(8), put: vec![], remove: vec![grant] };
    view.apply(&delta).unwrap();
    let after = Directory::of(&Arc::new(view), Some(&before));
    for name in ["grpc.api.warp", "all.grpc.api.warp", "i-6.warp", "api.warp"] {
        assert_eq!(ask_of(&after, name, RecordType::A), "NXDomain (warp. SOA 5)", "{name}");
    }
    for name in ["6.0.127.100.in-addr.arpa", "4.0.112.100.in-addr.arpa"] {
        assert!(ask_of(&after, name, RecordType::PTR).starts_with("NXDomain"), "{name}");
    }
}

#[test]
fn instances_that_come_and_go_cost_no_table_of_names() {
    let mut view = shop();
    let before = Directory::of(&Arc::new(view.clone()), None);
    testing::instance(&mut view, 9, 2, 2, InstanceState::Live);
    let after = Directory::of(&Arc::new(view.clone()), Some(&before));
    assert!(before.zones.iter().all(|(id, zone)| Arc::ptr_eq(zone, &after.zones[id])));
    assert_eq!(ask_of(&after, "all.my-db.warp", RecordType::A), "100.127.0.4 100.127.0.3 100.127.0.9 100.127.0.2");
    testing::service(&mut view, 1, 40, "new");
    let last = Directory::of(&Arc::new(view), Some(&after));
    assert_eq!(ask_of(&last, "new.warp", RecordType::A), "100.112.0.40");
}

#[test]
fn services_that_see_the_same_share_a_table() {
    let mut view = shop();
    testing::instance(&mut view, 9, 3, 1, InstanceState::Live);
    let directory = Directory::of(&Arc::new(view), None);
    let zone = |service| &directory.zones[&ServiceId(service)];
    assert!(Arc::ptr_eq(zone(2), zone(3)), "db and app");
    assert!(!Arc::ptr_eq(zone(1), zone(2)), "web has an `ist` section");
}

#[test]
fn where_an_instance_has_the_resolvers_address_there_is_no_resolver() {
    let mut view = shop();
    assert_eq!(Directory::of(&Arc::new(view.clone()), None).address(), Some(testing::RESOLVER));
    let old = Instance {
        id: InstanceId(90),
        service: ServiceId(2),
        runner: mesh_proto::RunnerId(2),
        address: testing::RESOLVER,
        state: InstanceState::Live,
        release: None,
    };
    view.put(mesh_proto::Record::Instance(old.into()));
    assert_eq!(Directory::of(&Arc::new(view), None).address(), None);
}

#[test]
fn there_may_be_tens_of_thousands_of_names() {
    let mut view = shop();
    for id in 1000..17_384 {
        testing::service(&mut view, 1, id, &format!("s{id}"));
    }
    assert_eq!(ask(&view, "s17383.shop.warp", RecordType::A), "100.112.67.231");
    let directory = Directory::of(&Arc::new(view), None);
    assert_eq!(ask_of(&directory, "s1000", RecordType::A), "100.112.3.232", "beyond what a hosts file has room for");
}
