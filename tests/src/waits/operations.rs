//! What happens to the world: one random operation after the other.

use std::{collections::BTreeSet, time::Duration};

use mesh_model::{
    AdminCommand, Command, Outcome, RunnerCommand, TrustChange,
    declare::{Declaration, Declared, Deployment, File},
};
use mesh_proto::{Ports, Revision, ServiceName, ServicePath};

use super::{
    Bug,
    agent::Pace,
    world::{RUNNERS, World, deployment_name, label},
};
use crate::{Failure, reference::Reference};

const DEPLOYMENTS: u64 = 3;
const SERVICES: usize = 2;
/// The only port that a port rule ever names, and one that none does.
pub(crate) const PORTS: [u16; 2] = [5432, 80];

impl World {
    /// One random operation, and a little time.
    pub(super) fn operate(&mut self) -> Result<(), Failure> {
        match self.rng.below(100) {
            0..8 => self.deploy(),
            8..40 => self.trust(),
            40..45 => {
                let (app, patience) = (self.some_deployment(), self.patience());
                self.wait(app, self.coordinator.state.revision(), patience);
            }
            45..60 => self.attach(),
            60..65 => self.detach(),
            65..77 => {
                if let Some(runner) = self.some_runner() {
                    self.note(format!("the stream of {runner} breaks"));
                    self.break_stream(runner);
                }
            }
            77..82 => {
                if let Some(runner) = self.some_runner() {
                    self.note(format!("the agent of {runner} restarts"));
                    self.restart_agent(runner);
                }
            }
            82..90 => self.change_pace(),
            90..94 => self.change_disk(),
            94..96 => self.remove(),
            96..97 => self.restart_coordinator(),
            97..98 => self.run_for(Duration::from_secs(60))?,
            _ => return self.calm(),
        }
        let pause = Duration::from_millis(self.rng.below(1500));
        self.run_for(pause)
    }

    fn some_deployment(&mut self) -> usize {
        self.rng.below(DEPLOYMENTS) as usize
    }

    fn patience(&mut self) -> Duration {
        Duration::from_millis(*self.rng.pick(&[50, 1000, 10_000]).unwrap_or(&0))
    }

    /// The operators have asked for something else, as of the last commit.
    fn refer(&mut self, change: impl FnOnce(&mut Reference)) {
        let last = self.history.last_key_value().map(|(_, last)| last);
        let mut next = Reference {
            teams: last.map(|last| last.teams.clone()).unwrap_or_default(),
            services: last.map(|last| last.services.clone()).unwrap_or_default(),
            trust: last.map(|last| last.trust.clone()).unwrap_or_default(),
        };
        change(&mut next);
        self.history.insert(self.coordinator.state.revision(), next);
    }

    fn deploy(&mut self) {
        let app = self.some_deployment();
        let services: BTreeSet<usize> = (0..SERVICES).filter(|_| self.rng.chance(75)).collect();
        let whole = Deployment {
            name: deployment_name(app),
            team: Some(label("acme")),
            expose: None,
            trust: None,
            services: services.iter().map(|service| (service_name(*service), Declared::default())).collect(),
        };
        let file = File { name: "mesh.toml".to_owned(), declaration: Declaration::Whole(whole) };
        if self.order(AdminCommand::Apply { files: vec![file], dry_run: false, force: true, prune: None }).is_some() {
            self.note(format!("deploy {app} with {services:?}"));
            self.refer(|reference| {
                reference.teams.insert(app, 0);
                reference.services.retain(|(deployment, _)| *deployment != app);
                reference.services.extend(services.iter().map(|service| (app, *service)));
            });
        }
    }

    /// A change of trust; most are waited for.
    fn trust(&mut self) {
        let (callee, caller) = (self.some_deployment(), self.some_deployment());
        let add = self.rng.chance(55);
        let before = self.coordinator.state.revision();
        if self.change_trust(callee, caller, add) && self.rng.chance(70) {
            let after = self.coordinator.state.revision();
            let patience = self.patience();
            self.wait(callee, if self.bug == Some(Bug::RevisionBefore) { before } else { after }, patience);
        }
    }

