//! A view for tests: the runner r-1 with an instance of each service of `shop`, which may call `api` and not `bank`.

use std::{net::Ipv4Addr, sync::Arc};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RecordType},
};
use mesh_proto::{
    Abilities, DeploymentId, Epoch, InstanceId, Ports, PrivateKey, Range, Revision, RunnerId, ServiceId, View,
    view::{Deployment, Grant, Instance, InstanceState, Ist, Naming, Network, Record, Runner, Service},
};

use crate::{Directory, Transport, answer};

/// The instance of `shop/web`, which asks.
pub(crate) const WEB: InstanceId = InstanceId(1);
pub(crate) const WEB_ADDRESS: Ipv4Addr = Ipv4Addr::new(100, 127, 0, 1);
pub(crate) const RESOLVER: Ipv4Addr = Ipv4Addr::new(100, 127, 255, 254);

pub(crate) fn shop() -> View {
    let network = Network { range: Range::DEFAULT, mtu: 1344 };
    let mut view = View::empty(Epoch([0; 16]), Revision(7), RunnerId(1), network);
    for id in 1..=3 {
        let public_key = PrivateKey::from_bytes([id as u8; 32]).public();
        view.put(Record::Runner(Arc::new(Runner {
            id: RunnerId(id),
            name: format!("r{id}").parse().unwrap(),
            provider: "here".parse().unwrap(),
            public_key,
            endpoints: vec![],
            silent: id == 3,
            can: Abilities::NONE,
            reflexive: vec![],
            relayed: vec![],
        })));
    }
    for (id, name) in [(1, "shop"), (2, "api"), (3, "bank")] {
        let (id, name, team) = (DeploymentId(id), name.parse().unwrap(), "acme".parse().unwrap());
        view.put(Record::Deployment(Deployment { id, name, team, trust_source: None }.into()));
    }
    service(&mut view, 1, 1, "web");
    service(&mut view, 1, 2, "my db");
    service(&mut view, 1, 3, "app");
    service(&mut view, 2, 4, "grpc");
    service(&mut view, 3, 5, "vault");
    let naming = |service, aliases: &[&str], port, ist| Naming {
        service: ServiceId(service),
        aliases: aliases.iter().map(|&alias| alias.to_owned()).collect(),
        port,
        ist,
    };
    let ist = Ist { service: "my db".parse().unwrap(), variables: vec![], hostnames: vec!["MySQL.local".to_owned()] };
    view.put(Record::Naming(naming(1, &[], None, vec![ist]).into()));
    view.put(Record::Naming(naming(2, &["store.old"], Some(5432), vec![]).into()));
    grant(&mut view, 4);
    instance(&mut view, 1, 1, 1, InstanceState::Live);
    instance(&mut view, 2, 2, 3, InstanceState::Live);
    instance(&mut view, 3, 2, 2, InstanceState::Live);
    instance(&mut view, 4, 2, 1, InstanceState::Live);
    instance(&mut view, 5, 2, 1, InstanceState::Draining);
    instance(&mut view, 6, 4, 2, InstanceState::Live);
    instance(&mut view, 7, 5, 2, InstanceState::Live);
    view
}

pub(crate) fn service(view: &mut View, deployment: u64, id: u64, name: &str) {
    let (id, deployment, name) = (ServiceId(id), DeploymentId(deployment), name.parse().unwrap());
    let address = Ipv4Addr::from_bits(0x6470_0000 + u32::try_from(id.0).unwrap());
    view.put(Record::Service(Service { id, deployment, name, address, automatic_names: true }.into()));
}

pub(crate) fn instance(view: &mut View, id: u64, service: u64, runner: u64, state: InstanceState) {
    let address = Ipv4Addr::from_bits(0x647f_0000 + u32::try_from(id).unwrap());
    let (id, service, runner) = (InstanceId(id), ServiceId(service), RunnerId(runner));
    view.put(Record::Instance(Instance { id, service, runner, address, state, release: None }.into()));
}

/// `shop` may call this service.
pub(crate) fn grant(view: &mut View, callee: u64) {
    let grant = Grant { caller: DeploymentId(1), callee: ServiceId(callee), ports: Ports::All };
    view.put(Record::Grant(grant.into()));
}

pub(crate) fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let mut name = Name::from_ascii(name).unwrap();
    name.set_fqdn(true);
    message.add_query(Query::query(name, kind));
    message
}

/// An answer as text: the code if it isn't NOERROR, then what is in the sections.
pub(crate) fn ask(view: &View, name: &str, kind: RecordType) -> String {
    let directory = Directory::of(&Arc::new(view.clone()), None);
    show(&answer(&question(name, kind).to_vec().unwrap(), &directory, WEB, Transport::Tcp).unwrap())
}

pub(crate) fn show(answer: &[u8]) -> String {
    let answer = Message::from_vec(answer).unwrap();
    assert_eq!((answer.id, answer.message_type), (0x1234, MessageType::Response));
    assert_eq!(answer.metadata.authoritative, answer.response_code != ResponseCode::Refused);
    let mut words = vec![];
    if answer.response_code != ResponseCode::NoError {
        words.push(format!("{:?}", answer.response_code));
    }
    for record in &answer.answers {
        assert_eq!((record.ttl, &record.name), (5, answer.queries[0].name()));
        words.push(record.data.to_string());
    }
    for record in &answer.authorities {
        words.push(format!("({} {} {})", record.name, record.record_type(), record.ttl));
    }
    for record in &answer.additionals {
        words.push(format!("+{} {}", record.name, record.data));
    }
    words.join(" ")
}
