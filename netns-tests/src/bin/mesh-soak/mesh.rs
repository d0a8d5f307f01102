//! The mesh: its instances, and the endless traffic.

use mesh_netns_tests::{Coordinator, Crowd, Instance, Load, NamedServer, Pace, Runner, Stack, Transfer, World};

pub(crate) const RUNNERS: usize = 5;

/// The runners whose agents are restarted and which are cut off. The others live all the time, so that their memory can
/// be watched.
pub(crate) const RESTARTED: usize = 3;

/// Where what never changes runs: the two instances of shop/db, the one of shop/web, the one of billing/api.
const DBS: [usize; 2] = [1, 3];
const WEB: usize = 4;
const API: usize = 3;

pub(crate) const PORT: u16 = 80;

/// Connections that idle, from each of the callers.
const IDLE: usize = 4;

/// An instance with a server in it.
pub(crate) struct Served {
    pub(crate) runner: usize,
    pub(crate) instance: Instance,
    pub(crate) server: NamedServer,
}

/// A transfer, and the runners that it depends on.
pub(crate) struct Long {
    pub(crate) between: [usize; 2],
    pub(crate) transfer: Transfer,
}

/// Everything that is there from beginning to end, and the instances that come and go.
pub(crate) struct Mesh {
    pub(crate) coordinator: Coordinator,
    pub(crate) runners: Vec<Runner>,
    /// One instance of shop/app on each runner.
    pub(crate) apps: Vec<Instance>,
    pub(crate) dbs: Vec<Served>,
    pub(crate) api: Served,
    /// Instances of shop/web; the first one stays.
    pub(crate) webs: Vec<Served>,
    pub(crate) long: std::sync::Arc<Vec<Long>>,
    pub(crate) idle: Vec<Crowd>,
    pub(crate) loads: Vec<Load>,
}

impl Mesh {
    pub(crate) fn make(world: &World) -> Self {
        let coordinator = world.coordinator(&[]);
        coordinator.apply("deployment = \"shop\"\n[services.app]\n[services.db]\n[services.web]\n").done();
        coordinator.apply("deployment = \"billing\"\n[services.api]\n").done();
        let stacks = [Stack::Dual, Stack::Dual, Stack::V6, Stack::Dual, Stack::Dual];
        let runner = |(number, stack): (usize, &Stack)| world.runner(&coordinator, &format!("r{}", number + 1), *stack);
        let runners: Vec<Runner> = stacks.iter().enumerate().map(runner).collect();
        let apps: Vec<Instance> = runners.iter().map(|runner| runner.attach("shop/app")).collect();
        let dbs: Vec<Served> = DBS.map(|runner| served(&runners, runner, "shop/db")).into();
        let api = served(&runners, API, "billing/api");
        let webs = vec![served(&runners, WEB, "shop/web")];

        let db = dbs[0].instance.service_address;
        let mut long = vec![];
        for (number, app) in apps.iter().enumerate() {
            let mut crowd = Crowd::gather(&app.namespace, db, PORT, 1);
            let at = crowd.members()[0].at.clone();
            let to = dbs.iter().find(|served| served.instance.id == at).expect("one of the two").runner;
            let transfers = crowd.transfer(Pace::Steady);
            long.extend(transfers.into_iter().map(|transfer| Long { between: [number, to], transfer }));
        }
        let idle = apps.iter().map(|app| Crowd::gather(&app.namespace, db, PORT, IDLE)).collect();
        // From runners that stay, so that a connect that fails has no excuse.
        let web = webs[0].instance.service_address;
        let loads = apps[RESTARTED..].iter().map(|app| Load::start(&app.namespace, web, PORT, 2)).collect();
        Self { coordinator, runners, apps, dbs, api, webs, long: long.into(), idle, loads }
    }

    /// The names and the processes of the programs under test that run.
    pub(crate) fn processes(&self) -> Vec<(String, u32)> {
        let runners = self.runners.iter().map(|runner| (runner.namespace().name().to_owned(), runner.pid()));
        runners.chain([("coordinator".to_owned(), self.coordinator.pid())]).collect()
    }

    /// One more instance of shop/web.
    pub(crate) fn scale_up(&mut self, runner: usize) {
        self.webs.push(served(&self.runners, runner, "shop/web"));
    }
}

fn served(runners: &[Runner], runner: usize, service: &str) -> Served {
    let instance = runners[runner].attach(service);
    let server = instance.serve_named(PORT);
    Served { runner, instance, server }
}
