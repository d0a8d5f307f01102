//! Who there is: runners, instances, and what the maps say.

use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc};

use mesh_engine::{Map, Port};
use mesh_proto::{
    Abilities, Ability, DeploymentId, Epoch, InstanceId, Ports, Range, Record, Revision, RunnerId, ServiceId, View,
    view::{Deployment, Grant, Instance, InstanceState, Network, Runner, Service},
};

use crate::{
    pair::{endpoint, key},
    rng::Rng,
};

pub(super) const MTU: u16 = 1344;

/// The deployment that is called. Those that call follow.
const CALLED: u64 = 1;
const CALLING: std::ops::Range<u64> = 2..5;

/// An instance, which is alone in its service.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seat {
    pub(super) runner: usize,
    pub(super) deployment: u64,
}

#[derive(Debug)]
pub(super) struct Plan {
    /// How many lanes each runner has, with its engine's own.
    pub(super) lanes: Vec<usize>,
    /// What the agent of each runner can do.
    can: Vec<Abilities>,
    pub(super) seats: Vec<Seat>,
    /// The deployments that may call.
    pub(super) granted: BTreeSet<u64>,
}

impl Plan {
    pub(super) fn new(rng: &mut Rng) -> Self {
        let runners = if rng.chance(20) { 3 } else { 2 };
        let old = rng.chance(8).then(|| rng.below(runners) as usize);
        let lanes = (0..runners as usize).map(|runner| match rng.below(10) {
            _ if old == Some(runner) => 1,
            0..3 => 1 + rng.below(4) as usize,
            _ => 2 + rng.below(3) as usize,
        });
        let lanes = lanes.collect();
        let can = |runner| if old == Some(runner) { Abilities::ALL.without(Ability::Lanes) } else { Abilities::ALL };
        let can = (0..runners as usize).map(can).collect();
        let mut seats = vec![];
        for runner in 0..runners as usize {
            seats.extend((0..1 + rng.below(2)).map(|_| Seat { runner, deployment: CALLED }));
            seats.extend(CALLING.take(2 + rng.below(2) as usize).map(|deployment| Seat { runner, deployment }));
        }
        Self { lanes, can, seats, granted: CALLING.collect() }
    }

    /// Gives every deployment its right. Returns whether one lacked it.
    pub(super) fn grant_all(&mut self) -> bool {
        let lacking = self.granted.len() < CALLING.count();
        self.granted.extend(CALLING);
        lacking
    }

    /// Two instances on different runners, the caller first.
    pub(super) fn pair(&self, rng: &mut Rng) -> (usize, usize) {
        loop {
            let [caller, callee] = [0; 2].map(|_: i32| rng.below(self.seats.len() as u64) as usize);
            let (from, to) = (self.seats[caller], self.seats[callee]);
            if from.runner != to.runner && to.deployment == CALLED && self.granted.contains(&from.deployment) {
                return (caller, callee);
            }
        }
    }

    pub(super) fn port(seat: usize) -> Port {
        Port(seat as u32 + 1)
    }

    /// The instances of a runner.
    pub(super) fn of(&self, runner: usize) -> impl Iterator<Item = usize> {
        (0..self.seats.len()).filter(move |seat| self.seats[*seat].runner == runner)
    }

    pub(super) fn address(seat: usize) -> Ipv4Addr {
        Ipv4Addr::from_bits(Range::DEFAULT.first().to_bits() + 1000 + seat as u32)
    }

    pub(super) fn service_address(seat: usize) -> Ipv4Addr {
        Ipv4Addr::from_bits(Range::DEFAULT.first().to_bits() + 1 + seat as u32)
    }

    /// What a runner is told. `stranger`: a runner with another key than its own.
    pub(super) fn map(&self, runner: usize, revision: u64, stranger: Option<usize>) -> Map {
        let network = Network { range: Range::DEFAULT, mtu: MTU };
        let mut view = View::empty(Epoch([0; 16]), Revision(revision), RunnerId(runner as u64), network);
        for number in CALLED..CALLING.end {
            view.put(Record::Deployment(Arc::new(Deployment {
                id: DeploymentId(number),
                name: format!("d{number}").parse().expect("a label"),
                team: "acme".parse().expect("a label"),
                trust_source: None,
            })));
        }
        for (number, can) in self.can.iter().enumerate() {
            view.put(Record::Runner(Arc::new(Runner {
                id: RunnerId(number as u64),
                name: format!("r{number}").parse().expect("a label"),
                provider: "here".parse().expect("a label"),
                public_key: key(if stranger == Some(number) { 200 } else { number }).public(),
                endpoints: vec![endpoint(number)],
                reflexive: vec![],
                relayed: vec![],
                silent: false,
                can: *can,
            })));
        }
        for (seat, Seat { runner, deployment }) in self.seats.iter().enumerate() {
            let id = seat as u64;
            view.put(Record::Service(Arc::new(Service {
                id: ServiceId(id),
                deployment: DeploymentId(*deployment),
                name: format!("s{id}").parse().expect("a name"),
                address: Self::service_address(seat),
                automatic_names: true,
            })));
            view.put(Record::Instance(Arc::new(Instance {
                id: InstanceId(id),
                service: ServiceId(id),
                runner: RunnerId(*runner as u64),
                address: Self::address(seat),
                state: InstanceState::Live,
                release: None,
            })));
            for caller in self.granted.iter().filter(|_| *deployment == CALLED) {
                let (caller, callee) = (DeploymentId(*caller), ServiceId(id));
                view.put(Record::Grant(Arc::new(Grant { caller, callee, ports: Ports::All })));
            }
        }
        Map::compile(&view)
    }
}
