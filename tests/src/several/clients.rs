//! The clients, and what they ask of coordinators.

use std::{collections::BTreeSet, time::Duration};

use mesh_model::{
    Admin, AdminCommand, Command, TrustChange,
    declare::{Declaration, Declared, Deployment, File},
};
use mesh_proto::{Ports, Revision, RunnerId, ServiceName};

use super::{
    Bug,
    event::{Event, Input},
    member::{Ended, Refreshed, Then},
    truth::{DEPLOYMENTS, joining},
    world::World,
};
use crate::{
    reference::Reference,
    waits::{
        operations::PORTS,
        world::{deployment_name, label},
    },
};

pub(super) const SERVICES: usize = 2;

/// What a client asks for.
pub(super) struct Order {
    what: What,
    /// What was known to be confirmed then: the answer may not be of an earlier state.
    floor: Revision,
    /// How long to wait for all to confirm it.
    wait: Option<Duration>,
    /// What the answer says.
    revision: Option<Revision>,
}

pub(super) enum What {
    Trust { callee: usize, caller: usize, port: Option<u16>, add: bool },
    Deploy { app: usize, services: BTreeSet<usize> },
    Remove(RunnerId),
    Read,
}

impl World {
    pub(super) fn order_trust(&mut self, callee: usize, wait: Option<Duration>) {
        let caller = (callee + 1 + self.rng.below(DEPLOYMENTS as u64 - 1) as usize) % DEPLOYMENTS;
        let add = self.rng.chance(55);
        let port = self.rng.chance(40).then_some(PORTS[0]);
        self.order(What::Trust { callee, caller, port, add }, wait);
    }

    pub(super) fn order(&mut self, what: What, wait: Option<Duration>) {
        let (id, member) = (self.number(), self.rng.below(self.members.len() as u64) as usize);
        self.orders.insert(id, Order { what, floor: self.truth.floor, wait, revision: None });
        if self.members[member].answers() {
            let pause = self.latency();
            self.input_after(pause, member, Input::Order(id));
        }
    }

    pub(super) fn take_order(&mut self, member: usize, order: u64) {
        let now = self.instant();
        let Some(program) = &self.members[member].program else { return };
        if program.is_stale(now) {
            self.tally.refused += 1;
        } else if self.bug == Some(Bug::StaleServed) {
            self.order_fresh(member, order);
        } else {
            self.refresh(member, Refreshed::Order(order));
        }
    }

    /// The coordinator knows all that was confirmed before the order.
    pub(super) fn order_fresh(&mut self, member: usize, id: u64) {
        let Some(program) = &self.members[member].program else { return };
        let revision = program.state.revision();
        let Some(order) = self.orders.get(&id) else { return };
        let what = match &order.what {
            What::Read => return self.check_floor(member, id, revision),
            What::Trust { callee, caller, port, add } => {
                let ports = port.map_or(Ports::All, |port| Ports::Only([port].into()));
                let change = match add {
                    true => TrustChange::Add { callers: [deployment_name(*caller)].into(), services: None, ports },
                    false => TrustChange::Clear,
                };
                AdminCommand::Trust { deployment: deployment_name(*callee), change }
            }
            What::Deploy { app, services } => {
                AdminCommand::Apply { files: vec![whole(*app, services)], dry_run: false, force: true, prune: None }
            }
            What::Remove(runner) => {
                let Some(runner) = program.state.runner(*runner) else { return };
                AdminCommand::RemoveNode { name: runner.name.clone(), force: true }
            }
        };
        self.submit(member, Command::Admin { by: Admin::socket(0), what }, None, Then::Order(id));
    }

    fn check_floor(&mut self, member: usize, id: u64, revision: Revision) {
        let floor = self.orders.get(&id).map_or(Revision(0), |order| order.floor);
        if revision < floor {
            self.wrong(format!("coordinator {member} answers as of {revision}, and {floor} was confirmed before"));
        }
    }

    pub(super) fn order_ended(&mut self, member: usize, id: u64, ended: Ended) {
        let revision = match ended {
            Ended::Done(_, revision) => revision,
            Ended::Refused => return,
            Ended::Failed(error) => {
                self.tally.lost += 1;
                return self.note(format!("coordinator {member} cannot carry an order out: {error}"));
            }
        };
        self.check_floor(member, id, revision);
        let Some(order) = self.orders.get(&id) else { return };
        match (order.wait, &order.what) {
            (Some(patience), What::Trust { callee, .. }) => {
                self.begin_wait(member, (id, *callee), revision, patience);
            }
            _ => self.reply(id, revision),
        }
    }

    /// An answer goes to a client.
    pub(super) fn reply(&mut self, id: u64, revision: Revision) {
        let pause = self.latency();
        if let Some(order) = self.orders.get_mut(&id) {
            order.revision = Some(revision);
            self.after(pause, Event::Answered(id));
        }
    }

    /// The client has its answer.
    pub(super) fn answered(&mut self, id: u64) {
        if let Some(Order { revision: Some(revision), .. }) = self.orders.remove(&id) {
            self.truth.floor = self.truth.floor.max(revision);
        }
    }

    /// A client's order was committed: this is what the operators want from now on.
    pub(super) fn refer(&mut self, id: u64, revision: Revision) {
        let last = self.truth.history.last_key_value().map(|(_, last)| last);
        let mut next = Reference {
            teams: last.map(|last| last.teams.clone()).unwrap_or_default(),
            services: last.map(|last| last.services.clone()).unwrap_or_default(),
            trust: last.map(|last| last.trust.clone()).unwrap_or_default(),
        };
        let Some(order) = self.orders.get(&id) else { return };
        let note = match &order.what {
            What::Trust { callee, caller, port, add: true } => {
                next.trust.insert((*callee, *caller, *port));
                format!("{callee} trusts {caller} on {port:?}")
            }
            What::Trust { callee, .. } => {
                next.trust.retain(|(deployment, ..)| deployment != callee);
                format!("{callee} trusts none")
            }
            What::Deploy { app, services } => format!("{app} is deployed with {services:?}"),
            What::Remove(runner) => {
                let runner = *runner;
                self.agents.remove(&runner);
                self.after(Duration::from_millis(100), Event::Enrol);
                format!("{runner} is removed")
            }
            What::Read => String::new(),
        };
        self.truth.history.insert(revision, next);
        self.note(format!("{revision}: {note}"));
    }

    /// A machine joins.
    pub(super) fn enrol(&mut self) {
        let member = self.rng.below(self.members.len() as u64) as usize;
        let name = format!("later{}", self.number());
        let (create, enrolment) = joining(&mut self.rng, &name);
        if self.members[member].program.is_none() {
            return self.after(Duration::from_secs(1), Event::Enrol);
        }
        self.submit(member, create, None, Then::Token(Box::new(enrolment)));
        self.go_on(member);
    }
}

/// A file with a deployment.
pub(super) fn whole(app: usize, services: &BTreeSet<usize>) -> File {
    let whole = Deployment {
        name: deployment_name(app),
        team: Some(label("acme")),
        expose: None,
        trust: None,
        services: services.iter().map(|service| (service_name(*service), Declared::default())).collect(),
    };
    File { name: "mesh.toml".to_owned(), declaration: Declaration::Whole(whole) }
}

pub(super) fn service_name(number: usize) -> ServiceName {
    format!("service{number}").parse().expect("a name")
}
