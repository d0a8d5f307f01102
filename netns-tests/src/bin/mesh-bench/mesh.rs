//! mesh: a coordinator, two runners at the ends of the cable, an instance on each, and a second one on the first.

use std::{collections::BTreeMap, net::Ipv4Addr};

use mesh_netns_tests::{Coordinator, Instance, Namespace, Runner, Stack, World};
use serde_json::Value;

use crate::{contender::Way, known};

const SHOP: &str = "deployment = \"shop\"\n[services.app]\n[services.db]\n";

/// Two runners. They hear of each other from a coordinator behind the router, and meet on the cable.
pub(crate) struct Mesh {
    coordinator: Coordinator,
    runners: [Runner; 2],
    app: Instance,
    db: Instance,
}

impl Mesh {
    /// `lanes`: how many each runner has.
    pub(crate) fn make(world: &World, name: &str, mtu: u16, lanes: usize) -> Self {
        let coordinator = world.coordinator_named(&format!("{name}c"), &["--mtu", &mtu.to_string()]);
        coordinator.apply(SHOP).done();
        let mut runners = ["a", "b"].map(|end| world.machine(&format!("{name}{end}"), Stack::V4));
        World::cable(runners[0].namespace(), runners[1].namespace());
        let token = coordinator.token(&["--any", "--uses", "2"]);
        for (runner, end) in runners.iter_mut().zip(0..) {
            let (name, at) = (runner.namespace().name().to_owned(), format!("{}:51820", World::cable_end(end)));
            let lanes = lanes.to_string();
            // An agent of an earlier version, beside which this one is measured, knows no lanes.
            let lanes: &[&str] = if lanes == "1" { &[] } else { &["--lanes", &lanes] };
            let url = coordinator.url(false);
            let arguments = [url.as_str(), &token, "--name", &name, "--endpoint", &at];
            runner.start(&[&arguments, lanes].concat());
        }
        let (app, db) = (runners[0].attach("shop/app"), runners[1].attach("shop/db"));
        Self { coordinator, runners, app, db }
    }

    /// Has both agents know so many more runners and rules. They go on without their coordinator, which knows nothing of
    /// them.
    pub(crate) fn enlarge(&mut self, runners: usize, rules: usize) {
        self.coordinator.kill();
        for runner in &mut self.runners {
            runner.stop();
            known::enlarge(runner.state(), runners, rules);
            runner.start_alone(&[]);
            let status = runner.json(&["status"]);
            assert_eq!(status["peers"].as_array().map(Vec::len), Some(runners + 1), "it knows them all");
        }
    }
}

impl Way for Mesh {
    fn client(&self) -> &Namespace {
        &self.app.namespace
    }
    fn server(&self) -> &Namespace {
        &self.db.namespace
    }
    fn target(&self) -> Ipv4Addr {
        self.db.service_address
    }
    fn daemons(&self) -> Vec<u32> {
        self.runners.iter().map(Runner::pid).collect()
    }
    fn machines(&self) -> Vec<&Namespace> {
        self.runners.iter().map(Runner::namespace).collect()
    }
    fn drops(&self) -> BTreeMap<String, u64> {
        drops(&self.runners)
    }
    fn check(&self) -> Option<String> {
        let peer = self.runners[1].namespace().name();
        let endpoint = self.runners[0].peer(peer).and_then(|peer| Some(peer["endpoint"].as_str()?.to_owned()));
        let direct = endpoint.as_deref().is_some_and(|at| at.contains(&World::cable_end(1).to_string()));
        let lost = self.runners.iter().find_map(lost_offload);
        if direct { lost } else { Some(format!("it takes another way than the cable: {endpoint:?}")) }
    }
    fn version(&self) -> Option<(String, String)> {
        version(&self.runners[0])
    }
}

/// One runner with two instances.
pub(crate) struct Local {
    _coordinator: Coordinator,
    runner: Runner,
    app: Instance,
    db: Instance,
}

impl Local {
    pub(crate) fn make(world: &World, mtu: u16) -> Self {
        let coordinator = world.coordinator_named("lc", &["--mtu", &mtu.to_string()]);
        coordinator.apply(SHOP).done();
        let runner = world.runner(&coordinator, "la", Stack::V4);
        let (app, db) = (runner.attach("shop/app"), runner.attach("shop/db"));
        Self { _coordinator: coordinator, runner, app, db }
    }
}

impl Way for Local {
    fn client(&self) -> &Namespace {
        &self.app.namespace
    }
    fn server(&self) -> &Namespace {
        &self.db.namespace
    }
    fn target(&self) -> Ipv4Addr {
        self.db.service_address
    }
    fn daemons(&self) -> Vec<u32> {
        vec![self.runner.pid()]
    }
    fn machines(&self) -> Vec<&Namespace> {
        vec![self.runner.namespace()]
    }
    fn drops(&self) -> BTreeMap<String, u64> {
        drops(std::slice::from_ref(&self.runner))
    }
    fn check(&self) -> Option<String> {
        lost_offload(&self.runner)
    }
    fn version(&self) -> Option<(String, String)> {
        version(&self.runner)
    }
}

fn drops(runners: &[Runner]) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for runner in runners {
        let status = runner.json(&["status"]);
        for (reason, count) in status["drops"].as_object().into_iter().flatten() {
            *all.entry(reason.clone()).or_default() += count.as_u64().unwrap_or(0);
        }
    }
    all
}

fn lost_offload(runner: &Runner) -> Option<String> {
    let status = runner.json(&["status"]);
    let offloads = status["offloads"].as_object()?;
    offloads.iter().find_map(|(name, offload)| {
        let why = offload["why"].as_str();
        (offload["on"] != Value::Bool(true) || why.is_some()).then(|| format!("no {name}: {}", why.unwrap_or("off")))
    })
}

fn version(runner: &Runner) -> Option<(String, String)> {
    let said = runner.command(&["--version"]).stdout;
    Some(("mesh-node".to_owned(), said.trim().trim_start_matches("mesh-node").trim().to_owned()))
}
