//! The mesh of runner 1, in which the engine is fuzzed.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use mesh_proto::{
    Abilities, DeploymentId, Epoch, InstanceId, Ports, PrivateKey, Range, Record, Revision, RunnerId, ServiceId, View,
    view::{Deployment, Grant, Instance, InstanceState, Network, Runner, Service},
};

/// The local instances: 10 and 11 (a client) of service 1, 12 of service 2, 13 of service 3.
pub(crate) const OURS: [u64; 4] = [10, 11, 12, 13];

/// The parts of the mesh that come and go: a bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape(pub(crate) u8);

impl Shape {
    const TRUST: u8 = 1;
    const FAR_CALLEE: u8 = 2;
    const NEAR_CALLEE: u8 = 4;
    const CALLER: u8 = 8;
    const SILENT: u8 = 16;
    const MOVED: u8 = 32;
    const PEER: u8 = 64;
    const DRAINING: u8 = 128;

    /// With all parts that are there at the beginning.
    pub(crate) const FIRST: Self = Self(Self::TRUST | Self::FAR_CALLEE | Self::NEAR_CALLEE | Self::CALLER | Self::PEER);

    const fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    /// Service 1 is of deployment 1. Service 2 is of deployment 2, which deployment 1 may call on 5432, with local and
    /// remote instances. Service 3 is of deployment 1. Service 4 is of deployment 3, which no other may call and which
    /// may call service 3 of deployment 1. Service 5 is of deployment 4, of another team, to which the grant doesn't
    /// apply. Runner 2 has a WireGuard peer; runner 3 never answers.
    pub(crate) fn view(self, revision: u64) -> View {
        let network = Network { range: Range::DEFAULT, mtu: 1344 };
        let mut view = View::empty(Epoch([0; 16]), Revision(revision), RunnerId(1), network);
        for id in [1, 2, 3] {
            if id != 2 || self.has(Self::PEER) {
                view.put(Record::Runner(Arc::new(runner(id, id == 2 && self.has(Self::SILENT)))));
            }
        }
        for (id, team) in [(1, "acme"), (2, "acme"), (3, "acme"), (4, "evil")] {
            let (id, team) = (DeploymentId(id), team.parse().expect("a label"));
            view.put(Record::Deployment(Arc::new(Deployment { id, name: label(id.0), team, trust_source: None })));
        }
        for (id, deployment) in [(1, 1), (2, 2), (3, 1), (4, 3), (5, 4)] {
            view.put(Record::Service(Arc::new(Service {
                id: ServiceId(id),
                deployment: DeploymentId(deployment),
                name: format!("service{id}").parse().expect("a name"),
                address: address(id),
                automatic_names: true,
            })));
        }
        let callee = if self.has(Self::DRAINING) { InstanceState::Draining } else { InstanceState::Live };
        let home = if self.has(Self::MOVED) { 2 } else { 1 };
        let instances = [
            (self.has(Self::CALLER), 10, 1, 1, InstanceState::Live),
            (true, 11, 1, 1, InstanceState::Client),
            (self.has(Self::NEAR_CALLEE), 12, 2, 1, callee),
            (true, 13, 3, home, InstanceState::Live),
            (self.has(Self::FAR_CALLEE), 20, 2, 2, InstanceState::Live),
            (true, 21, 1, 2, InstanceState::Live),
            (true, 22, 4, 2, InstanceState::Live),
            (true, 23, 5, 2, InstanceState::Live),
            (true, 30, 2, 3, InstanceState::Live),
        ];
        for (_, id, service, runner, state) in instances.into_iter().filter(|(there, ..)| *there) {
            view.put(Record::Instance(Arc::new(Instance {
                id: InstanceId(id),
                service: ServiceId(service),
                runner: RunnerId(runner),
                address: address(id),
                state,
                release: None,
            })));
        }
        let mut grant = |caller, callee, ports| {
            let (caller, callee) = (DeploymentId(caller), ServiceId(callee));
            view.put(Record::Grant(Arc::new(Grant { caller, callee, ports })));
        };
        if self.has(Self::TRUST) {
            grant(1, 2, Ports::Only([5432].into()));
        }
        grant(3, 3, Ports::All);
        grant(4, 2, Ports::All);
        view
    }
}

/// The key of a runner.
pub(crate) fn key(runner: u64) -> PrivateKey {
    PrivateKey::from_bytes([runner as u8; 32])
}

/// The endpoint of a runner.
pub(crate) fn endpoint(runner: u64) -> SocketAddr {
    ([192, 0, 2, runner as u8], 51820).into()
}

/// The address of a service or an instance, by its number.
pub(crate) fn address(number: u64) -> Ipv4Addr {
    Ipv4Addr::from_bits(Range::DEFAULT.first().to_bits() + number as u32)
}

/// Interesting addresses.
pub(crate) fn addresses() -> Vec<Ipv4Addr> {
    let known = [1, 2, 3, 4, 5, 10, 11, 12, 13, 20, 21, 22, 23, 30, 99].map(address);
    let others = [[0, 0, 0, 0], [127, 0, 0, 1], [255; 4], [224, 0, 0, 1], [8, 8, 8, 8]].map(Ipv4Addr::from);
    known.into_iter().chain(others).collect()
}

fn runner(id: u64, silent: bool) -> Runner {
    let (name, public_key) = (label(id), key(id).public());
    Runner {
        id: RunnerId(id),
        name,
        provider: label(0),
        public_key,
        endpoints: vec![endpoint(id)],
        silent,
        // One is of version 0.1. There are no relays.
        can: if id == 3 { Abilities::NONE } else { Abilities::ALL },
        reflexive: vec![],
        relayed: vec![],
    }
}

fn label(number: u64) -> mesh_proto::Label {
    format!("n{number}").parse().expect("a label")
}
