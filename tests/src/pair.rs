//! Two runners that may talk to each other, with one instance each.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use mesh_engine::Map;
use mesh_proto::{
    Abilities, DeploymentId, Epoch, InstanceId, PrivateKey, Range, Record, Revision, RunnerId, ServiceId, View,
    relay::Relayed,
    view::{Deployment, Instance, InstanceState, Network, Runner, Service},
};

/// What is told of where a runner is, and of what its agent can do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// The addresses of its interfaces.
    pub endpoints: Vec<SocketAddr>,
    /// Its addresses as the outside sees them.
    pub reflexive: Vec<SocketAddr>,
    /// Its addresses at relays.
    pub relayed: Vec<Relayed>,
    /// What its agent can do.
    pub can: Abilities,
}

impl Told {
    /// A runner of version 0.1 at these addresses.
    #[must_use]
    pub fn at(endpoints: Vec<SocketAddr>) -> Self {
        Self { endpoints, ..Self::default() }
    }
}

/// The key of a runner.
#[must_use]
pub fn key(runner: usize) -> PrivateKey {
    PrivateKey::from_bytes([runner as u8 + 1; 32])
}

/// Where a runner is, where nothing is between.
#[must_use]
pub fn endpoint(runner: usize) -> SocketAddr {
    ([192, 0, 2, runner as u8], 51820).into()
}

/// The address of a runner's only instance.
#[must_use]
pub fn address(runner: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(Range::DEFAULT.first().to_bits() + 1000 + runner as u32)
}

/// The map of one of them.
///
/// # Panics
/// Never.
#[must_use]
pub fn map(runner: usize, mtu: u16, told: &[Told; 2]) -> Map {
    let network = Network { range: Range::DEFAULT, mtu };
    let mut view = View::empty(Epoch([0; 16]), Revision(1), RunnerId(runner as u64), network);
    view.put(Record::Deployment(Arc::new(Deployment {
        id: DeploymentId(1),
        name: "shop".parse().expect("a label"),
        team: "acme".parse().expect("a label"),
        trust_source: None,
    })));
    for (number, told) in told.iter().enumerate() {
        let id = number as u64;
        view.put(Record::Runner(Arc::new(Runner {
            id: RunnerId(id),
            name: format!("r{number}").parse().expect("a label"),
            provider: "here".parse().expect("a label"),
            public_key: key(number).public(),
            endpoints: told.endpoints.clone(),
            reflexive: told.reflexive.clone(),
            relayed: told.relayed.clone(),
            silent: false,
            can: told.can,
        })));
        view.put(Record::Service(Arc::new(Service {
            id: ServiceId(id),
            deployment: DeploymentId(1),
            name: format!("s{number}").parse().expect("a name"),
            address: Ipv4Addr::from_bits(Range::DEFAULT.first().to_bits() + 1 + number as u32),
            automatic_names: true,
        })));
        view.put(Record::Instance(Arc::new(Instance {
            id: InstanceId(id),
            service: ServiceId(id),
            runner: RunnerId(id),
            address: address(number),
            state: InstanceState::Live,
            release: None,
        })));
    }
    Map::compile(&view)
}
