use std::{collections::BTreeSet, sync::Arc};

use mesh_proto::{
    Abilities, Epoch, InstanceId, PublicKey, Range, Record, Revision, ServiceId,
    view::{Grant, Network},
};

use super::*;

const UNSEEN: Seen<'_> = Seen { report: None, relay: &|relay| relay.to_string() };
use crate::control::Trouble;
use mesh_proto::{DeploymentId, Ports};

/// Runner 1 (a, ours) and runner 2 (b). Deployment 1 is shop with db (10) on b and `my db` (11) nowhere; deployment 2 is api
/// with web (20) on a; deployment 3 is evil, of another team, with x (30); deployment 4 is far with y (40).
fn view(grants: &[(u64, u64, Ports)]) -> View {
    let network = Network { range: Range::DEFAULT, mtu: 1344 };
    let mut view = View::empty(Epoch([0; 16]), Revision(1), RunnerId(1), network);
    for (id, name) in [(1, "a"), (2, "b")] {
        let endpoints = vec![format!("192.0.2.{id}:51820").parse().unwrap()];
        let (name, provider) = (name.parse().unwrap(), "x".parse().unwrap());
        let runner = Runner {
            id: RunnerId(id),
            name,
            provider,
            public_key: PublicKey([0; 32]),
            endpoints,
            silent: false,
            can: Abilities::NONE,
            reflexive: vec![],
            relayed: vec![],
        };
        view.put(Record::Runner(Arc::new(runner)));
    }
    for (id, name, team) in [(1, "shop", "acme"), (2, "api", "acme"), (3, "evil", "evil"), (4, "far", "acme")] {
        let deployment = Deployment {
            id: DeploymentId(id),
            name: name.parse().unwrap(),
            team: team.parse().unwrap(),
            trust_source: None,
        };
        view.put(Record::Deployment(Arc::new(deployment)));
    }
    for (id, name) in [(10, "db"), (11, "my db"), (20, "web"), (30, "x"), (40, "y")] {
        let service = Service {
            id: ServiceId(id),
            deployment: DeploymentId(id / 10),
            name: name.parse().unwrap(),
            address: std::net::Ipv4Addr::from_bits(0x6470_0000 + u32::try_from(id).unwrap()),
            automatic_names: true,
        };
        view.put(Record::Service(Arc::new(service)));
    }
    for (service, runner) in [(10, 2), (20, 1)] {
        let instance = Instance {
            id: InstanceId(service),
            service: ServiceId(service),
            runner: RunnerId(runner),
            address: std::net::Ipv4Addr::from_bits(0x6470_0100 + u32::try_from(service).unwrap()),
            state: InstanceState::Live,
            release: None,
        };
        view.put(Record::Instance(Arc::new(instance)));
    }
    for (caller, callee, ports) in grants {
        let grant = Grant { caller: DeploymentId(*caller), callee: ServiceId(*callee), ports: ports.clone() };
        view.put(Record::Grant(Arc::new(grant)));
    }
    view
}

/// Which, whether it is in order, and why.
type Steps = Vec<(String, bool, String)>;

fn ask(view: &View, caller: &str, callee: &str, port: u16) -> Option<(bool, Steps)> {
    let question = Question { caller: caller.parse().unwrap(), callee: callee.parse().unwrap(), port };
    let Explanation { allowed, steps } = explain(view, UNSEEN, &question)?;
    Some((allowed, steps.into_iter().map(|step| (step.step, step.ok, step.detail)).collect()))
}

#[test]
fn an_allowed_connection_is_followed_to_the_other_runner() {
    let view = view(&[(2, 10, Ports::Only(BTreeSet::from([5432])))]);
    let (verdict, steps) = ask(&view, "api/web", "shop/db", 5432).unwrap();
    assert!(verdict);
    let names: Vec<&str> = steps.iter().map(|(step, ..)| step.as_str()).collect();
    assert_eq!(names, ["names", "rule", "runner", "path", "verdict"]);
    assert!(steps.iter().all(|(_, ok, _)| *ok), "{steps:?}");
    assert!(steps[1].2.contains("shop trusts api") && steps[1].2.contains("on port 5432"), "{steps:?}");
    assert!(steps[2].2.contains("runs on b") && steps[3].2.contains("192.0.2.2:51820"), "{steps:?}");
}

#[test]
fn a_removed_runner_and_a_copy_reach_no_other_runner_and_say_so() {
    let mut view = view(&[]);
    let trouble = Some(Arc::new(Trouble::Unknown(None)));
    let removed = Link { unknown: true, trouble: trouble.clone(), ..Link::default() };
    let copied = Link { unknown: true, copy: true, trouble, ..Link::default() };
    let question = Question { caller: "shop/my db".parse().unwrap(), callee: "shop/db".parse().unwrap(), port: 5432 };
    let said = explain(&view, UNSEEN, &question).unwrap();
    assert!(said.allowed);
    assert_eq!(cut_off(said.clone(), &question, &Link::default()), said);
    for (link, code) in [(removed, "unknown-runner"), (copied, "copied-runner")] {
        let cut = cut_off(said.clone(), &question, &link);
        let [.., path, verdict] = &cut.steps[..] else { panic!("{cut:?}") };
        assert!(!cut.allowed && cut.steps.len() == said.steps.len(), "{cut:?}");
        assert_eq!((&*path.step, path.ok, &*path.code), ("path", false, code));
        assert!(path.detail.contains("`mesh-node leave`"), "what to do: {}", path.detail);
        assert_eq!((&*verdict.step, verdict.ok, &*verdict.code), ("verdict", false, "cut-off"));
        // Within the runner nothing has changed.
        let here = Instance {
            id: InstanceId(12),
            service: ServiceId(10),
            runner: RunnerId(1),
            address: std::net::Ipv4Addr::new(100, 112, 1, 12),
            state: InstanceState::Live,
            release: None,
        };
        view.put(Record::Instance(Arc::new(here)));
        let within = explain(&view, UNSEEN, &question).unwrap();
        assert_eq!(cut_off(within.clone(), &question, &link), within);
    }
}

#[test]
fn a_path_counts_only_where_the_callers_packets_start_here() {
    let has_path = |steps: &Steps| steps.iter().any(|(step, ..)| step == "path");
    let mut view = view(&[]);
    assert!(has_path(&ask(&view, "shop/my db", "shop/db", 1).unwrap().1), "it may be attached here");
    let elsewhere = Instance {
        id: InstanceId(11),
        service: ServiceId(11),
        runner: RunnerId(2),
        address: std::net::Ipv4Addr::new(100, 112, 1, 11),
        state: InstanceState::Live,
        release: None,
    };
    view.put(Record::Instance(Arc::new(elsewhere)));
    assert!(!has_path(&ask(&view, "shop/my db", "shop/db", 1).unwrap().1));
}

#[test]
fn what_the_view_cannot_know_is_left_to_the_coordinator() {
    let view = view(&[]);
    assert!(ask(&view, "far/y", "shop/db", 1).is_none(), "rules between others are not in a view");
    assert!(ask(&view, "api/web", "shop/nothing", 1).is_none());
    assert!(ask(&view, "shop/db", "shop/my db", 1).is_some(), "one deployment needs no rule");
    assert!(ask(&view, "far/y", "api/web", 1).is_some(), "rules for what runs here are");
}