    fn change_trust(&mut self, callee: usize, caller: usize, add: bool) -> bool {
        let port = self.rng.chance(40).then_some(PORTS[0]);
        let ports = port.map_or(Ports::All, |port| Ports::Only([port].into()));
        let change = if add {
            TrustChange::Add { callers: [deployment_name(caller)].into(), services: None, ports }
        } else {
            TrustChange::Clear
        };
        if self.order(AdminCommand::Trust { deployment: deployment_name(callee), change }).is_none() {
            return false;
        }
        self.note(format!("{callee} {} {caller} on {port:?}", if add { "trusts" } else { "trusts none, not even" }));
        self.refer(|reference| {
            if add {
                reference.trust.insert((callee, caller, port));
            } else {
                reference.trust.retain(|(deployment, ..)| *deployment != callee);
            }
        });
        true
    }

    fn attach(&mut self) {
        let Some(runner) = self.some_runner().filter(|runner| self.agents[runner].stream.is_some()) else { return };
        let app = self.some_deployment();
        let service = self.rng.below(SERVICES as u64) as usize;
        let path = ServicePath { deployment: deployment_name(app), service: service_name(service) };
        let attach = RunnerCommand::Attach { service: path, client: self.rng.chance(20), release: None };
        if let Some(Outcome::Attached { instance, .. }) = self.commit(&Command::Runner { by: runner, what: attach }) {
            self.note(format!("{runner} attaches {instance} of {app}/{service}"));
        }
    }

    fn detach(&mut self) {
        let Some(runner) = self.some_runner().filter(|runner| self.agents[runner].stream.is_some()) else { return };
        let instance = self.coordinator.state.instances_on(runner).map(|instance| instance.id).next();
        if let Some(instance) = instance {
            self.note(format!("{runner} detaches {instance}"));
            self.commit(&Command::Runner { by: runner, what: RunnerCommand::Detach { instance } });
        }
    }

    fn change_pace(&mut self) {
        let Some(runner) = self.some_runner() else { return };
        let pace = match self.rng.below(3) {
            0 => Pace::Never,
            1 => Pace::After(Duration::from_millis(10)),
            _ => Pace::After(Duration::from_millis(self.rng.below(8000))),
        };
        self.note(format!("{runner} applies {pace:?}"));
        self.hurry(runner, pace);
    }

    fn change_disk(&mut self) {
        let Some(runner) = self.some_runner() else { return };
        if let Some(agent) = self.agents.get_mut(&runner) {
            agent.disk_full = !agent.disk_full;
            let full = agent.disk_full;
            self.note(format!("the disk of {runner} is {}", if full { "full" } else { "free" }));
        }
    }

    fn remove(&mut self) {
        let Some(runner) = self.some_runner() else { return };
        let Some(name) = self.coordinator.state.runner(runner).map(|runner| runner.name.clone()) else { return };
        if self.order(AdminCommand::RemoveNode { name, force: true }).is_some() {
            self.forget(runner);
            self.enrol();
        }
    }

    /// All agents are well and connected; a change is then confirmed by all in time.
    pub(super) fn calm(&mut self) -> Result<(), Failure> {
        self.note("calm");
        for runner in self.agents.keys().copied().collect::<Vec<_>>() {
            if let Some(agent) = self.agents.get_mut(&runner) {
                agent.disk_full = false;
            }
            self.hurry(runner, Pace::After(Duration::from_millis(10)));
        }
        // Those who come back late are back by then.
        self.run_for(Duration::from_secs(720))?;
        assert!(self.agents.len() == RUNNERS, "a removed runner is replaced");
        for app in 0..DEPLOYMENTS as usize {
            let (caller, add) = (self.some_deployment(), self.rng.chance(50));
            self.change_trust(app, caller, add);
            let failed = self.failed;
            self.wait(app, self.coordinator.state.revision(), Duration::from_secs(10));
            self.run_for(Duration::from_secs(11))?;
            if self.failed > failed {
                return Err(self.failure(format!("all is calm, and a wait for {app} failed")));
            }
        }
        Ok(())
    }

    /// What the operators have asked for at `from` or later.
    pub(super) fn references_since(&self, from: Revision) -> impl Iterator<Item = &Reference> {
        let before = self.history.range(..=from).next_back();
        before.into_iter().chain(self.history.range(from.next()..)).map(|(_, reference)| reference)
    }
}

fn service_name(number: usize) -> ServiceName {
    format!("service{number}").parse().expect("a name")
}
