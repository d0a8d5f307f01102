//! A question allocates a bounded number of times, whatever the view holds: names don't count, records do.
#![allow(clippy::unwrap_used, reason = "a test fails by panics")]

use std::{net::Ipv4Addr, sync::Arc, time::Instant};

use mesh_dns::{Asker, Directory, Outcome};
use mesh_proto::{
    Abilities, DeploymentId, Epoch, InstanceId, PrivateKey, Range, Revision, RunnerId, ServiceId, View,
    view::{Deployment, Instance, InstanceState, Naming, Network, Record, Runner, Service},
};

#[path = "../../engine/tests/heap/mod.rs"]
mod heap;

const OWN: Ipv4Addr = Ipv4Addr::new(100, 127, 0, 1);
const RESOLVER: Ipv4Addr = Ipv4Addr::new(100, 127, 255, 254);
/// Those of the codec for a question and its records, and the packet's.
const BASE: u64 = 32;
/// Those of one record.
const RECORD: u64 = 3;

/// A runner with one instance, of `shop/web`, in a deployment of so many services and instances of `shop/db`.
fn view(services: u64, instances: u64) -> View {
    let network = Network { range: Range::DEFAULT, mtu: 1344 };
    let mut view = View::empty(Epoch([0; 16]), Revision(1), RunnerId(1), network);
    view.put(Record::Runner(Arc::new(Runner {
        id: RunnerId(1),
        name: "alpha".parse().unwrap(),
        provider: "here".parse().unwrap(),
        public_key: PrivateKey::from_bytes([1; 32]).public(),
        endpoints: vec![],
        silent: false,
        can: Abilities::NONE,
        reflexive: vec![],
        relayed: vec![],
    })));
    let (deployment, team) = (DeploymentId(1), "acme".parse().unwrap());
    view.put(Record::Deployment(
        Deployment { id: deployment, name: "shop".parse().unwrap(), team, trust_source: None }.into(),
    ));
    for id in 1..=services {
        let name = match id {
            1 => "web".to_owned(),
            2 => "db".to_owned(),
            _ => format!("service-{id}"),
        };
        let (id, name) = (ServiceId(id), name.parse().unwrap());
        let address = Ipv4Addr::from_bits(0x6470_0000 + u32::try_from(id.0).unwrap());
        view.put(Record::Service(Service { id, deployment, name, address, automatic_names: true }.into()));
        let port = Some(5432);
        view.put(Record::Naming(Naming { service: id, aliases: vec![], port, ist: vec![] }.into()));
    }
    for id in 1..=instances + 1 {
        let address = Ipv4Addr::from_bits(OWN.to_bits() - 1 + u32::try_from(id).unwrap());
        let (service, runner, state) = (ServiceId(if id == 1 { 1 } else { 2 }), RunnerId(1), InstanceState::Live);
        let id = InstanceId(id);
        view.put(Record::Instance(Instance { id, service, runner, address, state, release: None }.into()));
    }
    view
}

/// A question by UDP (RFC 1035 §4), as a kernel hands it over.
fn packet(name: &str, kind: u16) -> Vec<u8> {
    let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len()).unwrap());
        question.extend(label.as_bytes());
    }
    question.extend([0, 0]);
    question.extend([&kind.to_be_bytes()[1..], &[0, 1]].concat());
    let length = u16::try_from(question.len() + 8).unwrap();
    let mut packet = vec![0x45, 0];
    packet.extend((length + 20).to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend(OWN.octets());
    packet.extend(RESOLVER.octets());
    packet.extend(4000u16.to_be_bytes());
    packet.extend(53u16.to_be_bytes());
    packet.extend(length.to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(question);
    packet
}

#[test]
fn a_question_allocates_for_its_answer_and_not_for_what_there_is() {
    for (services, instances) in [(2, 1), (4000, 1), (2, 20)] {
        let directory = Directory::of(&Arc::new(view(services, instances)), None);
        let (now, mut asker) = (Instant::now(), Asker::new(InstanceId(1), 7));
        for (name, kind, records) in [
            ("db.warp", 1, 1),
            ("db", 1, 1),
            ("db.warp", 28, 1),
            ("none.warp", 1, 1),
            ("example.com", 1, 0),
            ("all.db.warp", 1, instances),
            ("_port._tcp.db.warp", 33, 1),
            ("2.0.112.100.in-addr.arpa", 12, 1),
            ("i-1.warp", 1, 1),
        ] {
            let packet = packet(name, kind);
            let (mut sent, before) = (0, heap::allocations());
            let outcome = asker.handle(&directory, &packet, now, &mut |_| sent += 1);
            let count = heap::allocations() - before;
            assert!(matches!(outcome, Outcome::Taken(_)) && sent == 1, "{name}: {outcome:?}");
            let bound = BASE + RECORD * records;
            assert!(count <= bound, "{name} {kind}: {count} of at most {bound}, with {services} services");
        }
    }
}
