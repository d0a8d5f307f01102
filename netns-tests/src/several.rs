//! Several coordinators on one etcd, with runners, and what may befall them.

mod client;
mod history;
/// The check of histories.
pub mod linear;
mod look;
mod nemesis;
mod rush;
mod streams;
mod takeover;
mod trial;
mod writers;

pub use self::{
    nemesis::Fault,
    trial::{Report, Toll, Trial},
};

use self::streams::Streams;
use crate::{Coordinator, Etcd, Faults, Runner, Stack, World, wait};

/// An etcd of three members, coordinators on it, and runners that know all of them.
pub struct Several<'a> {
    world: &'a World,
    /// The etcd.
    pub etcd: Etcd,
    /// The coordinators.
    pub coordinators: Vec<Coordinator>,
    /// Their wall clocks.
    clocks: Vec<Faults>,
    /// The runners.
    pub runners: Vec<Runner>,
}

impl<'a> Several<'a> {
    /// Starts all of them, with the deployment `shop`, whose services are `app` and `db`.
    ///
    /// # Panics
    /// If one doesn't start.
    #[must_use]
    pub fn start(world: &'a World, coordinators: usize, runners: usize) -> Self {
        let etcd = world.etcd(3);
        let names = (1..=coordinators).map(|number| format!("coord{number}"));
        let mut coordinators: Vec<_> =
            names.map(|name| world.coordinator_to_start(&name, &["--store", &etcd.store()])).collect();
        let clocks = coordinators.iter_mut().map(Faults::of_coordinator).collect();
        for (number, coordinator) in coordinators.iter_mut().enumerate() {
            if number > 0 {
                coordinator.command(&["keys", "import", "/run/keys"]).done();
            }
            coordinator.start();
            if number == 0 {
                coordinator.command(&["keys", "export", "/run/keys"]).done();
            }
        }
        coordinators[0].apply("deployment = \"shop\"\n[services.app]\n[services.db]\n").done();
        let token = coordinators[0].token(&["--any", "--uses", &runners.to_string()]);
        let urls: Vec<String> = coordinators.iter().map(|coordinator| coordinator.url(false)).collect();
        let runners = (1..=runners).map(|number| {
            let name = format!("r{number}");
            let mut runner = world.machine_of(&coordinators[0], &name, Stack::Dual);
            runner.start(&[&urls.join(","), &token, "--name", &name]);
            runner
        });
        let runners = runners.collect();
        Self { world, etcd, coordinators, clocks, runners }
    }

    /// Waits until every machine is well. Returns what coordinators that have ended by themselves said; they are started again.
    ///
    /// # Panics
    /// If one doesn't get well.
    #[must_use]
    pub fn wait_well(&mut self) -> Vec<String> {
        let mut ended = vec![];
        self.etcd.wait_healthy();
        for coordinator in &mut self.coordinators {
            if !coordinator.runs() {
                ended.push(format!("a coordinator has ended by itself:\n{}", coordinator.log()));
                coordinator.ended();
                coordinator.start();
            }
            let data = coordinator.data();
            wait::until_true("a coordinator to serve", || look::get(data, "services").is_some());
        }
        self.runners.iter_mut().for_each(Runner::wait_connected);
        ended
    }

    fn streams(&self) -> Vec<Streams> {
        self.runners.iter().map(|runner| Streams::of(&runner.log_path())).collect()
    }
}
